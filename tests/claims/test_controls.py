"""The rule finds nothing in labels that mean nothing, and finds what was planted; a rule that errs is seen to."""

import math

import numpy as np
import pytest

from lib.claims import controls
from lib.claims.controls import Shuffled, family_rate, form, null_run, positive_control
from lib.claims.evidence import sample_of
from lib.claims.verdict import CONTRADICTED, INCONCLUSIVE, SUPPORTED
from tests.claims.planted import claim, evidence, pair, table
from tests.claims.test_permuted import BETWEEN, CLAIMS, STARTS, there

FORMS = {
    "pair": "pair",
    "margin": "pair",
    "one arm": "one arm",
    "curves": "curves",
    "interaction": "interaction",
    "interaction of one": "interaction",
    "slope": "settings",
    "ranks": "settings",
    "across": "across cases",
    "across, two": "across cases",
}
FEW = {"times": 500, "resamples": 200, "flips": 399}


def error_of(share, times):
    return share + 3 * math.sqrt(share * (1 - share) / times)


def strong(n=40):
    """Effects that nobody would miss, as long as the labels mean something."""
    generator = np.random.default_rng(0)
    rising = {arm: 5 * level + generator.exponential(size=n) for arm, level in zip(STARTS, (1, 2, 3), strict=True)}
    values = pair(n, lift=3.0)
    psnr = {"a": values["b"], "b": values["b"], "a@eta=0.5": values["b"] + 5, "b@eta=0.5": values["b"] + 4}
    curves = {arm: (6.0 if arm[0] == "a" else 0.0) - column for arm, column in psnr.items()}
    gaps = ["far", "near"] * (n // 2)
    lifted = {"c": np.where(np.arange(n) % 2, 0.0, 4.0) + generator.normal(size=n)}
    tables = [
        table(curves | rising | lifted, gap=gaps), table(psnr, metric="psnr", gap=gaps),
        table({"c": lifted["c"] + generator.normal(size=n)}, metric="text", gap=gaps),
    ]  # fmt: skip
    claims = [
        claim(), claim(direction="lower"), claim(margin=1.0), claim(at_equal="psnr", along=["eta", "eta"]),
        claim(kind="trend", arms=STARTS), claim(arms=("c",), between=BETWEEN),
        claim(kind="trend", arms=("c",), across="text"), claim(arms=("a",), margin=0.0),
    ]  # fmt: skip
    return [sample_of(each, evidence(*tables)) for each in claims]


def test_shuffled_labels_support_nothing():
    """500 shufflings of each form: strong effects in the labels, at most 5 % in those that mean nothing."""
    found = null_run(strong(), **FEW)
    shares = np.array([each.supported for each in found])
    assert (shares <= error_of(0.05, 500)).all(), shares
    assert (shares > 0).all()  # the rule does err, at its rate
    assert shares.mean() < 0.05
    assert all(each.p.shape == (500,) and each.n == 40 for each in found)
    assert np.mean([each.contradicted for each in found]) > 0


def test_a_run_that_does_not_shuffle_is_seen(monkeypatch):
    monkeypatch.setattr(
        controls, "shuffled", lambda sample, times, _: (sample, np.repeat(sample.values[:, None], times, axis=1))
    )
    for each in null_run(strong(), times=3, resamples=100, flips=199):
        assert each.supported == (each.claim.test.direction == "higher")


def test_the_same_run_gives_the_same_numbers():
    samples = strong()[:2]
    first, second = (null_run(samples, times=20, resamples=50, flips=99) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.p, b.p) and np.array_equal(a.verdicts, b.verdicts)
    assert not np.array_equal(first[0].p, null_run(samples, times=20, resamples=50, flips=99, seed=1)[0].p)


@pytest.mark.parametrize("name", CLAIMS)
def test_forms(name):
    assert form(CLAIMS[name]) == FORMS[name]


@pytest.mark.parametrize("name", ["pair", "curves", "slope"])
def test_a_planted_shift_is_found(name):
    sample = sample_of(CLAIMS[name], there())
    assert positive_control(sample, tests=30, times=40, resamples=200) >= 0.8
    assert positive_control(sample, shift=0.0, times=40, resamples=200) <= error_of(0.05, 40)
    assert positive_control(sample, shift=-0.5, times=10, resamples=200) == 0.0


def test_a_planted_shift_goes_the_way_that_is_claimed():
    sample = sample_of(claim(direction="lower"), there())
    assert positive_control(sample, tests=30, times=20, resamples=200) >= 0.8
    assert positive_control(sample, shift=0.1, units=20, times=20, resamples=200) < 0.8  # too few to find so little


def test_the_family_is_judged_with_holm():
    verdicts = np.array([SUPPORTED, SUPPORTED, CONTRADICTED, INCONCLUSIVE], dtype=object)
    weak, strong = np.array([0.03, 0.03, 0.03, 0.5]), np.array([0.5, 0.01, 0.01, 0.5])
    one = Shuffled(claim("x-1"), 30, weak, verdicts)
    other = Shuffled(claim("x-2"), 30, strong, np.roll(verdicts, 3))
    explored = Shuffled(claim("x-3", confirmatory=False), 30, np.zeros(4), np.full(4, SUPPORTED, dtype=object))
    assert family_rate([one], 1) == 0.5
    assert family_rate([one], 2) == 0.0  # the other is 1 if it was not shuffled
    assert family_rate([one, other], 2) == 0.25  # .01 × 2 holds, and then .03 × 1
    assert family_rate([one, other, explored], 6) == 0.0
    assert family_rate([explored], 6) == 0.0

"""Many shufflings at once: each is judged as one by one, and each loses the effect and nothing else."""

import numpy as np
import pytest

from lib.claims.even import even_samples
from lib.claims.evidence import sample_of
from lib.claims.permuted import effects, p_values, shuffled
from lib.claims.verdict import estimate
from tests.claims.planted import claim, evidence, pair, table

STARTS = [f"a@start={s}" for s in (0.2, 0.6, 1.0)]
BETWEEN = {"column": "gap", "levels": ["far", "near"]}


def there(n=60):
    """Two arms with curves, three settings, a covariate and two levels; `n` cases."""
    generator = np.random.default_rng(1)
    values = pair(n, lift=0.3)
    rising = {arm: level + generator.exponential(size=n) for arm, level in zip(STARTS, (1, 2, 3), strict=True)}
    curves = values | {"a@eta=0.5": values["a"] + 1.5, "b@eta=0.5": values["b"] + 1.2}
    at = {"a": 20.0, "b": 21.0, "a@eta=0.5": 25.0, "b@eta=0.5": 27.0}
    psnr = {arm: mean + generator.normal(size=n) for arm, mean in at.items()}
    gaps = ["far" if i % 3 else "near" for i in range(n)]
    text = {"a": generator.normal(size=n) + values["a"]}
    return evidence(
        table(curves | rising, gap=gaps), table(psnr, metric="psnr", gap=gaps), table(text, metric="text", gap=gaps)
    )


CLAIMS = {
    "pair": claim(),
    "margin": claim(margin=-0.5),
    "one arm": claim(arms=("a",), margin=0.5),
    "curves": claim(at_equal="psnr", along=["eta", "eta"]),
    "interaction": claim(between=BETWEEN),
    "interaction of one": claim(arms=("a",), between=BETWEEN),
    "slope": claim(kind="trend", arms=STARTS),
    "ranks": claim(kind="trend", arms=STARTS, statistic="spearman"),
    "across": claim(kind="trend", arms=("a",), across="text"),
    "across, two": claim(kind="trend", arms=("a", "b"), across="text"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_many_at_once_are_judged_as_one_by_one(name):
    sample, values = shuffled(sample_of(CLAIMS[name], there()), 8, np.random.default_rng(0))
    p = p_values(sample, values, flips=4999, seed=0)
    for turn in range(8):
        one = type(sample)(sample.claim, values[:, turn], sample.strata, 0, 1, sample.points)
        wanted = estimate(one, resamples=20, flips=4999, seed=turn)
        assert p[turn] == pytest.approx(wanted.p, abs=4 * np.sqrt(0.25 / 4999) * 2**0.5)
        if "across" not in name:
            assert effects(sample, values)[0][turn] == pytest.approx(wanted.value, abs=1e-12)


@pytest.mark.parametrize("name", ["pair", "slope", "interaction", "curves"])
def test_few_units_are_flipped_in_all_ways(name):
    sample, values = shuffled(sample_of(CLAIMS[name], there(11)), 20, np.random.default_rng(0))
    p = p_values(sample, values, flips=99, seed=0)
    for turn in range(20):
        one = type(sample)(sample.claim, values[:, turn], sample.strata, 0, 1, sample.points)
        assert p[turn] == pytest.approx(estimate(one, resamples=20, seed=0).p, abs=1e-12)


def test_units_without_a_difference_say_nothing():
    sample, values = shuffled(
        sample_of(claim(), evidence(table({"a": np.ones(30), "b": np.ones(30)}))), 5, np.random.default_rng(0)
    )
    assert p_values(sample, values, flips=99, seed=0).tolist() == [1.0] * 5


@pytest.mark.parametrize("name", [name for name in CLAIMS if "across" not in name])
def test_shuffling_loses_the_effect(name):
    """Over 400 shufflings the mean effect is the margin, within the error of its mean."""
    sample, values = shuffled(sample_of(CLAIMS[name], there()), 400, np.random.default_rng(0))
    found, own = effects(sample, values)
    error = own.std(axis=0).mean() / np.sqrt(len(own) * 400)
    margin = sample.claim.test.margin or 0.0
    assert abs(found.mean() - margin) < 4 * error
    assert found.std() == pytest.approx(own.std(axis=0).mean() / np.sqrt(len(own)), rel=0.25)


@pytest.mark.parametrize("name", ["pair", "interaction", "interaction of one", "slope", "across"])
def test_shuffling_keeps_the_values(name):
    sample = sample_of(CLAIMS[name], there())
    same, values = shuffled(sample, 30, np.random.default_rng(0))
    assert same is sample
    assert np.array_equal(np.isnan(values), np.repeat(np.isnan(sample.values)[:, None], 30, axis=1))
    axis = None if name == "interaction of one" else 0 if name == "across" else 1
    for turn in range(30):
        kept = np.sort(values[:, turn], axis=axis)
        assert np.array_equal(kept, np.sort(sample.values, axis=axis), equal_nan=True)
    moved = (values != sample.values[:, None]) & ~np.isnan(values)
    assert 0.3 < moved.any(axis=2).mean() <= 1.0
    if name == "pair":
        assert 0.4 < moved.any(axis=2).mean() < 0.6
        assert (moved.all(axis=2) == moved.any(axis=2)).all()
    if name == "across":
        assert not moved[..., 0].any()


def test_a_margin_is_shuffled_about():
    """Differences of 1.0 about a margin of 0.25 become 1.0 or -0.5."""
    sample = sample_of(claim(margin=0.25), evidence(table({"a": np.full(40, 3.0), "b": np.full(40, 2.0)})))
    _, values = shuffled(sample, 10, np.random.default_rng(0))
    assert sorted(set((values[..., 0] - values[..., 1]).ravel().tolist())) == [-0.5, 1.0]


def test_one_arm_is_drawn_anew_about_its_margin():
    sample = sample_of(claim(arms=("a",), margin=5.0), evidence(table({"a": np.arange(10.0)})))
    _, values = shuffled(sample, 500, np.random.default_rng(0))
    assert set(values.ravel().tolist()) == {i + 0.5 for i in range(10)}
    assert values.mean() == pytest.approx(5.0, abs=0.15)


def test_curves_swap_whole_and_point_by_point_in_the_order_of_x():
    """b's settings run the other way: its weakest trades places with the weakest of a."""
    values = {"a": [1.0], "a@start=0.5": [2.0], "b": [4.0], "b@eta=0.5": [3.0]}
    psnr = {"a": [10.0], "a@start=0.5": [20.0], "b": [40.0], "b@eta=0.5": [30.0]}
    sample = sample_of(
        claim(at_equal="psnr", along=["start", "eta"]), evidence(table(values), table(psnr, metric="psnr"))
    )
    assert sample.values[0].tolist() == [10, 20, 1, 2, 40, 30, 4, 3]
    matched, many = shuffled(sample, 20, np.random.default_rng(0))
    assert matched.values[0].tolist() == [10, 20, 1, 2, 30, 40, 3, 4]
    assert {tuple(row) for row in many[0].tolist()} == {(10, 20, 1, 2, 30, 40, 3, 4), (30, 40, 3, 4, 10, 20, 1, 2)}


def test_the_longer_curve_is_thinned():
    values = {"a": [1.0], "a@start=0.2": [2.0], "a@start=0.5": [3.0], "b": [4.0], "b@start=0.2": [5.0]}
    there = evidence(table(values), table({arm: np.array(v) * 10 for arm, v in values.items()}, metric="psnr"))
    sample, many = shuffled(
        sample_of(claim(at_equal="psnr", along=["start", "start"]), there), 20, np.random.default_rng(0)
    )
    assert sample.points == (2, 2)
    assert {tuple(row) for row in many[0].tolist()} == {(10, 30, 1, 3, 40, 50, 4, 5), (40, 50, 4, 5, 10, 30, 1, 3)}


def test_samples_have_their_claims():
    samples = even_samples(list(CLAIMS.values())[:2], there())
    assert [sample.claim for sample in samples.values()] == [CLAIMS["margin"]]  # both are x-1: the later one

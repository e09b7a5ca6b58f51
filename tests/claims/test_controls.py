"""The rule finds nothing in labels that mean nothing, and finds what was planted."""

import math

import numpy as np

from lib.claims.controls import null_run, permuted, positive_control
from lib.claims.evidence import sample_of
from lib.claims.verdict import estimate
from tests.claims.planted import claim, evidence, pair, table


def error_of(share, times):
    return share + 3 * math.sqrt(share * (1 - share) / times)


def test_shuffled_labels_support_nothing():
    """500 shufflings of each: strong effects in the labels that were there, no more than 5 % in those that were not."""
    generator = np.random.default_rng(0)
    arms = [f"a@start={s}" for s in (0.2, 0.6, 1.0)]
    rising = {arm: level + generator.exponential(size=40) for arm, level in zip(arms, (1, 2, 3), strict=True)}
    there = evidence(table(pair(40) | rising), table(pair(40, seed=1), metric="gap"))
    claims = [claim(), claim(direction="lower"), claim(kind="trend", arms=arms), claim(margin=0.1)]
    shares = null_run([sample_of(each, there) for each in claims], times=500, resamples=200, flips=199)
    assert (shares[:3] <= error_of(0.05, 500)).all()
    assert (shares[:3] > 0).all()  # the rule does err, at its rate
    assert np.isnan(shares[3])


def test_a_planted_shift_is_found():
    values = np.column_stack(list(pair(200, lift=3.0).values()))
    for direction in ("higher", "lower"):
        found = positive_control(values, claim(direction=direction), times=60, resamples=200, flips=199)
        assert found >= 0.8
    assert positive_control(values, claim(), shift=0.0, times=60, resamples=200, flips=199) <= error_of(0.05, 60)


def test_shuffling_keeps_each_units_values_and_loses_the_effect():
    generator = np.random.default_rng(0)
    values = pair(200, lift=3.0)
    curves = values | {f"{arm}@start=0.5": 2 * column for arm, column in values.items()}
    gaps = ["far", "near"] * 100
    there = evidence(table(curves, gap=gaps), table(curves, metric="psnr", gap=gaps), table(pair(200), metric="text"))
    claims = {
        "pair": claim(),
        "curves": claim(at_equal="psnr", along=["start", "start"]),
        "levels": claim(between={"column": "gap", "levels": ["far", "near"]}),
    }
    for name, each in claims.items():
        sample = sample_of(each, there)
        shuffled = permuted(sample, generator)
        assert np.array_equal(np.sort(shuffled.values, axis=1), np.sort(sample.values, axis=1), equal_nan=True)
        moved = (shuffled.values != sample.values) & ~np.isnan(sample.values)
        assert 0.3 < moved.any(axis=1).mean() < 0.7
        assert moved.any(axis=1).sum() * (4 if name == "levels" else 1) >= moved.sum() / sample.values.shape[1]
    alike = estimate(permuted(sample_of(claims["pair"], there), generator), resamples=100, flips=99)
    assert abs(alike.value) < 1.0
    across = sample_of(claim(kind="trend", arms=("a",), across="text"), there)
    shuffled = permuted(across, generator)
    assert np.array_equal(shuffled.values[:, 0], across.values[:, 0])
    assert sorted(shuffled.values[:, 1]) == sorted(across.values[:, 1])


def test_curves_swap_whole():
    """x and y of a point stay together, and points keep their places along the curve."""
    values = {"a": [1.0, 1.0], "a@start=0.5": [2.0, 2.0], "b": [3.0, 3.0], "b@start=0.5": [4.0, 4.0]}
    there = evidence(table(values), table({arm: np.array(v) * 10 for arm, v in values.items()}, metric="psnr"))
    sample = sample_of(claim(at_equal="psnr", along=["start", "start"]), there)
    assert sample.values[0].tolist() == [10, 20, 1, 2, 30, 40, 3, 4]
    rows = {tuple(row) for seed in range(9) for row in permuted(sample, np.random.default_rng(seed)).values.tolist()}
    assert rows == {(10, 20, 1, 2, 30, 40, 3, 4), (30, 40, 3, 4, 10, 20, 1, 2)}


def test_the_longer_curve_is_thinned():
    values = {"a": [1.0], "a@start=0.2": [2.0], "a@start=0.5": [3.0], "b": [4.0], "b@start=0.2": [5.0]}
    there = evidence(table(values), table({arm: np.array(v) * 10 for arm, v in values.items()}, metric="psnr"))
    sample = sample_of(claim(at_equal="psnr", along=["start", "start"]), there)
    assert sample.points == (3, 2)
    rows = {tuple(row) for seed in range(9) for row in permuted(sample, np.random.default_rng(seed)).values.tolist()}
    assert rows == {(10, 30, 1, 3, 40, 50, 4, 5), (40, 50, 4, 5, 10, 30, 1, 3)}


def test_one_arm_has_levels_to_shuffle_or_nothing():
    there = evidence(table({"a": np.arange(40.0)}, gap=["far", "near"] * 20))
    between = {"column": "gap", "levels": ["far", "near"]}
    sample = sample_of(claim(arms=("a",), between=between), there)
    shuffled = permuted(sample, np.random.default_rng(0))
    assert np.array_equal(np.isnan(shuffled.values), np.isnan(sample.values))
    assert sorted(shuffled.values[~np.isnan(shuffled.values)]) == list(range(40))
    assert 5 < np.sum(shuffled.values[:, 0] % 2 == 1) < 15  # of 20 that were all even
    alone = sample_of(claim(arms=("a",), margin=1.0), there)
    assert permuted(alone, np.random.default_rng(0)) is None
    assert np.isnan(null_run([alone], times=2)).all()

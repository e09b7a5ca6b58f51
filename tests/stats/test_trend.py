"""Trends against scipy, row by row, and a simulation without one."""

import numpy as np
import pytest
from scipy import stats

from lib.core.errors import InputError
from lib.stats.trend import rank_slopes, slopes, spearman


def test_slopes_and_rank_slopes_are_scipys_row_by_row():
    generator = np.random.default_rng(0)
    levels = np.array([0.5, 0.95, 0.65, 0.8])
    values = np.round(generator.normal(size=(15, 4)) + 3 * levels, 0)  # rounded: ties
    wanted = [stats.linregress(levels, row).slope for row in values]
    assert slopes(values, levels) == pytest.approx(wanted)
    ranked = [stats.spearmanr(levels, row).statistic for row in values if np.ptp(row)]
    found = rank_slopes(values, levels)
    assert found[np.ptp(values, axis=1) > 0] == pytest.approx(ranked)
    assert rank_slopes([[1.0, 1, 1], [1, 2, 9], [1, np.nan, 2]], [1, 2, 3]) == pytest.approx(
        [0, 1, np.nan], nan_ok=True
    )
    assert np.isnan(slopes([[1.0, np.nan, 3.0]], [1, 2, 3])).all()


def test_a_slope_has_the_unit_of_value_per_level():
    assert slopes([[1.0, 3.0, 5.0]], [10, 20, 30]) == pytest.approx([0.2])


def test_spearman_is_scipys_with_its_bca():
    generator = np.random.default_rng(1)
    x = generator.normal(size=60)
    y = x + generator.normal(size=60)
    found = spearman(x, y, resamples=999, flips=999, seed=2)
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    options = {
        "paired": True,
        "method": "BCa",
        "n_resamples": 999,
        "vectorized": False,
        "rng": np.random.default_rng(2),
    }
    wanted = stats.bootstrap((x, y), lambda a, b: stats.spearmanr(a, b).statistic, **options).confidence_interval
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert found.p == 1 / 1000
    assert found == spearman([*x, np.nan], [*y, 1.0], resamples=999, flips=999, seed=2)
    assert found.low != spearman(x, y, resamples=999, flips=9, seed=3).low


def test_spearman_without_a_relation():
    """p <= .05 in 5 % of 200 samples without one, ties and skew included (3 standard errors: .046)."""
    generator = np.random.default_rng(0)
    pairs = [(np.round(generator.exponential(size=25)), generator.normal(size=25)) for _ in range(200)]
    wrong = np.mean([spearman(x, y, resamples=10, flips=199, seed=i).p <= 0.05 for i, (x, y) in enumerate(pairs)])
    assert wrong < 0.096


def test_what_has_no_correlation_has_no_number():
    for x, y in (([1.0] * 6, range(6)), ([1.0, 2, 3], [1.0, 2, 3])):
        found = spearman(x, y)
        assert np.isnan([found.value, found.low, found.high, found.p]).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: slopes([[1.0, 2.0]], [1.0, 1.0]),
        lambda: slopes([[1.0, 2.0]], [1.0, 2.0, 3.0]),
        lambda: rank_slopes([1.0, 2.0], [1.0, 2.0]),
        lambda: spearman([1.0, 2.0], [1.0]),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InputError):
        call()

"""The statistics against scipy, loops, simulations and cases with known answers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.core.errors import InputError
from lib.stats.bootstrap import (
    Interval,
    difference_at_equal,
    gap_between,
    mean_interval,
    paired_difference,
    per_case,
    summarise,
)


def skewed(n, seed=0):
    return np.random.default_rng(seed).exponential(size=n) ** 1.5


def ends(interval):
    return interval.value, interval.low, interval.high


@pytest.mark.parametrize("n", [12, 40, 300])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_one_stratum_is_scipys_bca(n, level):
    x = skewed(n)
    options = {"n_resamples": 999, "method": "BCa", "confidence_level": level, "rng": np.random.default_rng(7)}
    wanted = stats.bootstrap((x,), np.mean, vectorized=True, **options).confidence_interval
    found = mean_interval(x, level=level, resamples=999, seed=7)
    assert ends(found) == pytest.approx((x.mean(), wanted.low, wanted.high), abs=1e-9)
    assert found.n == n
    percentile = stats.bootstrap((x,), np.mean, **(options | {"method": "percentile", "rng": np.random.default_rng(7)}))
    assert found.low != pytest.approx(percentile.confidence_interval.low, abs=1e-6)  # BCa made a difference


def naive_stratified(x, labels, seed, resamples):
    """Weighted mean of stratum means, resampled and left out one by one."""
    strata = [x[labels == label] for label in dict.fromkeys(labels.tolist())]
    weights = [len(s) / len(x) for s in strata]

    def estimate(parts):
        return sum(w * np.mean(p) for w, p in zip(weights, parts, strict=True))

    generator = np.random.default_rng(seed)
    draws = [generator.integers(0, len(s), (resamples, len(s))) for s in strata]
    replicates = np.array([estimate([s[d[r]] for s, d in zip(strata, draws, strict=True)]) for r in range(resamples)])
    cubes = squares = 0
    for k, s in enumerate(strata):
        left = np.array([estimate([*strata[:k], np.delete(s, i), *strata[k + 1 :]]) for i in range(len(s))])
        influence = (len(s) - 1) * (left.mean() - left) / len(s)
        cubes, squares = cubes + (influence**3).sum(), squares + (influence**2).sum()
    a = cubes / squares**1.5 / 6
    z0 = stats.norm.ppf((replicates < estimate(strata)).mean())
    z = z0 + stats.norm.ppf([0.025, 0.975])
    return np.quantile(replicates, stats.norm.cdf(z0 + z / (1 - a * z)))


def test_strata_are_resampled_apart():
    labels = np.repeat(["style", "object", "colour"], [8, 30, 15])
    x = skewed(53) + np.repeat([0.0, 5.0, 20.0], [8, 30, 15])
    found = mean_interval(x, labels, resamples=500, seed=3)
    low, high = naive_stratified(x, labels, 3, 500)
    assert ends(found) == pytest.approx((x.mean(), low, high), abs=1e-9)
    ignored = mean_interval(x, resamples=500, seed=3)
    assert (found.high - found.low) < 0.5 * (ignored.high - ignored.low)


def test_coverage_is_what_it_says():
    """Skewed data, two strata: 95 % intervals hold the truth in 92 to 97 % of 400 samples."""
    generator, labels = np.random.default_rng(0), np.repeat([0, 1], [60, 40])
    truth = 0.6 * 1 + 0.4 * 5
    held = 0
    for seed in range(400):
        x = np.concatenate([generator.exponential(size=60), 3 + generator.exponential(2, size=40)])
        found = mean_interval(x, labels, resamples=500, seed=seed)
        held += found.low <= truth <= found.high
    assert 0.92 <= held / 400 <= 0.97


def test_seed_and_only_seed_moves_the_bounds():
    x = skewed(30)
    assert mean_interval(x, seed=1) == mean_interval(x, seed=1)
    assert mean_interval(x, seed=1).low != mean_interval(x, seed=2).low
    assert mean_interval(x, seed=1).value == mean_interval(x, seed=2).value
    np.random.seed(0)
    before = mean_interval(x)
    np.random.seed(1)
    assert mean_interval(x) == before


def test_pairing_removes_what_both_arms_share():
    generator = np.random.default_rng(0)
    hardness = 10 * generator.normal(size=100)
    a, b = hardness + 0.5 + 0.1 * generator.normal(size=100), hardness + 0.1 * generator.normal(size=100)
    found = paired_difference(a, b)
    assert found == mean_interval(a - b)
    assert 0.4 < found.low < 0.5 < found.high < 0.6
    other = paired_difference(b, a)
    assert ends(other) == pytest.approx((-found.value, -found.high, -found.low), abs=0.01)


def test_missing_values_go_pairwise_and_are_counted():
    a, b = skewed(20), skewed(20, seed=1)
    a[[2, 5]], b[[5, 9]] = np.nan, np.nan
    kept = ~np.isin(np.arange(20), [2, 5, 9])
    labels = np.array(["x", "y"] * 10)
    found = paired_difference(a, b, labels)
    assert found == paired_difference(a[kept], b[kept], labels[kept])
    assert found.n == 17


def test_constant_values_have_no_width_and_one_value_no_bounds():
    assert mean_interval([0.25] * 9) == Interval(0.25, 0.25, 0.25, 9)
    assert mean_interval([1.0, 1.0, 3.0, 3.0], ["a", "a", "b", "b"]) == Interval(2.0, 2.0, 2.0, 4)
    assert mean_interval([1.0, 1.0, 3.0, 3.0]).low < 2
    one, none = mean_interval([2.0, np.nan]), mean_interval([np.nan])
    assert (one.value, one.n, np.isnan([one.low, one.high]).all()) == (2.0, 1, True)
    assert (none.n, np.isnan(ends(none)).all()) == (0, True)


def test_strata_of_one_case_are_pooled_not_frozen():
    x = np.array([1.0, 2.0, 4.0, 8.0, 9.0, 5.0])
    alone = mean_interval(x, list("abcdef"))
    assert alone == mean_interval(x)
    assert alone.high > alone.low
    lone = mean_interval(x, list("aaabbz"))  # z joins b, the smallest
    assert lone == mean_interval(x, list("aaabbb"))


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_interval([[1.0, 2.0]]),
        lambda: mean_interval([1.0, np.inf]),
        lambda: mean_interval([1.0, 2.0], ["a"]),
        lambda: mean_interval([1.0, 2.0], level=95),
        lambda: mean_interval([1.0, 2.0], resamples=0),
        lambda: paired_difference([1.0, 2.0], [1.0]),
        lambda: difference_at_equal([[1, 2]], [[1, 2]], [[1, 2]], [[1, 2]]),
        lambda: difference_at_equal([[1], [2]], [[1], [2]], [[3], [4]], [[1], [2]]),
        lambda: difference_at_equal([[1], [2]], [[1]], [[3], [4]], [[1], [2]]),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InputError):
        call()


def curves(n=80, seed=0):
    """Two arms on one trade-off, accuracy falling with PSNR; `a` lies 0.07 above `b`, at other knobs."""
    generator = np.random.default_rng(seed)
    case = generator.normal(size=n)
    x_a = np.array([[14.0], [18.0], [23.0]]) + case
    x_b = np.array([[20.0], [16.0], [26.0], [12.0]]) + case
    y_a = 1.5 - x_a.mean(1, keepdims=True) / 20 + 0.07 + 0.1 * generator.normal(size=(3, n))
    y_b = 1.5 - x_b.mean(1, keepdims=True) / 20 + 0.1 * generator.normal(size=(4, n))
    return x_a, y_a, x_b, y_b


def test_curves_are_compared_at_equal_x():
    x_a, y_a, x_b, y_b = curves()
    found = difference_at_equal(x_a, y_a, x_b, y_b, grid=400)
    assert found.low < 0.07 < found.high
    assert found.high - found.low < 0.06
    assert found.n == 80
    at = np.linspace(x_a.mean(1)[0], x_a.mean(1)[2], 400)  # a's range lies inside b's
    order = np.argsort(x_b.mean(1))
    line_b = np.interp(at, x_b.mean(1)[order], y_b.mean(1)[order])
    wanted = np.mean(np.interp(at, x_a.mean(1), y_a.mean(1)) - line_b)
    assert found.value == pytest.approx(wanted, abs=1e-12)
    swapped = difference_at_equal(x_b, y_b, x_a, y_a, grid=400)
    assert swapped.value == pytest.approx(-found.value, abs=1e-12)


def test_many_curves_are_read_as_one_by_one():
    generator = np.random.default_rng(0)
    x_a, y_a, x_b, y_b = (generator.normal(size=(50, knobs)) for knobs in (3, 3, 5, 5))
    for points in (x_a, y_a):
        points[:25, 2] = points[:25, 0]  # a setting twice, as a base arm is among its settings
    found = gap_between(x_a, y_a, x_b, y_b, grid=16)
    for row in range(50):
        low, high = max(x_a[row].min(), x_b[row].min()), min(x_a[row].max(), x_b[row].max())
        at = np.linspace(low, high, 16)
        lines = [
            np.interp(at, x[row][np.argsort(x[row])], y[row][np.argsort(x[row])]) for x, y in ((x_a, y_a), (x_b, y_b))
        ]
        wanted = np.mean(lines[0] - lines[1]) if low <= high else np.nan
        assert found[row] == pytest.approx(wanted, abs=1e-12, nan_ok=True)
    assert 0 < np.isnan(found).sum() < 50
    meeting = [np.array(row, dtype=float)[None] for row in ([0, 1, 2], [1, 2, 5], [2, 3, 4], [1, 2, 5])]
    assert gap_between(*meeting, grid=16).tolist() == [4.0]


def test_a_knob_that_only_moves_along_the_curve_makes_no_difference():
    """Mean accuracy at the knobs themselves differs a lot; at equal x it does not."""
    generator = np.random.default_rng(0)
    case = generator.normal(size=60)
    x_a, x_b = (np.array(knobs)[:, None] + case for knobs in ([10.0, 14.0, 18.0], [12.0, 16.0, 20.0]))
    y_a, y_b = 3 - x_a / 8, 3 - x_b / 8
    assert y_a.mean() - y_b.mean() > 0.2
    found = difference_at_equal(x_a, y_a, x_b, y_b)
    assert ends(found) == pytest.approx((0, 0, 0), abs=1e-9)


def test_curves_cover_the_truth_and_drop_missing_cases():
    held = 0
    for seed in range(60):
        found = difference_at_equal(*curves(n=40, seed=seed), resamples=300, grid=16)
        held += found.low <= 0.07 <= found.high
    assert 52 <= held <= 60
    x_a, y_a, x_b, y_b = curves()
    y_b[2, 5] = np.nan
    kept = np.arange(80) != 5
    found = difference_at_equal(x_a, y_a, x_b, y_b, resamples=100)
    assert found == difference_at_equal(*(c[:, kept] for c in (x_a, y_a, x_b, y_b)), resamples=100)
    assert found.n == 79


def table():
    rows = []
    generator = np.random.default_rng(0)
    for arm, lift in (("a", 1.0), ("b", 0.0)):
        for case in range(12):
            for seed in range(3):
                value = lift + (10 if case % 2 else 0) + generator.normal()
                row = {"case": f"c{case:02}", "arm": arm, "seed": seed, "metric": "psnr", "value": value}
                rows.append(row | {"type": "odd" if case % 2 else "even"})
    rows.append({"case": "c00", "arm": "a", "seed": 0, "metric": "ssim", "value": 0.5, "type": "even"})
    return pd.DataFrame(rows)


def test_seeds_are_averaged_before_cases_are_counted():
    found = per_case(table(), "a", "psnr")
    assert list(found.index) == [f"c{case:02}" for case in range(12)]
    wanted = table().query("arm == 'a' and metric == 'psnr' and case == 'c03'")["value"].mean()
    assert found["c03"] == pytest.approx(wanted)


def test_the_summary_is_the_intervals_in_the_order_asked_for():
    rows, types = table(), {f"c{case:02}": case % 2 for case in range(12)}
    asked = ["b", "a"], ["psnr", "ssim"]
    found = summarise(rows, *asked, "type")
    assert list(found.columns) == ["arm", "metric", "value", "low", "high", "n"]
    assert found[["arm", "metric", "n"]].to_numpy().tolist() == [
        ["b", "psnr", 12],
        ["b", "ssim", 0],
        ["a", "psnr", 12],
        ["a", "ssim", 1],
    ]
    wanted = mean_interval(per_case(rows, "a", "psnr").to_numpy(), [0, 1] * 6)
    assert found.iloc[2][["value", "low", "high"]].tolist() == list(ends(wanted))
    shuffled = rows.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(found, summarise(shuffled, *asked, types))
    flat = summarise(rows, ["a"], ["psnr"])
    assert flat["high"][0] - flat["low"][0] > 2 * (found["high"][2] - found["low"][2])


def test_unknown_arms_metrics_and_doubled_rows_are_refused():
    with pytest.raises(InputError, match=r"arms.*'c'"):
        summarise(table(), ["a", "c"], ["psnr"])
    with pytest.raises(InputError, match=r"metrics.*'lpips'"):
        summarise(table(), ["a"], ["lpips"])
    with pytest.raises(InputError, match="twice"):
        per_case(pd.concat([table(), table()]), "a", "psnr")

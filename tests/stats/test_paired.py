"""Paired comparisons against loops, exact enumeration, scipy and simulations."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.core.errors import InputError
from lib.stats.bootstrap import difference_at_equal, mean_interval
from lib.stats.multiple import holm
from lib.stats.paired import (
    compare,
    compare_strata,
    curve_difference,
    equivalence_p,
    level_difference,
    place,
    pseudo_values,
    sign_flip,
)
from lib.stats.tidy import MIXED, units

FEW = {"resamples": 300, "flips": 499}


def scores(values, arms=("a", "b"), seeds=1, metric="clip", **columns):
    """Tidy rows of values [cases, arms], each seed's around them so that their mean is exact."""
    rows = []
    for case, row in enumerate(np.asarray(values, dtype=float)):
        for arm, value in zip(arms, row, strict=True):
            for seed in range(seeds):
                shift = seed - (seeds - 1) / 2
                more = {name: column[case] for name, column in columns.items()}
                rows.append({"case": f"c{case:03}", "arm": arm, "seed": seed, "metric": metric, "value": value + shift})
                rows[-1] |= more
    return pd.DataFrame(rows)


def skewed(n, seed=0, shift=0.3):
    generator = np.random.default_rng(seed)
    b = generator.normal(size=n)
    return np.column_stack([b + generator.exponential(size=n) - 1 + shift, b])


def test_a_comparison_is_the_interval_of_the_case_means():
    values = skewed(60)
    types = np.array(["style", "object", "colour"] * 20)
    found = compare(scores(values, seeds=3, type=types), "a", "b", "clip", stratum="type", seed=4)
    d = values[:, 0] - values[:, 1]
    wanted = mean_interval(d, types, resamples=10_000, seed=4)
    assert (found.value, found.low, found.high) == pytest.approx((wanted.value, wanted.low, wanted.high), abs=1e-9)
    assert (found.n, found.missing, found.seeds) == (60, 0, 3)
    assert found.standardised == pytest.approx(d.mean() / d.std(ddof=1))
    assert found.win == pytest.approx((d > 0).mean())


def test_one_stratum_is_scipys_paired_bca():
    values = skewed(40)
    options = {"paired": True, "method": "BCa", "n_resamples": 999, "rng": np.random.default_rng(7)}
    wanted = stats.bootstrap(tuple(values.T), lambda a, b, axis: np.mean(a - b, axis=axis), **options)
    found = compare(scores(values), "a", "b", "clip", resamples=999, flips=99, seed=7)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval), abs=1e-9)


def test_row_order_means_nothing_and_the_seed_little():
    table = scores(skewed(50), seeds=2)
    first = compare(table, "a", "b", "clip", **FEW)
    assert compare(table.sample(frac=1, random_state=1), "a", "b", "clip", **FEW) == first
    other = compare(table, "a", "b", "clip", **FEW, seed=1)
    assert (other.value, other.n) == (first.value, first.n)
    assert other.low != first.low
    assert other.p != first.p
    assert other.low == pytest.approx(first.low, abs=0.1)


def test_equal_differences_have_no_width_and_say_so():
    found = compare(scores([[3.0, 1.0]] * 12), "a", "b", "clip", **FEW)
    assert (found.value, found.low, found.high, found.degenerate) == (2.0, 2.0, 2.0, True)
    assert found.p == 2 / 2**12
    assert found.win == 1.0
    same = compare(scores([[0.1, 0.1], [0.7, 0.7], [0.3, 0.3]], seeds=3), "a", "b", "clip", **FEW)
    assert (same.low, same.high, same.p, same.win) == (0.0, 0.0, 1.0, 0.5)
    assert not compare(scores(skewed(9)), "a", "b", "clip", **FEW).degenerate


def test_rounding_is_no_difference():
    """0.1 + 0.2 + 0.3 in two orders: averages of equal values differ in the last bit, always in one direction."""
    table = scores([[0.2, 0.2]] * 30)
    table.loc[table["arm"] == "a", "value"] += 2.8e-17
    assert (table.loc[table["arm"] == "a", "value"] > 0.2).all()
    assert compare(table, "a", "b", "clip", **FEW).p == 1.0


def test_missing_values_are_counted_not_filled():
    table = scores(skewed(20))
    table.loc[[4, 11], "value"] = np.nan  # a of c002, b of c005
    table = table.drop(index=[15])  # b of c007
    found = compare(table, "a", "b", "clip", **FEW)
    assert (found.n, found.missing) == (17, 3)
    whole = ~table["case"].isin(["c002", "c005", "c007"])
    assert compare(table[whole], "a", "b", "clip", **FEW).low == found.low


def test_cases_of_one_picture_are_one_unit():
    generator = np.random.default_rng(0)
    per_image = np.repeat(generator.normal(size=20), 4)
    values = np.column_stack([per_image + 0.1 * generator.normal(size=80), np.zeros(80)])
    images = np.repeat([f"i{i:02}" for i in range(20)], 4)
    table = scores(values, image=images)
    found = compare(table, "a", "b", "clip", image="image", seed=3)
    means = values[:, 0].reshape(20, 4).mean(axis=1)
    wanted = mean_interval(means, resamples=10_000, seed=3)
    assert (found.low, found.high, found.n) == (pytest.approx(wanted.low), pytest.approx(wanted.high), 20)
    alone = compare(table, "a", "b", "clip", **FEW)
    assert (found.high - found.low) > 1.5 * (alone.high - alone.low)  # 80 cases know no more than 20 pictures


def test_a_picture_of_two_strata_is_of_the_mixed_one():
    table = scores(skewed(4), image=["x", "x", "y", "y"], type=["s", "t", "s", "s"])
    kept = units(table, [("a", "clip")], stratum="type", image="image")
    assert (kept.names, kept.strata, kept.cases) == (["x", "y"], [MIXED, "s"], 4)


@pytest.mark.parametrize("n", [1, 5, 12])
def test_sign_flip_is_exact_for_few(n):
    d = np.random.default_rng(n).normal(0.4, size=n)
    sums = [abs(np.dot(signs, d)) for signs in product([-1, 1], repeat=n)]
    assert sign_flip(d) == pytest.approx(np.mean(np.array(sums) >= abs(d.sum()) - 1e-9))
    assert sign_flip([*d, 0.0, 0.0, np.nan]) == sign_flip(d)


def test_sign_flip_by_chance_agrees_with_scipy_and_the_exact_one():
    d = np.random.default_rng(0).normal(0.35, size=40)
    wanted = stats.permutation_test((d,), np.sum, permutation_type="samples", n_resamples=9999, rng=1).pvalue
    assert sign_flip(d) == pytest.approx(wanted, abs=0.01)
    assert sign_flip(d, seed=3) == sign_flip(d, seed=3) != sign_flip(d, seed=4)
    assert sign_flip(d + 5, flips=999) == 1 / 1000
    assert np.isnan(sign_flip([np.nan]))


def test_sign_flip_errs_as_often_as_it_says():
    """800 samples without an effect, symmetric with heavy tails: p <= .05 in 5 % of them (4 standard errors: .031)."""
    generator = np.random.default_rng(0)
    wrong = np.mean([sign_flip(generator.standard_t(3, size=30), flips=199, seed=i) <= 0.05 for i in range(800)])
    assert 0.02 < wrong < 0.081


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.4, 0.9]).tolist() == pytest.approx([1, 1, 1])
    assert holm([0.01, np.nan]).tolist() == pytest.approx([0.02, 1.0])
    assert holm([]).tolist() == []
    with pytest.raises(InputError):
        holm([0.1, 1.2])


def test_interaction_is_the_difference_of_the_leads():
    generator = np.random.default_rng(1)
    gap = np.array(["far"] * 30 + ["near"] * 50 + ["middle"] * 10)
    values = generator.normal(size=(90, 2)) * 0.2
    values[:30, 0] += 1.0
    values[30:80, 0] += 0.25
    table = scores(values, gap=gap)
    found = compare_strata(table, "a", "b", "clip", column="gap", levels=["far", "near"], **FEW)
    d = values[:, 0] - values[:, 1]
    assert found.value == pytest.approx(d[:30].mean() - d[30:80].mean())
    assert found.low < 0.75 < found.high
    assert (found.n, found.p) == (80, 1 / 500)
    spread = np.sqrt(d[:30].var(ddof=1) / 30 + d[30:80].var(ddof=1) / 50)
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    back = compare_strata(table, "a", "b", "clip", column="gap", levels=["near", "far"], **FEW)
    assert back.value == pytest.approx(-found.value)
    one = compare_strata(table, "a", None, "clip", column="gap", levels=["far", "near"], **FEW)
    assert one.value == pytest.approx(values[:30, 0].mean() - values[30:80, 0].mean())


def test_interaction_within_pictures():
    """Each picture has both levels: its own level cancels."""
    generator = np.random.default_rng(2)
    pictures = 10 * generator.normal(size=25)
    values = np.column_stack([np.repeat(pictures, 2) + np.tile([1.0, 0.0], 25) + 0.1 * generator.normal(size=50)] * 2)
    values[:, 1] = 0
    table = scores(values, gap=["far", "near"] * 25, image=np.repeat(np.arange(25), 2).astype(str))
    found = compare_strata(table, "a", "b", "clip", column="gap", levels=["far", "near"], image="image", **FEW)
    assert (found.n, found.p) == (25, 1 / 500)
    assert 0.9 < found.low < 1 < found.high < 1.1


def test_interaction_errs_as_often_as_it_says():
    """400 skewed samples without one, the levels of unequal size (3 standard errors: .033)."""
    wrong = 0
    for seed in range(400):
        values = np.random.default_rng(seed).exponential(size=(50, 2))
        values[:20, 1] = values[20:, 0] = np.nan
        wrong += level_difference(values, resamples=20, flips=199).p <= 0.05
    assert wrong / 400 < 0.083


def test_curves_have_the_bootstraps_interval_and_a_p():
    generator = np.random.default_rng(0)
    case = generator.normal(size=40)
    x = np.array([[14.0], [18.0], [23.0]]) + case
    y = 1.5 - x.mean(1, keepdims=True) / 20 + 0.1 * generator.normal(size=(3, 40))
    other = y - 0.07 + 0.05 * generator.normal(size=(3, 40))
    found = curve_difference(x, y, x, other, resamples=300, flips=499)
    wanted = difference_at_equal(x, y, x, other, resamples=300)
    assert (found.value, found.low, found.high) == pytest.approx((wanted.value, wanted.low, wanted.high))
    assert found.p == 1 / 500
    assert curve_difference(x, y, x, y, resamples=50, flips=99).p == 1.0
    apart = curve_difference(x, y, x + 100, y, resamples=50, flips=99)
    assert np.isnan([apart.value, apart.low, apart.p]).all()


def test_pseudo_values_of_a_mean_are_the_values():
    x = np.random.default_rng(0).normal(size=(12, 1))
    assert pseudo_values(x, lambda means: means[..., 0]) == pytest.approx(x[:, 0])
    squared = pseudo_values(x, lambda means: means[..., 0] ** 2)
    without = [np.delete(x[:, 0], i).mean() ** 2 for i in range(12)]
    assert squared == pytest.approx(12 * x.mean() ** 2 - 11 * np.array(without))


def test_equivalence():
    d = np.random.default_rng(0).normal(0.01, 0.1, size=100)
    lower = stats.ttest_1samp(d, -0.05, alternative="greater").pvalue
    upper = stats.ttest_1samp(d, 0.05, alternative="less").pvalue
    assert equivalence_p(d, 0.05) == pytest.approx(max(lower, upper))
    assert equivalence_p(d, 0.001) > 0.05
    assert (equivalence_p([0.1] * 5, 0.2), equivalence_p([0.3] * 5, 0.2)) == (0.0, 1.0)
    assert [place(-0.1, 0.2, 0.3), place(0.3, 0.9, 0.3), place(-0.9, -0.31, 0.3)] == ["inside", "outside", "outside"]
    assert [place(0.2, 0.4, 0.3), place(-0.4, 0.4, 0.3), place(np.nan, np.nan, 0.3)] == ["across"] * 3
    with pytest.raises(InputError):
        equivalence_p(d, 0.0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="seed"), "no column seed"),
        (lambda t: t.drop(columns=["value", "arm"]), "no column arm, value"),
        (lambda t: pd.concat([t, t.iloc[[3]]]), "1 rows twice, first c001, b, 0, clip"),
        (lambda t: t.assign(arm="a"), "twice"),
        (lambda t: t.assign(value="high"), "column value"),
        (lambda t: t.assign(value=np.inf), "infinite"),
        (lambda t: t.assign(case=[None, *t["case"][1:]]), "column case: found empty cells"),
        (lambda t: t[t["arm"] != "b"], r"arm: found 'b'; expected one of \['a'\]"),
        (lambda t: t.assign(metric="dino"), r"metric of arm a: found 'clip'; expected one of \['dino'\]"),
        (lambda t: t.assign(case=t["case"] + t["arm"]), "none in common"),
        (lambda t: t.assign(type=np.arange(len(t))), "two of them"),
        (lambda t: t.drop(columns="type"), "no column type"),
    ],
)
def test_bad_tables_are_refused_in_one_line(spoil, message):
    table = scores(skewed(6), type=["s", "t"] * 3)
    with pytest.raises(InputError, match=message) as refused:
        compare(spoil(table), "a", "b", "clip", stratum="type", **FEW)
    assert "\n" not in str(refused.value)


def test_unknown_levels_are_refused():
    table = scores(skewed(6), gap=["far", "near"] * 3)
    with pytest.raises(InputError, match="'middle'"):
        compare_strata(table, "a", "b", "clip", column="gap", levels=["far", "middle"])
    with pytest.raises(InputError, match="two different"):
        compare_strata(table, "a", "b", "clip", column="gap", levels=["far", "far"])

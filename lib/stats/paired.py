"""Two arms on the same cases: the difference with its interval, and whether it could be chance.

Intervals are stratified BCa bootstraps (lib/stats/bootstrap.py); p values come from flipping signs, which needs no
distribution: if the arms' labels meant nothing, each unit's difference would as soon have had the other sign.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from lib.core.errors import InputError
from lib.stats.bootstrap import Array, Interval, gap_between, interval_of, mean_interval
from lib.stats.tidy import check_table, differences, units

EXACT = 14  # up to so many units that differ, all 2^n sign patterns are looked at
FLIPS = 9999
CHUNK = 4_000_000  # signs held at once
GRID = 64  # points of the common range at which two curves are compared


@dataclass(frozen=True)
class Difference:
    """A difference over `n` units with its interval, a two-sided p, and what was counted.

    `standardised` is the mean over the standard deviation of the differences, `win` the share of units on which `a` is
    higher (ties half); both are NaN where a difference is none of per-unit differences.
    """

    value: float
    low: float
    high: float
    p: float
    n: int
    missing: int = 0
    seeds: int = 1
    standardised: float = np.nan
    win: float = np.nan

    @property
    def degenerate(self) -> bool:
        """True if there was nothing to resample: all units differ by the same amount, and the interval has no width."""
        return self.low == self.high


def sign_flip(values: ArrayLike, *, flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p of "these differences [n] are as often of either sign", by the absolute sum under flipped signs.

    Exact (all patterns) for up to EXACT nonzero values, else Monte Carlo with (1 + hits) / (1 + flips). Zeros keep
    their sign and change nothing; NaN are dropped. NaN without values.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan
    values = values[values != 0]
    n, observed = len(values), abs(values.sum()) * (1 - 1e-12)  # ties up to rounding count as hits
    if n <= EXACT:
        signs = 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) - 1
        return float(np.mean(np.abs(signs @ values) >= observed))
    generator, hits = np.random.default_rng(seed), 0
    rows = max(1, CHUNK // n)
    for start in range(0, flips, rows):
        take = generator.integers(0, 2, (min(rows, flips - start), n), dtype=np.int8)
        # signs ±1 are 2 take - 1
        hits += int(np.sum(np.abs(2 * (take @ values) - values.sum()) >= observed))
    return (1 + hits) / (1 + flips)


def difference_of(
    values: Array, strata: Sequence[Hashable] | None = None, *, null: float = 0.0, level: float = 0.95,
    resamples: int = 10_000, flips: int = FLIPS, seed: int = 0, missing: int = 0, seeds: int = 1,
) -> Difference:  # fmt: skip
    """The mean of per-unit differences [n] as a Difference; p is of "the mean is `null`"."""
    found = mean_interval(values, strata, level=level, resamples=resamples, seed=seed)
    spread = np.std(values, ddof=1) if len(values) > 1 else np.nan
    return Difference(
        found.value, found.low, found.high, sign_flip(values - null, flips=flips, seed=seed), found.n, missing, seeds,
        standardised=float(found.value / spread) if spread > 0 else np.nan,
        win=float(np.mean(values > 0) + 0.5 * np.mean(values == 0)) if len(values) else np.nan,
    )  # fmt: skip


def compare(
    table: pd.DataFrame, a: str, b: str, metric: str, *, stratum: str | None = None, image: str | None = None,
    level: float = 0.95, resamples: int = 10_000, flips: int = FLIPS, seed: int = 0,
) -> Difference:  # fmt: skip
    """Arm `a` minus arm `b` in a metric of a tidy table, paired by case (by image if that column is named)."""
    kept = units(table, [(a, metric), (b, metric)], stratum=stratum, image=image)
    return difference_of(
        differences(*kept.values.T), kept.strata, level=level, resamples=resamples, flips=flips, seed=seed,
        missing=kept.missing, seeds=kept.seeds,
    )  # fmt: skip


def compare_strata(
    table: pd.DataFrame, a: str, b: str | None, metric: str, *, column: str, levels: Sequence[Hashable],
    image: str | None = None, level: float = 0.95, resamples: int = 10_000, flips: int = FLIPS, seed: int = 0,
) -> Difference:  # fmt: skip
    """The interaction: `a - b` where `column` is the first of the two levels, minus `a - b` where it is the second.

    Without `b` it is the value of `a` itself that is compared. Units with cases of both levels (images) are resampled
    whole. InputError for a level that no case has.
    """
    check_table(table, [column])
    if len(set(levels)) != 2:
        raise InputError(f"levels of {column}", found=f"{list(levels)}", expected="two different ones")
    sides, missing, seeds = [], 0, []
    for name in levels:
        rows = table[table[column] == name]
        if rows.empty:
            there = sorted(map(str, set(table[column])))
            raise InputError(f"level of {column}", found=repr(name), expected=f"two of {there}")
        kept = units(rows, [(arm, metric) for arm in (a, b) if arm is not None], image=image)
        column_of = kept.values[:, 0] if b is None else differences(*kept.values.T)
        sides.append(pd.Series(column_of, index=kept.names))
        missing, seeds = missing + kept.missing, [*seeds, kept.seeds]
    both = pd.concat(sides, axis=1)
    return level_difference(
        both.to_numpy(), level=level, resamples=resamples, flips=flips, seed=seed, missing=missing, seeds=min(seeds)
    )


def level_difference(
    values: Array, *, null: float = 0.0, level: float = 0.95, resamples: int = 10_000, flips: int = FLIPS,
    seed: int = 0, missing: int = 0, seeds: int = 1,
) -> Difference:  # fmt: skip
    """Mean of the first column minus mean of the second of values [units, 2], NaN where a unit has none.

    The units of each level (and those of both) are strata, so resampling keeps their numbers.
    """
    there = ~np.isnan(values)
    if not there.any(axis=0).all():
        return Difference(np.nan, np.nan, np.nan, np.nan, int(there.any(axis=1).sum()), missing, seeds)
    kept = there.any(axis=1)
    values, there = values[kept], there[kept]
    columns = np.column_stack([np.where(there, values, 0.0), there])

    def gap(means: Array) -> Array:
        first, second, of_first, of_second = np.moveaxis(means, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return first / of_first - second / of_second

    strata = [tuple(row) for row in there.tolist()]
    return _of_statistic(columns, gap, strata, null, level, resamples, flips, seed, missing, seeds)


def curve_difference(
    x_a: Array, y_a: Array, x_b: Array, y_b: Array, strata: Sequence[Hashable] | None = None, *, null: float = 0.0,
    level: float = 0.95, resamples: int = 10_000, flips: int = FLIPS, seed: int = 0, missing: int = 0, seeds: int = 1,
) -> Difference:  # fmt: skip
    """`difference_at_equal` (curve a above curve b at equal mean x; all [knobs, cases]) with a p value.

    NaN bounds and p if the curves share no range of x. The p value flips the signs of the jackknife's pseudo-values.
    """
    cuts = np.cumsum([len(x_a), len(y_a), len(x_b)])

    def gap(means: Array) -> Array:
        return gap_between(*np.split(means, cuts, axis=-1), grid=GRID)

    columns = np.concatenate([x_a, y_a, x_b, y_b]).T
    return _of_statistic(columns, gap, strata, null, level, resamples, flips, seed, missing, seeds)


def pseudo_values(columns: Array, statistic: Callable[[Array], Array]) -> Array:
    """Jackknife pseudo-values [n] of a function of the column means: n theta - (n - 1) theta without unit i.

    Their mean is theta up to O(1/n) and their spread is its standard error's (Tukey 1958); of a mean, they are the
    values themselves.
    """
    n, mean = len(columns), columns.mean(axis=0)
    without = statistic((n * mean - columns) / (n - 1))
    return n * statistic(mean) - (n - 1) * without


def equivalence_p(values: ArrayLike, margin: float) -> float:
    """Two one-sided tests (Schuirmann 1987) of "the mean of these differences [n] lies in (-margin, margin)".

    The larger of the two one-sided p values of Student's t test. In the ledger the interval decides, and this p goes
    beside it. 0 or 1 where all differences are equal.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if margin <= 0:
        raise InputError("margin", found=margin, expected="a positive number")
    if len(values) < 2:
        return np.nan
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    if error <= 1e-12 * abs(mean):
        return float(abs(mean) >= margin)
    return float(max(stdtr(len(values) - 1, gap / error) for gap in (-(mean + margin), mean - margin)))


def place(low: float, high: float, margin: float) -> str:
    """Where an interval lies: "inside" (-margin, margin), "outside" of it, or "across" its edge (NaN bounds too)."""
    if -margin < low and high < margin:
        return "inside"
    return "outside" if low >= margin or high <= -margin else "across"


def _of_statistic(
    columns: Array, statistic: Callable[[Array], Array], strata: Sequence[Hashable] | None, null: float, level: float,
    resamples: int, flips: int, seed: int, missing: int, seeds: int,
) -> Difference:  # fmt: skip
    found: Interval = interval_of(columns, statistic, strata, level=level, resamples=resamples, seed=seed)
    kept: NDArray[np.float64] = columns[~np.isnan(columns).any(axis=1)]
    p = np.nan
    if found.n > 1:
        values = pseudo_values(kept, statistic)
        p = np.nan if np.isnan(found.value) else sign_flip(values - null, flips=flips, seed=seed)
    return Difference(found.value, found.low, found.high, p, found.n, missing, seeds)

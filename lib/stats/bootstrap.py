"""Stratified BCa bootstrap over cases (Efron 1987; Davison & Hinkley 1997, section 5.4 for strata).

The unit is the case: average the seeds of a case first (`per_case` does). Three rules hold everywhere:
- Missing values (NaN) are dropped, pairwise when two arms are compared, and `n` says how many cases are left.
- Values that are constant within every stratum give an interval of zero width: there is no spread to resample.
  With fewer than two cases nothing is known of the spread, and the bounds are NaN.
- A stratum of a single case has no spread of its own either and would shorten the interval silently. Such strata are
  pooled with each other; a lone one joins the smallest other stratum.
With one stratum the intervals equal those of `scipy.stats.bootstrap(method="BCa")` for the same generator.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from lib.core.errors import InputError

Array = NDArray[np.float64]
Strata = Sequence[Hashable] | None


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence bounds, over `n` cases."""

    value: float
    low: float
    high: float
    n: int


def mean_interval(
    values: ArrayLike, strata: Strata = None, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean over cases [n] with its BCa interval; every case weighs the same, resampling stays within the strata."""
    column = _numbers(values, "values", ndim=1)
    return interval_of(
        column[:, None], lambda means: means[..., 0], strata, level=level, resamples=resamples, seed=seed
    )


def paired_difference(
    a: ArrayLike, b: ArrayLike, strata: Strata = None, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean of `a - b` over the same cases in the same order, both [n], with its BCa interval."""
    a, b = _numbers(a, "a", ndim=1), _numbers(b, "b", ndim=1)
    if a.shape != b.shape:
        raise InputError("paired values", found=f"{len(a)} and {len(b)}", expected="one value per case in both arms")
    return mean_interval(a - b, strata, level=level, resamples=resamples, seed=seed)


def difference_at_equal(
    x_a: ArrayLike,
    y_a: ArrayLike,
    x_b: ArrayLike,
    y_b: ArrayLike,
    strata: Strata = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    grid: int = 64,
) -> Interval:
    """How much higher curve `a` lies than curve `b` at equal x: mean y_a - mean y_b at equal mean x.

    All four are [knob values, n cases]; the arms may have different numbers of knob values but share the cases in
    order. Each arm gives a curve of (mean x, mean y), one point per knob value, joined by straight lines in the order
    of x; the difference is averaged over `grid` equidistant x of the range that both curves cover. Resampling cases
    moves the points, and with them the common range. Cases with a missing value anywhere are dropped.
    Raises InputError when the curves share no range of x.
    """
    arms = {"x_a": x_a, "y_a": y_a, "x_b": x_b, "y_b": y_b}
    x_a, y_a, x_b, y_b = (_numbers(values, name, ndim=2) for name, values in arms.items())
    if x_a.shape != y_a.shape or x_b.shape != y_b.shape or x_a.shape[1] != x_b.shape[1]:
        found = ", ".join(str(values.shape) for values in (x_a, y_a, x_b, y_b))
        raise InputError(
            "curves", found=f"shapes {found}", expected="[knobs, cases], x like y, the same cases in both arms"
        )
    if min(len(x_a), len(x_b)) < 2:
        raise InputError("curves", found=f"{len(x_a)} and {len(x_b)} knob values", expected="at least 2 in each arm")
    cuts = np.cumsum([len(x_a), len(y_a), len(x_b)])

    def gap(means: Array) -> Array:
        return gap_between(*np.split(means, cuts, axis=-1), grid=grid)

    columns = np.concatenate([x_a, y_a, x_b, y_b]).T
    kept = columns[~np.isnan(columns).any(axis=1)]
    if len(kept) and np.isnan(gap(kept.mean(axis=0))):
        ranges = [f"[{x.mean(1).min():.4g}, {x.mean(1).max():.4g}]" for x in np.split(kept.T, cuts)[::2]]
        raise InputError("curves", found=f"mean x in {ranges[0]} and {ranges[1]}", expected="overlapping ranges of x")
    return interval_of(columns, gap, strata, level=level, resamples=resamples, seed=seed)


def per_case(table: pd.DataFrame, arm: str, metric: str) -> pd.Series:
    """One value per case (index: case, sorted), seeds averaged, from rows (case, arm, seed, metric, value)."""
    for column, wanted in (("arm", arm), ("metric", metric)):
        if not (table[column] == wanted).any():
            raise InputError(column, found=repr(wanted), expected=f"one of {sorted(set(table[column]))}")
    rows = table[(table["arm"] == arm) & (table["metric"] == metric)]
    if rows.duplicated(["case", "seed"]).any():
        raise InputError(f"rows of {arm!r}, {metric!r}", found="a case and seed twice", expected="one row each")
    return rows.groupby("case", sort=True)["value"].mean()


def summarise(
    table: pd.DataFrame,
    arms: Sequence[str],
    metrics: Sequence[str],
    strata: Mapping[Hashable, Hashable] | str | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean per arm and metric with its interval: columns arm, metric, value, low, high, n, in the order asked for.

    `table` holds rows (case, arm, seed, metric, value). `strata` is a column of the table, or a mapping from case to
    stratum. A metric that an arm was not scored on gives a row with n = 0 and NaN, never a silent gap.
    """
    for column, wanted in (("arm", arms), ("metric", metrics)):
        unknown = sorted(set(wanted) - set(table[column]))
        if unknown:
            raise InputError(f"{column}s", found=f"{unknown}", expected=f"some of {sorted(set(table[column]))}")
    if isinstance(strata, str):
        strata = dict(zip(table["case"], table[strata], strict=True))
    scored = set(zip(table["arm"], table["metric"], strict=True))
    rows = []
    for arm in arms:
        for metric in metrics:
            values = per_case(table, arm, metric) if (arm, metric) in scored else pd.Series(dtype=float)
            labels = None if strata is None else [strata[case] for case in values.index]
            found = mean_interval(values.to_numpy(), labels, level=level, resamples=resamples, seed=seed)
            rows.append({"arm": arm, "metric": metric, **vars(found)})
    return pd.DataFrame(rows, columns=["arm", "metric", "value", "low", "high", "n"])


def _numbers(values: ArrayLike, name: str, ndim: int) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim:
        raise InputError(name, found=f"shape {array.shape}", expected=f"{ndim} dimension{'s' * (ndim > 1)}")
    if np.isinf(array).any():
        raise InputError(
            name, found=f"{int(np.isinf(array).sum())} infinite", expected="finite numbers, or NaN for missing"
        )
    return array


def gap_between(x_a: Array, y_a: Array, x_b: Array, y_b: Array, *, grid: int) -> Array:
    """Mean of y_a - y_b over the common range of x of curves [..., knobs], [...]; NaN if there is none.

    Curves are straight lines between their points in the order of x, compared at `grid` places from end to end.
    """
    low = np.maximum(x_a.min(axis=-1), x_b.min(axis=-1))
    high = np.minimum(x_a.max(axis=-1), x_b.max(axis=-1))
    step = (high - low) / (grid - 1)
    gap = _mean_along(low, step, x_a, y_a, grid) - _mean_along(low, step, x_b, y_b, grid)
    return np.where(low > high, np.nan, gap)


def _mean_along(low: Array, step: Array, x: Array, y: Array, grid: int) -> Array:
    """Mean of a curve's y at low + j step, j < grid, without making these points: segment by segment, sums over j."""
    order = np.argsort(x, axis=-1, kind="stable")
    x, y = np.take_along_axis(x, order, axis=-1), np.take_along_axis(y, order, axis=-1)
    low, step = low[..., None], step[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        place = (x - low) / step
    flat = step == 0  # all points are at low
    over = np.where(flat, np.where(x < low, 0, grid), np.clip(np.floor(place) + 1, 0, grid))  # first point right of x
    reached = np.where(flat, np.where(x > low, grid, 0), np.clip(np.ceil(place), 0, grid))  # first not left of it
    first, last = over[..., :-1], np.maximum(reached[..., 1:], over[..., :-1])
    width, rise = np.diff(x, axis=-1), np.diff(y, axis=-1)
    climbed = (last - first) * (low - x[..., :-1] + step * (first + last - 1) / 2)
    share = climbed / np.where(width > 0, width, 1.0) + grid - last
    return y[..., 0] + (rise * share).sum(axis=-1) / grid


def draw_counts(groups: Sequence[NDArray[np.intp]], n: int, resamples: int, seed: int) -> Array:
    """How often each of n cases is drawn, [resamples, n], when the members of each group are drawn from that group.

    Not to be written to: a table asks for the same draws arm by arm, so the last few are kept.
    """
    return _drawn(tuple(tuple(group.tolist()) for group in groups), n, resamples, seed)


@lru_cache(maxsize=4)
def _drawn(groups: tuple[tuple[int, ...], ...], n: int, resamples: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    counts = np.zeros((resamples, n))
    for group in groups:
        drawn = generator.integers(0, len(group), (resamples, len(group)))
        cells = drawn + np.arange(resamples)[:, None] * len(group)
        counts[:, list(group)] = np.bincount(cells.ravel(), minlength=resamples * len(group)).reshape(resamples, -1)
    counts.flags.writeable = False
    return counts


def groups_of(strata: Strata, n: int, kept: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Positions (among the kept cases) of each stratum, in order of first appearance, single cases pooled."""
    if strata is None:
        return [np.arange(int(kept.sum()))]
    if len(strata) != n:
        raise InputError("strata", found=f"{len(strata)} labels", expected=f"one for each of {n} cases")
    members: dict[Hashable, list[int]] = {}
    for position, label in enumerate(label for label, keep in zip(strata, kept, strict=True) if keep):
        members.setdefault(label, []).append(position)
    groups = [group for group in members.values() if len(group) > 1]
    single = [group[0] for group in members.values() if len(group) == 1]
    if len(single) == 1 and groups:
        groups[min(range(len(groups)), key=lambda i: len(groups[i]))].extend(single)
    elif single:
        groups.append(single)
    return [np.array(group) for group in groups]


def interval_of(
    columns: Array, statistic: Callable[[Array], Array], strata: Strata, *, level: float, resamples: int, seed: int
) -> Interval:
    """BCa interval of a function of the column means; columns [n, K], statistic [..., K] -> [...]."""
    if not 0 < level < 1:
        raise InputError("level", found=level, expected="a number between 0 and 1")
    if resamples < 1:
        raise InputError("resamples", found=resamples, expected="at least 1")
    kept = ~np.isnan(columns).any(axis=1)
    groups = groups_of(strata, len(columns), kept)
    columns = columns[kept]
    n = len(columns)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = columns.sum(axis=0) / n
    value = float(statistic(mean))
    if n == 1:
        return Interval(value, np.nan, np.nan, 1)
    if all(np.ptp(columns[group], axis=0).max() == 0 for group in groups):
        return Interval(value, value, value, n)

    counts = draw_counts(groups, n, resamples, seed)
    replicates = statistic(counts @ columns / n)
    replicates = replicates[~np.isnan(replicates)]
    if len(replicates) < 0.95 * resamples:  # curves that often share no range of x: no honest interval
        return Interval(value, np.nan, np.nan, n)

    # Acceleration: leave one case out of its stratum, the weights of the strata kept.
    cubes = squares = 0.0
    for group in groups:
        rows, size = columns[group], len(group)
        without = mean + size / n * (rows.mean(axis=0) - rows) / (size - 1)
        left_out = statistic(without)
        influence = (size - 1) * (np.nanmean(left_out) - left_out) / size
        cubes += np.nansum(influence**3)
        squares += np.nansum(influence**2)
    acceleration = cubes / (6 * squares**1.5) if squares > 0 else 0.0

    # Bias: share of replicates under the estimate, ties half (up to rounding).
    close = 1e-12 * np.abs(replicates).max()
    below = np.mean(replicates < value - close) + 0.5 * np.mean(np.abs(replicates - value) <= close)
    bias = ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    tails = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(replicates, ndtr(bias + tails / (1 - acceleration * tails)))
    return Interval(value, float(low), float(high), n)

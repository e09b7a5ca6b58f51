"""Many shufflings of a claim's numbers at once: what the claim is of, unit by unit, and its p, for each of them.

Axes are units, shufflings, series: [n, T, K]. A shuffling leaves the claim true of nothing, its effect on the edge of
what is claimed (0, or the margin). The p is that of `lib.claims.verdict.estimate`; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import rankdata

from lib.claims.evidence import Sample
from lib.stats.bootstrap import Array, gap_between
from lib.stats.paired import EXACT, GRID, pseudo_values
from lib.stats.tidy import differences
from lib.stats.trend import rank_slopes, slopes

CHUNK = 50  # shufflings whose curves, or signs, are held at once
REFERENCE = 9999  # orders that a rank correlation is held against: they are the same for all shufflings


def shuffled(sample: Sample, times: int, generator: np.random.Generator) -> tuple[Sample, Array]:
    """The sample as it is shuffled (two curves get equally many points), and its values [n, times, K].

    Within each unit: the arms of a comparison (whole curves; at both levels alike), the settings of a trend. Over the
    units: the covariate of a trend across cases, the levels of an interaction of one arm. One arm against a margin has
    no label to shuffle: its units are drawn anew, moved so that their mean is the margin. Elsewhere a margin is taken
    off one side before and put back after, so that the effect is the margin.
    """
    test = sample.claim.test
    if test.at_equal:
        sample = _matched_curves(sample)
    offset = _offset(sample)
    values = np.repeat((sample.values - offset)[:, None, :], times, axis=1)
    if test.across:
        values[..., -1] = generator.permuted(values[..., -1], axis=0)
    elif sample.claim.kind == "trend":
        values = generator.permuted(values, axis=2)
    elif len(test.arms) == 1 and test.between:
        there = ~np.isnan(sample.values)
        by_turn = np.moveaxis(values, 1, 0)
        by_turn[:, there] = generator.permuted(by_turn[:, there], axis=1)  # a view: `values` follows
    elif len(test.arms) == 1:
        values = (sample.values - sample.values.mean())[generator.integers(0, len(values), (len(values), times))]
    else:
        order = np.arange(values.shape[2])
        order = np.roll(order, len(order) // 2) if test.at_equal else order.reshape(-1, 2)[:, ::-1].ravel()
        chosen = generator.integers(0, 2, (len(values), times, 1)).astype(bool)
        values = np.where(chosen, values[..., order], values)
    return sample, values + offset


def effects(sample: Sample, values: Array) -> tuple[Array, Array]:
    """The effect in each column of values [n, T, K], [T], and what each unit contributes to it, [n, T].

    Contributions are the units' own differences or slopes, or, of curves and interactions, the jackknife's
    pseudo-values; their spread over the root of n is the effect's standard error. Not for a trend across cases.
    """
    claim, test = sample.claim, sample.claim.test
    if test.at_equal:
        parts = [_curves(sample, values[:, start : start + CHUNK]) for start in range(0, values.shape[1], CHUNK)]
        found, own = zip(*parts, strict=True)
        return np.concatenate(found), np.concatenate(own, axis=1)
    if claim.kind == "trend":
        per_unit = slopes if test.statistic == "slope" else rank_slopes
        own = per_unit(values.reshape(-1, values.shape[2]), test.series).reshape(values.shape[:2])
    elif test.between:
        return _levels(*[_of_arms(half) for half in np.split(values, 2, axis=2)])
    else:
        own = _of_arms(values)
    return own.mean(axis=0), own


def p_values(sample: Sample, values: Array, *, flips: int, seed: int) -> Array:
    """Two-sided p of "no effect beyond the margin" for each column of values [n, T, K], [T]."""
    generator = np.random.default_rng(seed)
    if sample.claim.test.across:
        return _rank_p(sample, values, max(flips, REFERENCE), generator)
    null = (sample.claim.test.margin or 0.0) if sample.claim.kind == "superiority" else 0.0
    found, own = effects(sample, values)
    p = _flip_p(np.nan_to_num(own - null), flips, generator)
    return np.where(np.isnan(found), np.nan, p)


def _flip_p(own: Array, flips: int, generator: np.random.Generator) -> Array:
    own = own[(own != 0).any(axis=1)]
    n, observed = len(own), np.abs(own.sum(axis=0)) * (1 - 1e-12)  # ties up to rounding count as hits
    if n <= EXACT:
        signs = 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) - 1
        return (np.abs(signs @ own) >= observed).mean(axis=0)
    hits = np.zeros(own.shape[1])
    for start in range(0, flips, 10 * CHUNK):
        signs = 2.0 * generator.integers(0, 2, (min(10 * CHUNK, flips - start), n)) - 1
        hits += (np.abs(signs @ own) >= observed).sum(axis=0)
    return (1 + hits) / (1 + flips)


def _rank_p(sample: Sample, values: Array, orders: int, generator: np.random.Generator) -> Array:
    x, y = (_standard(rankdata(column, axis=0)) for column in (_of_arms(values[..., :-1]), values[..., -1]))
    observed = np.abs((x * y).sum(axis=0)) * (1 - 1e-12)
    reference = np.sort(np.abs(generator.permuted(np.repeat(y[:, :1], orders, axis=1), axis=0).T @ x[:, 0]))
    p = (1 + orders - np.searchsorted(reference, observed)) / (1 + orders)
    return np.where(np.isnan(observed), np.nan, p)


def _standard(ranks: Array) -> Array:
    centred = ranks - ranks.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # of equal values: NaN, as the rule has no p there
        return centred / np.sqrt((centred**2).sum(axis=0))


def _of_arms(values: Array) -> Array:
    return values[..., 0] if values.shape[-1] == 1 else differences(values[..., 0], values[..., 1])


def _curves(sample: Sample, values: Array) -> tuple[Array, Array]:
    a, b = sample.points

    def gap(means: Array) -> Array:
        return gap_between(*np.split(means, np.cumsum([a, a, b]), axis=-1), grid=GRID)

    return gap(values.mean(axis=0)), pseudo_values(values, gap)


def _levels(first: Array, second: Array) -> tuple[Array, Array]:
    """The mean of first [n, T] less the mean of second, NaN where a unit has none, and the pseudo-values."""
    there = [~np.isnan(first), ~np.isnan(second)]
    columns = np.stack([np.where(there[0], first, 0.0), np.where(there[1], second, 0.0), *there], axis=2)

    def gap(means: Array) -> Array:
        first, second, of_first, of_second = np.moveaxis(means, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return first / of_first - second / of_second

    return gap(columns.mean(axis=0)), pseudo_values(columns, gap)


def _offset(sample: Sample) -> Array:
    """The margin, in the columns of the side that it is added to."""
    offset = np.zeros(sample.values.shape[1])
    if sample.claim.kind == "superiority":
        first = sample.points[0]
        offset[first : 2 * first if first else 1] = sample.claim.test.margin or 0.0
    return offset


def _matched_curves(sample: Sample) -> Sample:
    """Both curves in the order of their mean x, with as many points, evenly spaced along the longer one.

    A point's label is its place along the curve. By the order of their settings, one editor's strongest would trade
    places with another's weakest, and the mixed curves would run to and fro.
    """
    a, b = sample.points
    points, mean = min(a, b), sample.values.mean(axis=0)
    columns = []
    for start, size in ((0, a), (2 * a, b)):
        order = np.argsort(mean[start : start + size], kind="stable")
        order = order[np.rint(np.linspace(0, size - 1, points)).astype(int)]
        columns += [start + order, start + size + order]
    return replace(sample, values=sample.values[:, np.concatenate(columns)], points=(points, points))

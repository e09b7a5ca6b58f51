"""Trends: does a value rise with a setting, case by case; does one value rise with another, across cases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from lib.core.errors import InputError
from lib.stats.bootstrap import Array
from lib.stats.paired import FLIPS, Difference


def slopes(values: ArrayLike, levels: ArrayLike) -> Array:
    """Least-squares slope of each row of values [n, k] over the levels [k]: in units of the value per unit of level."""
    values, centred = _checked(values, levels)
    return values @ centred / (centred @ centred)


def rank_slopes(values: ArrayLike, levels: ArrayLike) -> Array:
    """Spearman's correlation of each row of values [n, k] with the levels [k]; ties averaged.

    A row of equal values shows no trend: 0. A row with NaN has none.
    """
    values, _ = _checked(values, levels)
    gaps = np.isnan(values).any(axis=1)
    ranks = rankdata(np.where(gaps[:, None], 0.0, values), axis=1)
    found = _correlation(ranks, np.broadcast_to(rankdata(levels), ranks.shape))
    return np.where(gaps, np.nan, np.nan_to_num(found))


def spearman(
    x: ArrayLike, y: ArrayLike, *, level: float = 0.95, resamples: int = 2000, flips: int = FLIPS, seed: int = 0,
    missing: int = 0, seeds: int = 1,
) -> Difference:  # fmt: skip
    """Spearman's correlation of x with y over units, both [n]; BCa interval over units, p by permuting y.

    Units with a missing value are dropped. NaN bounds and p if either is constant or there are fewer than 4 units.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError("paired values", found=f"shapes {x.shape} and {y.shape}", expected="x and y of each unit")
    kept = ~(np.isnan(x) | np.isnan(y))
    x, y = x[kept], y[kept]
    n = len(x)
    if n < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Difference(np.nan, np.nan, np.nan, np.nan, n, missing, seeds)

    def of(rows: Array) -> Array:
        return _correlation(rankdata(x[rows], axis=1), rankdata(y[rows], axis=1))

    value = float(of(np.arange(n)[None])[0])
    generator = np.random.default_rng(seed)
    low, high = _bca(of, n, value, level, resamples, generator)
    ranks_x, ranks_y = rankdata(x), rankdata(y)
    shuffled = generator.permuted(np.broadcast_to(ranks_y, (flips, n)), axis=1)
    permuted = _correlation(np.broadcast_to(ranks_x, shuffled.shape), shuffled)
    hits = int(np.sum(np.abs(permuted) >= abs(value) * (1 - 1e-12)))
    return Difference(value, low, high, (1 + hits) / (1 + flips), n, missing, seeds)


def _bca(
    of: Callable[[Array], Array], n: int, value: float, level: float, resamples: int, generator: np.random.Generator
) -> tuple[float, float]:
    """BCa bounds (Efron 1987) of a statistic of rows [m, n] of unit numbers."""
    replicates = of(generator.integers(0, n, (resamples, n)))
    replicates = replicates[~np.isnan(replicates)]  # a resample of a single value has no correlation
    if len(replicates) < 0.95 * resamples:
        return np.nan, np.nan
    everyone = np.arange(n)
    left_out = of(np.array([np.delete(everyone, i) for i in everyone]))
    influence = np.nan_to_num(np.nanmean(left_out) - left_out)
    squares = np.sum(influence**2)
    acceleration = np.sum(influence**3) / (6 * squares**1.5) if squares > 0 else 0.0
    below = np.mean(replicates < value - 1e-12) + 0.5 * np.mean(np.abs(replicates - value) <= 1e-12)
    bias = ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    tails = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(replicates, ndtr(bias + tails / (1 - acceleration * tails)))
    return float(low), float(high)


def _correlation(x: Array, y: Array) -> Array:
    """Pearson's correlation of each row; NaN where a row is constant."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.einsum("ij,ij->i", x, y) / np.sqrt(np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y))


def _checked(values: ArrayLike, levels: ArrayLike) -> tuple[Array, Array]:
    values, levels = np.asarray(values, dtype=float), np.asarray(levels, dtype=float)
    if values.ndim != 2 or levels.shape != values.shape[1:]:
        found = f"shapes {values.shape} and {levels.shape}"
        raise InputError("values and levels", found=found, expected="[n, k] and [k]")
    if len(set(levels.tolist())) < 2:
        raise InputError("levels", found=f"{levels.tolist()}", expected="at least two different ones")
    return values, levels - levels.mean()

"""Controls of the ledger's rule: how often it finds something in labels that mean nothing, and something planted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lib.claims.evidence import Sample
from lib.claims.ledger import Claim
from lib.claims.verdict import SUPPORTED, decide, estimate
from lib.stats.bootstrap import Array


def permuted(sample: Sample, generator: np.random.Generator) -> Sample | None:
    """The sample with its labels shuffled, so that its claim holds of nothing.

    Within each unit: the arms of a comparison (whole curves, the longer one thinned to the points of the shorter; at
    both levels alike), the settings of a trend. Over the units: the covariate of a trend across cases, the levels of
    an interaction of one arm. None for one arm against a margin.
    """
    test, values = sample.claim.test, sample.values
    if test.across:
        return replace(sample, values=np.column_stack([values[:, :-1], generator.permutation(values[:, -1])]))
    if sample.claim.kind == "trend":
        return replace(sample, values=generator.permuted(values, axis=1))
    if len(test.arms) == 1:
        if not test.between:
            return None
        there, shuffled = ~np.isnan(values), values.copy()
        shuffled[there] = generator.permutation(values[there])
        return replace(sample, values=shuffled)
    if test.at_equal:
        sample = _equal_curves(sample)
        values = sample.values
    order = np.arange(values.shape[1])
    other = np.roll(order, len(order) // 2) if test.at_equal else order.reshape(-1, 2)[:, ::-1].ravel()
    swapped = generator.integers(0, 2, (len(values), 1)).astype(bool)
    return replace(sample, values=np.where(swapped, values[:, other], values))


def _equal_curves(sample: Sample) -> Sample:
    """As many points in both curves, evenly spaced along the longer one."""
    a, b = sample.points
    points = min(a, b)
    kept = [np.rint(np.linspace(0, size - 1, points)).astype(int) for size in (a, a, b, b)]
    starts = (0, a, 2 * a, 2 * a + b)
    columns = np.concatenate([start + part for start, part in zip(starts, kept, strict=True)])
    return replace(sample, values=sample.values[:, columns], points=(points, points))


def null_run(
    samples: Sequence[Sample], *, times: int = 500, resamples: int = 1000, flips: int = 999, seed: int = 0
) -> Array:
    """Share of supported verdicts among `times` shufflings of each sample, [samples]; NaN where none can be made.

    By the rule with each sample's own p, without Holm's help: at most ALPHA is right, and about half of that, since
    claims have a direction. Only for superiority without a margin, and trend.
    """
    return np.array([_null_share(sample, times, resamples, flips, seed) for sample in samples])


def positive_control(
    values: Array, claim: Claim, *, shift: float = 0.5, times: int = 200, resamples: int = 1000, flips: int = 999,
    seed: int = 0,
) -> float:  # fmt: skip
    """Share of supported verdicts when a shift is planted: labels of values [n, 2] shuffled, `shift` added to one arm.

    The shift is in standard deviations of the shuffled differences, in the claim's direction. n = 200 and 0.5: >= .8.
    """
    supported = 0
    sign = 1.0 if claim.test.direction == "higher" else -1.0
    for turn in range(times):
        generator = np.random.default_rng([seed, turn])
        sample = permuted(Sample(claim, values, None, 0, 1), generator)
        spread = np.std(sample.values[:, 0] - sample.values[:, 1], ddof=1)
        planted = replace(sample, values=sample.values + np.array([sign * shift * spread, 0.0]))
        found = estimate(planted, resamples=resamples, flips=flips, seed=turn)
        supported += decide(claim, found, found.p) == SUPPORTED
    return supported / times


def _null_share(sample: Sample, times: int, resamples: int, flips: int, seed: int) -> float:
    test = sample.claim.test
    if sample.claim.kind not in ("superiority", "trend") or test.margin:
        return math.nan
    supported = 0
    for turn in range(times):
        shuffled = permuted(sample, np.random.default_rng([seed, turn]))
        if shuffled is None:
            return math.nan
        found = estimate(shuffled, resamples=resamples, flips=flips, seed=turn)
        supported += decide(sample.claim, found, found.p) == SUPPORTED
    return supported / times

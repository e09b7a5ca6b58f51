"""What a claim's numbers can tell: their spread, and the smallest effect that would be found four times in five.

By the normal approximation, with the spread that was measured: SD of the units' paired contributions (differences,
slopes, or the jackknife's pseudo-values of curves and interactions), whose error is SD / sqrt(n).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from lib.claims.evidence import Sample
from lib.claims.ledger import Claim
from lib.claims.permuted import effects
from lib.claims.verdict import ALPHA

POWER = 0.8


@dataclass(frozen=True)
class Reach:
    """How far a claim's numbers reach: `n` units of paired spread `sd`, tested among `tests`.

    `smallest`: of superiority and trend, the distance from the margin that is decided with POWER where Holm asks most
    (p below ALPHA / tests); of equivalence, the margin that two equal arms keep with POWER. NaN with less than 4 units.
    """

    n: int
    sd: float
    tests: int
    smallest: float


def family(claims: Sequence[Claim], paper: str) -> list[Claim]:
    """The claims that Holm's adjustment of a paper runs over, where no real weights are at hand."""
    return [
        claim
        for claim in claims
        if claim.paper == paper and claim.confirmatory and claim.kind in ("superiority", "trend")
        if not claim.needs_weights
    ]


def reach(sample: Sample, tests: int = 1) -> Reach:
    """The reach of a claim of superiority, trend or equivalence; `tests` is the size of its family, 1 outside one."""
    n, equivalence = len(sample.values), sample.claim.kind == "equivalence"
    tests = 1 if equivalence else tests  # it is judged by its interval alone
    if n < 4:
        return Reach(n, math.nan, tests, math.nan)
    certain = -ndtri(ALPHA / (2 * tests)) + ndtri(POWER)
    if sample.claim.test.across:  # Fisher's z; 1.03: Spearman's for Pearson's (Fieller, Hartley & Pearson 1957)
        return Reach(n, math.nan, tests, math.tanh(certain * 1.03 / math.sqrt(n - 3)))
    sd = float(np.std(effects(sample, sample.values[:, None, :])[1], ddof=1))
    if equivalence:
        certain = -ndtri(ALPHA / 2) - ndtri((1 - POWER) / 2)  # both ends of the interval must stay inside
    return Reach(n, sd, tests, float(certain * sd / math.sqrt(n)))

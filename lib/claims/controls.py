"""Controls of the ledger's rule: how often it finds something in labels that mean nothing, and something planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lib.claims.evidence import Sample
from lib.claims.ledger import Claim
from lib.claims.permuted import effects, p_values, shuffled
from lib.claims.verdict import ALPHA, CONTRADICTED, INCONCLUSIVE, SUPPORTED, decide, estimate
from lib.stats.bootstrap import Array
from lib.stats.multiple import holm

FORMS = ("one arm", "pair", "curves", "interaction", "settings", "across cases")


@dataclass(frozen=True, eq=False)
class Shuffled:
    """What the rule says of one claim in each of T shufflings: its p without Holm's help, and the verdict by it."""

    claim: Claim
    n: int
    p: Array  # [T]
    verdicts: np.ndarray  # [T], of texts

    @property
    def supported(self) -> float:
        return float(np.mean(self.verdicts == SUPPORTED))

    @property
    def contradicted(self) -> float:
        return float(np.mean(self.verdicts == CONTRADICTED))


def form(claim: Claim) -> str:
    """One of FORMS: what is shuffled in a claim's numbers, and how they become an effect."""
    test = claim.test
    if test.across:
        return "across cases"
    if claim.kind == "trend":
        return "settings"
    if test.at_equal:
        return "curves"
    return "interaction" if test.between else ("one arm", "pair")[len(test.arms) - 1]


def null_run(
    samples: Sequence[Sample], *, times: int = 500, resamples: int = 1000, flips: int = 1999, seed: int = 0
) -> list[Shuffled]:
    """The rule on `times` shufflings of each sample of a claim of superiority or trend, each in its own stream.

    At most ALPHA of them may be supported, and about half of that is to be expected, since claims have a direction.
    """
    found = []
    for sample in samples:
        generator = np.random.default_rng([seed, *sample.claim.id.encode()])
        sample, values = shuffled(sample, times, generator)
        p = p_values(sample, values, flips=flips, seed=seed)
        verdicts = _verdicts(sample, values, p, resamples, seed)
        found.append(Shuffled(sample.claim, len(sample.values), p, verdicts))
    return found


def family_rate(found: Sequence[Shuffled], size: int) -> float:
    """Share of shufflings in which the ledger would support a confirmatory claim, one at least, of a family of `size`.

    By the whole rule: Holm over the family, of which those that were not shuffled count as p = 1.
    """
    own = [each for each in found if each.claim.confirmatory]
    if not own:
        return 0.0
    p = np.stack([each.p for each in own])
    rest = np.ones((size - len(own), p.shape[1]))
    adjusted = np.apply_along_axis(holm, 0, np.concatenate([p, rest]))[: len(own)]
    right = np.stack([each.verdicts for each in own]) == SUPPORTED
    return float(np.mean((right & (adjusted <= ALPHA)).any(axis=0)))


def positive_control(
    sample: Sample, *, shift: float = 0.5, units: int = 200, tests: int = 1, times: int = 200, resamples: int = 1000,
    flips: int = 1999, seed: int = 0,
) -> float:  # fmt: skip
    """Share of supported verdicts when a shift is planted, [0, 1], among `times` draws of `units` of the sample's.

    Labels are shuffled, and an effect of `shift` standard deviations of the units' contributions is added in the
    claim's direction: to one arm, to all points of one curve, or along the settings. p is multiplied by `tests`, which
    is the most that Holm does in a family of so many. 0.5 at 200 units is to be found in >= .8. Not for ranks.
    """
    generator = np.random.default_rng([seed, *sample.claim.id.encode()])
    drawn = generator.integers(0, len(sample.values), (times, units))
    strata = sample.strata and [[sample.strata[unit] for unit in turn] for turn in drawn]
    fixed, _ = shuffled(sample, 1, generator)  # two curves, cut to equal length
    turns = [shuffled(replace(sample, values=sample.values[turn]), 1, generator)[1] for turn in drawn]
    values = np.concatenate(turns, axis=1)
    sign = 1.0 if sample.claim.test.direction == "higher" else -1.0
    spread = effects(fixed, values)[1].std(axis=0, ddof=1)
    values = values + sign * shift * spread[:, None] * _direction(fixed)
    p = np.minimum(1.0, tests * p_values(fixed, values, flips=flips, seed=seed))
    return float(np.mean(_verdicts(fixed, values, p, resamples, seed, strata) == SUPPORTED))


def _direction(sample: Sample) -> Array:
    """What to add to each series, so that the effect of a pair, of two curves or of settings grows by 1."""
    if form(sample.claim) == "settings":
        return np.asarray(sample.claim.test.series)
    added = np.zeros(sample.values.shape[1])
    first = sample.points[0]
    added[first : 2 * first if first else 1] = 1.0
    return added


def _verdicts(
    sample: Sample, values: Array, p: Array, resamples: int, seed: int, strata: Sequence[list] | None = None
) -> np.ndarray:
    """The rule for each column of values [n, T, K], with the same draws, as the ledger has for all its claims.

    Without a small p no interval is needed: it decides nothing.
    """
    verdicts = np.full(values.shape[1], INCONCLUSIVE, dtype=object)
    for turn in np.flatnonzero(p <= ALPHA):
        own = sample.strata if strata is None else strata[turn]
        one = replace(sample, values=values[:, turn], strata=own)
        found = estimate(one, resamples=resamples, flips=1, seed=seed)
        verdicts[turn] = decide(sample.claim, found, float(p[turn]))
    return verdicts

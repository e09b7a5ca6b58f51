"""From claims and evidence to verdicts, by one rule.

superiority, trend  supported if Holm's p over the paper's confirmatory claims is at most ALPHA and the interval
                    excludes the margin (0) in the claimed direction; contradicted if it does so in the other direction
equivalence         supported if the interval lies inside ± margin, contradicted if it lies outside
identity            supported if no |error| exceeds the tolerance, contradicted if one does (or has no value)
else                inconclusive
not tested here     needs weights that are not here, or its notebook, arms or metrics are missing: the reason says which

The family of Holm's adjustment is fixed by claims.yaml: the paper's confirmatory claims of superiority and trend that
need no weights. Those not tested yet count as p = 1, so that running more notebooks never takes a verdict back.
Exploratory claims are judged by their own p, and have no `p_holm`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lib.claims.evidence import Evidence, MissingEvidence, Sample, identity_errors, sample_of
from lib.claims.ledger import Claim
from lib.core.paths import RUNS
from lib.stats.multiple import holm
from lib.stats.paired import (
    FLIPS,
    Difference,
    curve_difference,
    difference_of,
    equivalence_p,
    level_difference,
    place,
)
from lib.stats.tidy import differences
from lib.stats.trend import rank_slopes, slopes, spearman

ALPHA = 0.05
RESAMPLES = 10_000
DIGITS = 4
SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_TESTED = VERDICTS = (
    "supported",
    "contradicted",
    "inconclusive",
    "not tested here",
)


@dataclass(frozen=True)
class Row:
    """A claim with its verdict: a line of claims.json. Numbers are null where there are none."""

    id: str
    paper: str
    kind: str
    confirmatory: bool
    statement: str
    metric: str
    measure: str  # what the effect is of: the metric itself, its slope, its correlation
    direction: str | None
    margin: float | None  # of a superiority or an equivalence; the tolerance of an identity
    paper_value: float | None
    effect: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    seeds: int = 0
    p: float | None = None
    p_holm: float | None = None
    verdict: str = NOT_TESTED
    reason: str = ""
    notebook: str = ""
    cell: str | None = None


def judge(
    claims: Sequence[Claim], evidence: Evidence, *, samples: Mapping[str, Sample] | None = None,
    resamples: int = RESAMPLES, flips: int = FLIPS, seed: int = 0,
) -> list[Row]:  # fmt: skip
    """A row for every claim, in the order given. `samples` are those of claims (id -> numbers) gathered already."""
    found: dict[str, Difference] = {}
    reasons: dict[str, str] = {}
    for claim in claims:
        try:
            if claim.needs_weights and claim.test.notebook not in evidence.real:
                raise MissingEvidence(f"needs weights that are not here: {claim.command}")
            sample = (samples or {}).get(claim.id)
            found[claim.id] = _measure(claim, evidence, sample, resamples, flips, seed)
        except MissingEvidence as missing:
            reasons[claim.id] = str(missing)
    adjusted = _adjust(claims, found)
    return [_row(claim, found.get(claim.id), adjusted, reasons.get(claim.id, ""), evidence) for claim in claims]


def estimate(sample: Sample, *, resamples: int = RESAMPLES, flips: int = FLIPS, seed: int = 0) -> Difference:
    """A sample's effect with its interval and its p of "no effect beyond the margin"."""
    claim, values = sample.claim, sample.values
    test = claim.test
    counted = {"missing": sample.missing, "seeds": sample.seeds}
    options: dict[str, Any] = {"resamples": resamples, "flips": flips, "seed": seed, **counted}
    if test.across:
        first = values[:, 0] if len(test.arms) == 1 else differences(values[:, 0], values[:, 1])
        return spearman(first, values[:, -1], **options)
    if claim.kind == "trend":
        per_unit = (slopes if test.statistic == "slope" else rank_slopes)(values, test.series)
        return difference_of(per_unit, sample.strata, **options)
    null = (test.margin or 0.0) if claim.kind == "superiority" else 0.0
    if test.at_equal:
        a, b = sample.points
        return curve_difference(*np.split(values.T, np.cumsum([a, a, b])), sample.strata, null=null, **options)
    if test.between:
        halves = np.split(values, 2, axis=1)
        sides = [half[:, 0] if len(test.arms) == 1 else differences(half[:, 0], half[:, 1]) for half in halves]
        return level_difference(np.column_stack(sides), null=null, **options)
    per_unit = values[:, 0] if len(test.arms) == 1 else differences(values[:, 0], values[:, 1])
    found = difference_of(per_unit, sample.strata, null=null, **options)
    return replace(found, p=equivalence_p(per_unit, test.margin)) if claim.kind == "equivalence" else found


def decide(claim: Claim, found: Difference, p: float) -> str:
    """The rule, for one effect; `p` is Holm's for a confirmatory claim, its own for an exploratory one."""
    test = claim.test
    if claim.kind == "identity":
        return SUPPORTED if found.value <= test.tolerance else CONTRADICTED
    if claim.kind == "equivalence":
        where = place(found.low, found.high, test.margin)
        return {"inside": SUPPORTED, "outside": CONTRADICTED, "across": INCONCLUSIVE}[where]
    null = test.margin or 0.0
    above, below = found.low > null, found.high < null
    if not p <= ALPHA or not (above or below):  # NaN of either decides nothing
        return INCONCLUSIVE
    return SUPPORTED if above == (test.direction == "higher") else CONTRADICTED


def write_rows(rows: Sequence[Row], path: str | Path = RUNS / "claims" / "claims.json") -> Path:
    """Write claims.json: 4 significant digits, null for what has no number; equal rows give equal bytes. By rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = [{name: _plain(value) for name, value in asdict(row).items()} for row in rows]
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    scratch.replace(path)
    return path


def _measure(
    claim: Claim, evidence: Evidence, sample: Sample | None, resamples: int, flips: int, seed: int
) -> Difference:
    if claim.kind == "identity":
        errors, seeds = identity_errors(claim, evidence)
        absent = int(np.isnan(errors).sum())
        worst = math.inf if absent else float(errors.max())
        return Difference(worst, math.nan, math.nan, math.nan, len(errors) - absent, absent, seeds)
    return estimate(sample or sample_of(claim, evidence), resamples=resamples, flips=flips, seed=seed)


def _adjust(claims: Sequence[Claim], found: dict[str, Difference]) -> dict[str, float]:
    """Holm's p of the confirmatory claims of each paper."""
    adjusted: dict[str, float] = {}
    for paper in dict.fromkeys(claim.paper for claim in claims):
        family = [
            claim.id
            for claim in claims
            if claim.paper == paper and claim.confirmatory and claim.kind in ("superiority", "trend")
            if not claim.needs_weights or claim.id in found
        ]
        raw = [found[name].p if name in found else 1.0 for name in family]
        adjusted |= dict(zip(family, holm(raw).tolist(), strict=True))
    return adjusted


def _row(claim: Claim, found: Difference | None, adjusted: dict[str, float], reason: str, evidence: Evidence) -> Row:
    test = claim.test
    row = Row(
        claim.id, claim.paper, claim.kind, claim.confirmatory, claim.statement, test.metric, claim.measure,
        test.direction, test.tolerance if claim.kind == "identity" else test.margin, claim.paper_value, reason=reason,
        notebook=test.notebook, cell=evidence.cells.get(claim.id),
    )  # fmt: skip
    if found is None:
        return row
    p_holm = adjusted.get(claim.id)
    verdict = decide(claim, found, found.p if p_holm is None else p_holm)
    return replace(
        row, effect=_number(found.value), ci_low=_number(found.low), ci_high=_number(found.high), n=found.n,
        seeds=found.seeds, p=_number(found.p), p_holm=p_holm, verdict=verdict, reason=_remark(claim, found),
    )  # fmt: skip


def _remark(claim: Claim, found: Difference) -> str:
    remarks = []
    if found.missing:
        remarks.append(f"{found.missing} without a value")
    if found.degenerate:
        remarks.append("all units alike: the interval has no width")
    if claim.kind != "identity" and math.isnan(found.low):
        remarks.append("no interval: too few units, or no common range")
    return "; ".join(remarks)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") + 0.0 if math.isfinite(value) else None
    return value

"""Each claim's own rows: those of its arms, at the seeds that all of them have.

The unit is the case with its seeds averaged. An arm of three seeds against an arm of one is a mean against a single
draw: not biased, but their noise is neither equal nor paired. So each claim sees only the seeds that its arms share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from lib.claims.evidence import Evidence, MissingEvidence, Sample, sample_of
from lib.claims.ledger import Claim, Test
from lib.claims.verdict import Row, judge

Parts = Mapping[str, Mapping[str, pd.DataFrame]]  # arm -> metric -> rows


def even(claims: Sequence[Claim], evidence: Evidence) -> tuple[list[Claim], Evidence]:
    """The claims moved, each to a table of its own rows, which the new evidence has under `<notebook>: <claim's id>`.

    Arms without a seed in common keep all of theirs. Claims whose notebook or arms are not there stay where they are.
    """
    parts = {name: _parts(table) for name, table in evidence.tables.items()}
    moved, tables, real = [], dict(evidence.tables), set(evidence.real)
    for claim in claims:
        notebook = claim.test.notebook
        rows = _own_rows(claim.test, parts.get(notebook, {}))
        if rows is not None:
            name = f"{notebook}: {claim.id}"
            tables[name] = rows
            real |= {name} if notebook in real else set()
            claim = claim.model_copy(update={"test": claim.test.model_copy(update={"notebook": name})})
        moved.append(claim)
    return moved, replace(evidence, tables=tables, real=frozenset(real))


def judge_evenly(
    claims: Sequence[Claim], evidence: Evidence, samples: Mapping[str, Sample] | None = None, **options: Any
) -> list[Row]:
    """`judge`, each claim at the seeds that its arms share; rows name the notebooks as claims.yaml does.

    `samples` are the claims' `even_samples`, if they are there already.
    """
    moved, there = even(claims, evidence)
    options["samples"] = even_samples(claims, evidence) if samples is None else samples
    return [
        replace(
            row,
            notebook=claim.test.notebook,
            reason=row.reason.replace(f"{claim.test.notebook}: {claim.id}", claim.test.notebook),
        )
        for row, claim in zip(judge(moved, there, **options), claims, strict=True)
    ]


def even_samples(claims: Sequence[Claim], evidence: Evidence) -> dict[str, Sample]:
    """Claim's id -> its numbers at the seeds that its arms share, as they are judged; only of those that have any.

    Identities have none: they are judged case by case.
    """
    samples = {}
    moved, there = even(claims, evidence)
    for claim, own in zip(claims, moved, strict=True):
        if claim.kind == "identity" or (claim.needs_weights and claim.test.notebook not in evidence.real):
            continue
        try:
            samples[claim.id] = replace(sample_of(own, there), claim=claim)
        except MissingEvidence:
            continue
    return samples


def _parts(table: pd.DataFrame) -> Parts:
    parts: dict[str, dict[str, pd.DataFrame]] = {}
    for (arm, metric), rows in table.groupby(["arm", "metric"], sort=False):
        parts.setdefault(arm, {})[metric] = rows
    return parts


def _own_rows(test: Test, parts: Parts) -> pd.DataFrame | None:
    """The rows of the test's arms, of their settings too where it compares curves, at the seeds that they share.

    Of the metrics that the test asks for; of an arm that has none of them all, so that what is missing can be told.
    """
    of_curves = {arm for arm in parts if arm.split("@")[0] in test.arms} if test.along else set()
    arms = [arm for arm in parts if arm in test.arms or arm in of_curves]
    if not arms:
        return None
    asked = [name for name in dict.fromkeys((test.metric, test.at_equal, test.across)) if name]
    own = {arm: [parts[arm][name] for name in asked if name in parts[arm]] for arm in arms}
    rows = pd.concat([part for arm in arms for part in own[arm] or parts[arm].values()])
    seeds = [set().union(*(part["seed"].unique() for part in own[arm])) for arm in arms if own[arm]]
    common = set.intersection(*seeds) if seeds else set()
    return rows[rows["seed"].isin(common)] if common else rows

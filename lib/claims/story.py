"""What the ledger found, told: sizes and reach as tables, and for each paper what held, what did not, what is open."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from lib.claims.controls import Shuffled, form
from lib.claims.evidence import Sample
from lib.claims.ledger import Claim
from lib.claims.power import Reach
from lib.claims.verdict import ALPHA, CONTRADICTED, INCONCLUSIVE, NOT_TESTED, SUPPORTED, Row

CHANGED = "Changed"
REMARK = " (Test changed after the first run.)"
QUOTED = 3  # claims that a sentence tells in words; the others by id
WHY = {  # where the rule is known to be weak
    "interaction": "the smaller level has few cases; without the rare scores among them it seems steadier than it is",
    "one arm": "flipping signs about the margin asks for values that lie evenly around it, and these are skewed",
    "curves": "the two curves share a short range, and its ends move with every shuffling",
}
MEASURES = 2  # that the third sentence gives the reach of


def changes(claims: Iterable[Claim]) -> list[str]:
    """A line for each claim whose note says that it was changed after it was written."""
    return [
        f"`{claim.id}`: {claim.note[claim.note.index(CHANGED) + len(CHANGED) :].lstrip(': ')}"
        for claim in claims
        if CHANGED in claim.note
    ]


def sizes(rows: Iterable[Row]) -> pd.DataFrame:
    """Paper and notebook -> how many claims were tested there, on how many units each, with how many seeds."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.verdict != NOT_TESTED:
            groups.setdefault((row.paper, row.notebook), []).append(row)
    table = [
        {
            "paper": paper,
            "notebook": notebook,
            "claims": len(own),
            "n (claims)": ", ".join(f"{n} ({times})" for n, times in sorted(Counter(row.n for row in own).items())),
            "seeds": _span([row.seeds for row in own]),
        }
        for (paper, notebook), own in groups.items()
    ]
    return pd.DataFrame(table, columns=["paper", "notebook", "claims", "n (claims)", "seeds"])


def reach_table(rows: Iterable[Row], reaches: Mapping[str, Reach]) -> pd.DataFrame:
    """What each tested claim could have found: n, seeds, paired SD, the smallest effect, what was seen, the verdict."""
    table = [
        {
            "claim": row.id,
            "of": row.measure.replace("_", " "),
            "n": own.n,
            "seeds": row.seeds,
            "paired SD": own.sd,
            "tests": own.tests,
            "smallest effect, 80 %": own.smallest,
            "seen (from the margin)": abs(seen) if (seen := _from_margin(row)) is not None else math.nan,
            "verdict": row.verdict,
        }
        for row in rows
        if (own := reaches.get(row.id)) is not None
    ]
    return pd.DataFrame(table).set_index("claim") if table else pd.DataFrame()


def null_table(found: Sequence[Shuffled], samples: Mapping[str, Sample]) -> pd.DataFrame:
    """Each claim of the null run: what was shuffled, how many units (of each level), how often it came out, %."""
    table = [
        {
            "claim": each.claim.id,
            "paper": each.claim.paper,
            "shuffled": form(each.claim),
            "n": _levels(samples[each.claim.id]) if form(each.claim) == "interaction" else str(each.n),
            "supported, %": 100 * each.supported,
            "contradicted, %": 100 * each.contradicted,
        }
        for each in found
    ]
    columns = ["claim", "paper", "shuffled", "n", "supported, %", "contradicted, %"]
    return pd.DataFrame(table, columns=columns).set_index("claim")


def above(found: Sequence[Shuffled], errors: float = 3.0) -> tuple[float, list[Shuffled]]:
    """The bound, ALPHA and so many Monte-Carlo standard errors, and the claims that are supported more often."""
    if not found:
        return ALPHA, []
    bound = ALPHA + errors * math.sqrt(ALPHA * (1 - ALPHA) / len(found[0].p))
    return bound, [each for each in found if each.supported > bound]


def said_of_null(found: Sequence[Shuffled], samples: Mapping[str, Sample]) -> str:
    """The null run in words: the share supported, its error, and which claims come out too often, and why."""
    turns = sum(len(each.p) for each in found)
    mean = sum(each.supported * len(each.p) for each in found) / turns
    other = sum(each.contradicted * len(each.p) for each in found) / turns
    bound, high = above(found)
    over = ", ".join(f"`{each.claim.id}`" for each in high)
    limit = f"{bound:.1%} (5 % and three standard errors)"
    over = f"Supported in more than {limit}: {over}." if high else f"No claim is supported in more than {limit}."
    error = math.sqrt(mean * (1 - mean) / turns)
    said = [
        f"Of {len(found)} claims × {len(found[0].p)} shufflings {mean:.1%} (± {error:.1%}) are supported and"
        f" {other:.1%} contradicted. {over}"
    ]
    for each in sorted(found, key=lambda each: -each.supported):
        if each.supported > ALPHA:
            n = _levels(samples[each.claim.id]) if form(each.claim) == "interaction" else each.n
            why = WHY.get(form(each.claim), "shuffling is exact there, so this is the Monte Carlo's")
            said.append(f"`{each.claim.id}` ({form(each.claim)}, n = {n}): {each.supported:.1%}; {why}.")
    return " ".join(said)


def told(rows: Sequence[Row], reaches: Mapping[str, Reach]) -> str:
    """A paper's three items of a Markdown list, from its rows: what held, what did not, what is undecided and why.

    Effects have their measure and the direction that is claimed of it.
    """
    tested = [row for row in rows if row.verdict != NOT_TESTED]
    by = {verdict: [row for row in tested if row.verdict == verdict] for verdict in (SUPPORTED, CONTRADICTED)}
    undecided = [row for row in tested if row.verdict == INCONCLUSIVE]
    if not tested:
        return f"None of its {_counted(rows)} could be tested here."
    held, against = by[SUPPORTED], by[CONTRADICTED]
    units = [row.n for row in tested]
    on = f"{_span(units)} units, median {int(np.median(units))}" if len(set(units)) > 1 else f"{units[0]} units"
    first = f"* **Held**: {len(held)} of the {_counted(tested)} that could be tested (on {on}, {_seeds(tested)})"
    first += _list(held)
    second = "* **Did not hold**: " + (f"{len(against)}" + _list(against) if against else "nothing was contradicted.")
    third = "* **Undecided**: " + (_undecided(undecided, reaches) if undecided else "nothing that was tested.")
    return "\n".join([first, second, third])


def _list(rows: Sequence[Row]) -> str:
    """A colon and an item per claim, the last "and `id`, `id`". The paper's first in words, one for each number of its
    list.
    """
    if not rows:
        return "."
    quoted: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: not row.confirmatory):
        quoted.setdefault("-".join(row.id.split("-")[:2]), row)
    chosen = list(quoted.values())[:QUOTED]
    rest = [row for row in rows if row not in chosen]
    words = [f"{row.statement.removesuffix(REMARK.strip()).strip().rstrip('.')} ({_effect(row)})" for row in chosen]
    ids = [f"and {', '.join(f'`{row.id}`' for row in rest)}"] if rest else []
    return ":" + "".join(f"\n    * {words}" for words in [*words, *ids])


def _undecided(rows: Sequence[Row], reaches: Mapping[str, Reach]) -> str:
    counted, said = f"{len(rows)}, on {_span([row.n for row in rows])} units, {_seeds(rows)}", []
    known = [row for row in rows if row.effect is not None and row.id in reaches and reaches[row.id].smallest >= 0]
    equal = [row for row in known if row.kind == "equivalence"]
    others = [row for row in known if row.kind != "equivalence"]
    groups: dict[str, list[Row]] = {}
    for row in others:
        groups.setdefault(row.measure, []).append(row)
    for measure, own in sorted(groups.items(), key=lambda group: -len(group[1]))[:MEASURES]:
        sd = _span([reaches[row.id].sd for row in own if not math.isnan(reaches[row.id].sd)])
        spread = f"the paired SD is {sd} and " if sd else ""
        smallest = _span([reaches[row.id].smallest for row in own])
        said.append(
            f"{measure.replace('_', ' ')}: {spread}an effect is found four times in five (after Holm) from {smallest}"
            f" on, where {_span([abs(_from_margin(row)) for row in own])} was seen"
        )
    if equal:
        shown, asked = _span([reaches[row.id].smallest for row in equal]), _span([row.margin for row in equal])
        said.append(f"the {_counted(equal)} of equivalence could show margins of {shown} and would need {asked}")
    if others:
        short = sum(abs(_from_margin(row)) < reaches[row.id].smallest for row in others)
        said.append(f"{short} of {len(others)} effects seen are smaller than what is found with 80 % power")
    return counted + _list(rows) + "".join(f"\n    * {words}" for words in said)


def _counted(rows: Sequence[Row]) -> str:
    return f"{len(rows)} claim{'s' * (len(rows) != 1)}"


def _seeds(rows: Sequence[Row]) -> str:
    seeds = _span([row.seeds for row in rows])
    return f"{seeds} seed{'s' * (seeds != '1')}"


def _effect(row: Row) -> str:
    if row.effect is None:
        return "no value"
    if row.kind == "identity":
        return f"largest {row.effect:.3g}, tolerance {row.margin:g}"
    interval = "" if row.ci_low is None else f" [{row.ci_low:.3g}, {row.ci_high:.3g}]"
    asked = f", claimed {row.direction}" if row.direction else ""
    if row.margin is not None:
        asked = f", margin ±{row.margin:g}" if row.kind == "equivalence" else f"{asked} than {row.margin:g}"
    return f"{row.measure.replace('_', ' ')} {row.effect:+.3g}{interval}{asked}"


def _from_margin(row: Row) -> float | None:
    if row.effect is None:
        return None
    return row.effect - (row.margin or 0.0) if row.kind == "superiority" else row.effect


def _span(values: Iterable[float]) -> str:
    """The smallest and the largest, three digits; "" without values."""
    values = list(values)
    if not values:
        return ""
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    if all(float(value).is_integer() for value in values):
        low, high = str(int(min(values))), str(int(max(values)))
    return low if low == high else f"{low}–{high}"


def _levels(sample: Sample) -> str:
    """ "9 + 27": the units of each level of an interaction."""
    arms = sample.values.shape[1] // 2
    return " + ".join(str(int(np.sum(~np.isnan(half).any(axis=1)))) for half in np.split(sample.values, [arms], axis=1))

"""Which cell of which notebook shows a claim: its id in the notebook that a person opens.

A notebook says so itself by the tag `claim:<id>` of a cell. A tag would re-run a notebook of an hour, so the cells of
those that have none are known here, by words that stand in one cell of them alone. Ids are those of notebooks/, as the
links lead there: an executed notebook counts its cells anew, one higher after the cell of injected parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lib.claims.ledger import Claim
from lib.core.paths import ROOT

CURVES, TYPES = "figure = trade_off(", "figure = by_type("
MIXTURE, ATTENTION = "mixture_table(points)", "attention_rows("
WORDS: Mapping[str, str] = {
    "flowedit-11-toy": MIXTURE,
    "flowedit-14-alignment": CURVES,
    "flowedit-14-fidelity": CURVES,
    "flowedit-16-pose": TYPES,
    "flowedit-16-background": TYPES,
    "syncsde-3-flowedit": CURVES,
    "syncsde-3-fireflow": CURVES,
    "syncsde-6-alignment": CURVES,
    "syncsde-6-fidelity": CURVES,
    "syncsde-8-edited": TYPES,
    "syncsde-8-kept": TYPES,
    "syncsde-9-cost": MIXTURE,
    "lore-3-alignment": ATTENTION,
}


def source_cells(claims: Iterable[Claim], root: Path = ROOT) -> dict[str, str]:
    """Claim -> id of the cell of notebooks/<its notebook>.ipynb that shows it; only claims that have one."""
    read: dict[str, list[dict[str, Any]]] = {}
    found = {}
    for claim in claims:
        name = claim.test.notebook
        path = root / "notebooks" / f"{name}.ipynb"
        if claim.needs_weights or not path.is_file():
            continue
        if name not in read:
            read[name] = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if "id" in cell]
        if (cell := _cell_of(claim.id, read[name])) is not None:
            found[claim.id] = cell["id"]
    return found


def _cell_of(claim: str, cells: list[dict[str, Any]]) -> dict[str, Any] | None:
    for cell in cells:
        if f"claim:{claim}" in cell.get("metadata", {}).get("tags", []):
            return cell
    words = WORDS.get(claim)
    there = [cell for cell in cells if words and cell["cell_type"] == "code" and words in "".join(cell["source"])]
    return there[0] if len(there) == 1 else None

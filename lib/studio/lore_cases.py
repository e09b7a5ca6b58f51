"""Local edits for LORE: the world's or another benchmark's, with the ledger's columns, and its recipe per type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from lib.bench.cases import EditCase
from lib.bench.local import ADD, COLOUR, CONTENT, LOCAL, REMOVE, REPLACE, local_cases
from lib.bench.registry import open_benchmark
from lib.core.errors import InputError
from lib.editors.lore import LORE, RECIPES
from lib.studio.evaluation import WORLD, Evaluation, fitting, judged

if TYPE_CHECKING:
    from lib.backbones.base import Backbone

CLAIMED = (REPLACE, ADD, REMOVE)  # what LORE says it is for
RECIPE_OF = {REPLACE: "replace", ADD: "add", REMOVE: "remove", CONTENT: "replace", COLOUR: "replace"}


def local_evaluation(
    benchmark: str, folder: str, backbone: Backbone, *, split: str, cases: int, clip: str
) -> Evaluation:
    """`local_cases` of the world; elsewhere the first `cases` of each local type that allow LORE: a target object is
    told and the mask is neither empty nor full. See `evaluation_on`. InputError if no case allows it.
    """
    count = 1 if benchmark == WORLD else None  # the world is drawn anew below: here its parameters are checked
    found = open_benchmark(benchmark, folder=folder or None, split=split, count=count)
    if benchmark == WORLD:
        return judged(local_cases(split, cases), benchmark, clip, backbone)
    room = dict.fromkeys(LOCAL, cases)
    chosen = []
    for case in fitting(found, backbone):
        if room.get(case.edit_type) and "target_object" in case.extras and case.mask.any() and not case.mask.all():
            room[case.edit_type] -= 1
            chosen.append(replace(case, extras={"source_object": None, **case.extras}))
    if not chosen:
        expected = "a local edit with a mask and a target object"
        raise InputError(f"cases of benchmark {benchmark!r}", found=f"none of types {LOCAL}", expected=expected)
    return judged(chosen, benchmark, clip, backbone)


def with_columns(table: pd.DataFrame, cases: Sequence[EditCase]) -> pd.DataFrame:
    """Tidy scores with the columns of the ledger: `stratum` (edit type), `gap` (missing for most), `image`."""
    known = {case.id: case for case in cases}
    return table.assign(
        stratum=[known[name].edit_type for name in table["case"]],
        gap=[known[name].extras.get("gap") for name in table["case"]],
        image=[known[name].extras.get("image", name) for name in table["case"]],
    )


def recipe_for(edit_type: int, settings: LORE) -> dict[str, object]:
    """The released recipe for this type of edit, its steps in proportion: `settings.steps` are the one for adding."""
    recipe = RECIPES[RECIPE_OF[edit_type]]
    steps = max(1, round(settings.steps * recipe.steps / RECIPES["add"].steps))
    chosen = {"renoise": recipe.renoise, "iterations": recipe.iterations}
    return {"steps": steps, "inject": round(steps * recipe.inject / recipe.steps), **chosen}

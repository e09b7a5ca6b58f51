"""Local edits of the world as LORE takes them: a mask, the words it is for, replacements at three semantic gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from lib.bench.cases import EditCase
from lib.bench.registry import open_benchmark
from lib.bench.world import LICENCE, picture, world_cases
from lib.core.errors import InputError
from lib.editors.lore import LORE, RECIPES
from lib.studio.evaluation import WORLD, Evaluation, fitting, judged
from lib.world.edits import GAPS, Edit
from lib.world.instructions import instructions, kind_of
from lib.world.language import caption
from lib.world.scenes import sample_scene, scene_split
from lib.world.vocabulary import OBJECTS, PEOPLE, semantic_gap, tints_of

if TYPE_CHECKING:
    from lib.backbones.base import Backbone

REPLACE, ADD, REMOVE, CONTENT, COLOUR = LOCAL = (1, 2, 3, 4, 6)  # edit types that change a thing where it is
CLAIMED = (REPLACE, ADD, REMOVE)  # what LORE says it is for
RECIPE_OF = {REPLACE: "replace", ADD: "add", REMOVE: "remove", CONTENT: "replace", COLOUR: "replace"}
GROUND = "background"  # the word for what is to appear where a thing goes: LORE's recipe for removal


def words_of(case: EditCase) -> tuple[str, str | None]:
    """The words that the mask is for: in the target prompt, and in the source prompt (None: nothing was there).

    What appears and what it takes the place of: nouns, accessories, hair, a tint with its noun; for something that
    goes, the background. InputError for a case without a record or of another type.
    """
    before, changed = case.extras.get("before", {}), case.extras.get("changed", {})
    for name, new in changed.items():
        kind, _, slot = name.partition(".")
        old = before.get(name, "none")
        if kind == "tint":
            noun = before[f"object.{slot}"]
            return f"{new} {noun}", noun if old == "natural" else f"{old} {noun}"
        if kind in ("object", "accessory", "hair"):
            return (GROUND if new == "none" else new), (None if old == "none" else old)
    raise InputError(
        f"record of case {case.id!r}", found=f"changes of {list(changed) or 'nothing'}", expected="a thing's"
    )


def local_cases(split: str, count: int, *, seed: int = 0) -> list[EditCase]:
    """The world's local edits, whose masks are neither empty nor full: `count` per type, replacements at three gaps.

    `extras` also hold `target_object` (which LORE reads), `source_object` and `image`, the same for cases on one image.
    """
    others = [case for case in world_cases(split, 10 * count, seed=seed) if case.edit_type in LOCAL[1:]]
    cases = []
    for case in [*gap_cases(split, count, seed=seed), *others]:
        target, source = words_of(case)
        words = {"target_object": target, "source_object": source}
        cases.append(replace(case, extras={"image": case.id, **case.extras, **words}))
    return cases


def local_evaluation(
    benchmark: str, folder: str, backbone: Backbone, *, split: str, cases: int, clip: str
) -> Evaluation:
    """`local_cases` of the world; elsewhere the first `cases` of each local type that allow LORE: a target object is
    told and the mask is neither empty nor full. See `evaluation_on`. InputError if no case allows it.
    """
    if benchmark == WORLD:
        return judged(local_cases(split, cases), benchmark, clip, backbone)
    room = dict.fromkeys(LOCAL, cases)
    chosen = []
    for case in fitting(open_benchmark(benchmark, folder=folder or None, split=split), backbone):
        if room.get(case.edit_type) and "target_object" in case.extras and case.mask.any() and not case.mask.all():
            room[case.edit_type] -= 1
            chosen.append(replace(case, extras={"source_object": None, **case.extras}))
    if not chosen:
        expected = "a local edit with a mask and a target object"
        raise InputError(f"cases of benchmark {benchmark!r}", found=f"none of types {LOCAL}", expected=expected)
    return judged(chosen, benchmark, clip, backbone)


def gap_cases(split: str, scenes: int, *, seed: int = 0) -> list[EditCase]:
    """A stand-in for LORE's GapEdit: per scene three replacements, near, middle and far in the category tree.

    The three share picture and mask (where any of their right answers may differ); all targets belong to `split`.
    InputError for less than one scene.
    """
    if scenes < 1:
        raise InputError("number of scenes", found=scenes, expected="at least 1")
    rng = Random(f"gaps/{split}/{seed}")
    cases: list[EditCase] = []
    while len(cases) < scenes * len(GAPS):
        edits = _three_swaps(rng, split)
        if edits is None:
            continue
        image = f"gap-{split}-{seed}-{len(cases) // len(GAPS):05d}"
        mask = torch.from_numpy(np.logical_or.reduce([edit.mask() for edit in edits]))[None]
        cases += [
            EditCase(
                id=f"{image}-{edit.gap}",
                image=picture(edit.source),
                target_prompt=caption(edit.target),
                source_prompt=caption(edit.source),
                instruction=edit.instructions["brief"],
                mask=mask,
                target_image=picture(edit.target),
                edit_type=edit.edit_type,
                benchmark="world",
                licence=LICENCE,
                extras={
                    "changed": edit.changed,
                    "protected": edit.protected,
                    "before": edit.source.attributes(),
                    "gap": edit.gap,
                    "image": image,
                },
            )
            for edit in edits
        ]
    return cases


def _three_swaps(rng: Random, split: str) -> list[Edit] | None:
    """One drawn scene with its object replaced at each gap; None if the scene does not allow it."""
    scene = sample_scene(rng)
    thing = scene.things[0]
    if thing.noun in PEOPLE or scene_split(scene) not in (split, "train"):
        return None
    edits = []
    for gap in GAPS:
        fits = [
            n for n in OBJECTS if n != thing.noun and thing.tint in tints_of(n) and semantic_gap(thing.noun, n) == gap
        ]
        targets = [replace(scene, things=(replace(thing, noun=noun),)) for noun in fits]
        targets = [target for target in targets if scene_split(target) == split]
        if not targets:
            return None
        target = rng.choice(targets)
        new = target.things[0].noun
        words = instructions("object", old=thing.noun, new=new, kind=kind_of(new, thing.noun))
        edits.append(Edit(scene, target, REPLACE, words, (0,), gap=gap))
    return edits


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

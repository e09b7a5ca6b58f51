"""Edits of the world that change a thing where it is: a mask, the words it is for, replacements at three gaps."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np

from lib.bench.cases import EditCase
from lib.bench.world import as_case, world_cases
from lib.core.errors import InputError
from lib.world.edits import GAPS, Edit
from lib.world.instructions import instructions, kind_of
from lib.world.scenes import sample_scene, scene_split
from lib.world.vocabulary import OBJECTS, PEOPLE, semantic_gap, tints_of

REPLACE, ADD, REMOVE, CONTENT, COLOUR = LOCAL = (1, 2, 3, 4, 6)  # the edit types
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
        mask = np.logical_or.reduce([edit.mask() for edit in edits])
        cases += [as_case(edit, f"{image}-{edit.gap}", mask, image=image) for edit in edits]
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

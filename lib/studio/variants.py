"""The cases of the world under other prompts: both prompts short, the source prompt empty or in other words.

Pictures, masks and right answers stay; only what the editor is told changes. The order of cases and their ids stay too,
so that results pair with those of the cases as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lib.bench.cases import EditCase
from lib.core.errors import InputError
from lib.world.language import DROPPABLE, PLACE_PHRASES, caption, describe, describe_background
from lib.world.scenes import Scene, Thing


def short_prompts(cases: Sequence[EditCase]) -> list[EditCase]:
    """Both prompts say nouns, style and the kinds of attributes that the edit changes, and leave the others open.

    The two stay parallel: "a green cat on a background" to "a red cat on a background".
    """
    return [_shortened(case) for case in cases]


def empty_source(cases: Sequence[EditCase]) -> list[EditCase]:
    """No word about the source: the empty prompt, which models know from the dropout of their training."""
    return [replace(case, source_prompt="") for case in cases]


def paraphrased_source(cases: Sequence[EditCase]) -> list[EditCase]:
    """The source prompt in another order, the ground first: "a plain blue background with a big cat on the left".

    It says the same with the same words (the world's language is closed), in as many of them.
    """
    return [replace(case, source_prompt=ground_first(scene_of(_before(case)))) for case in cases]


SOURCES: dict[str, Callable[[Sequence[EditCase]], list[EditCase]]] = {
    "paraphrased": paraphrased_source,
    "empty": empty_source,
}


def same_prompt(cases: Sequence[EditCase]) -> list[EditCase]:
    """The source prompt as target prompt too: nothing is asked for."""
    return [replace(case, target_prompt=case.source_prompt or "") for case in cases]


def scene_of(attributes: Mapping[str, str]) -> Scene:
    """The scene of these `Scene.attributes`, what words leave open being 0: it has the caption of the one described."""
    things = []
    for slot in ("0", "1"):
        own = {name[:-2]: value for name, value in attributes.items() if name.endswith(f".{slot}")}
        if own.get("object", "none") != "none":
            things.append(Thing(own.pop("object"), **own))
    return Scene(tuple(things), **{name: attributes[name] for name in ("background", "pattern", "style")})


def ground_first(scene: Scene) -> str:
    """The caption with the ground before the things."""
    ground = describe_background(scene)
    if len(scene.things) > 1:
        left, right = (describe(thing, size=False) for thing in scene.things)
        return f"{ground} with {left} on the left and {right} on the right"
    (thing,) = scene.things
    return f"{ground} with {describe(thing)} {PLACE_PHRASES[thing.place].removesuffix(' of')}"


def _shortened(case: EditCase) -> EditCase:
    before = _before(case)
    changed = case.extras["changed"]
    silent = set(DROPPABLE) - {name.partition(".")[0] for name in changed}
    after = scene_of({**changed, **case.extras["protected"]})
    return replace(case, source_prompt=caption(scene_of(before), silent), target_prompt=caption(after, silent))


def _before(case: EditCase) -> Mapping[str, str]:
    """The attributes of the source. InputError for a case that does not know them."""
    absent = [name for name in ("before", "changed", "protected") if name not in case.extras]
    if absent:
        raise InputError(f"prompts of case {case.id}", found=f"no {', '.join(absent)}", expected="a case of the world")
    return case.extras["before"]

"""An edit is a change of the record; target picture, mask, attributes, instructions and questions all follow from it.

The ten types are PIE-Bench's: 0 random (two changes), 1 object, 2 add, 3 remove, 4 content (accessory; hair of people),
5 pose (place or size), 6 colour (tint), 7 material (the background's pattern), 8 background (its colour), 9 style.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from lib.core.errors import InputError
from lib.world.instructions import instructions, kind_of, question
from lib.world.language import describe
from lib.world.render import SIDE, render, silhouette
from lib.world.scenes import Scene, sample_scene, sample_thing, scene_split
from lib.world.vocabulary import (
    ACCESSORIES,
    BACKGROUNDS,
    HAIRS,
    OBJECTS,
    PAIR_PLACES,
    PATTERNS,
    PEOPLE,
    PLACES,
    SIZES,
    SPLITS,
    STYLES,
    semantic_gap,
    tints_of,
)

EDIT_TYPES = ("random", "object", "add", "remove", "content", "pose", "color", "material", "background", "style")
GAPS = ("near", "middle", "far")
PAIR_SHARE = 0.3  # share of two-object sources among the types that allow them


@dataclass(frozen=True)
class Edit:
    """Source and target scene, and what the change is called. `slots` change; so does the background if `ground`."""

    source: Scene
    target: Scene
    edit_type: int
    instructions: dict[str, str]
    slots: tuple[int, ...] = ()
    ground: bool = False
    gap: str | None = None

    @property
    def changed(self) -> dict[str, str]:
        """Attribute -> wanted value, for every attribute that the edit changes."""
        before = self.source.attributes()
        return {name: value for name, value in self.target.attributes().items() if before.get(name) != value}

    @property
    def protected(self) -> dict[str, str]:
        """Attribute -> value, for every attribute that must stay."""
        before = self.source.attributes()
        return {name: value for name, value in self.target.attributes().items() if before.get(name) == value}

    def mask(self) -> np.ndarray:
        """Where a right answer may differ from the source: bool [64, 64].

        Silhouettes of the changed things before and after, what is not fully covered if the background changes, the
        whole frame for a style, and every pixel that does differ.
        """
        if self.source.style != self.target.style:
            return np.ones((SIDE, SIDE), bool)
        may_change = (render(self.source) != render(self.target)).any(-1)
        for scene in (self.source, self.target):
            for slot in range(len(scene.things)):
                cover = silhouette(scene, slot)
                if slot in self.slots:
                    may_change |= cover > 0
                elif self.ground:
                    may_change |= (cover > 0) & (cover < 255)
        if self.ground:
            covers = [silhouette(s, i) for s in (self.source, self.target) for i in range(len(s.things))]
            may_change |= np.max(covers, axis=0) < 255
        return may_change

    def questions(self) -> list[tuple[str, str]]:
        """Yes/no questions, answered as the target picture answers them: new values, old ones, then what must stay."""
        before, after = self.source.attributes(), self.target.attributes()
        asked = [(question(name, value, after), "yes") for name, value in self.changed.items() if value != "none"]
        gone = ((name, before[name]) for name in self.changed if before.get(name, "none") != "none")
        asked += [
            (question(name, value, after), "no") for name, value in gone if name.startswith(("object", "background"))
        ]
        return asked + [
            (question(name, value, after), "yes") for name, value in self.protected.items() if value != "none"
        ]


def _other(rng: Random, values: Iterable[str], than: str) -> str:
    return rng.choice([value for value in values if value != than])


def _with_thing(scene: Scene, slot: int, **change: object) -> Scene:
    things = list(scene.things)
    things[slot] = replace(things[slot], **change)
    return replace(scene, things=tuple(things))


def _object_slots(scene: Scene) -> list[int]:
    return [slot for slot, thing in enumerate(scene.things) if thing.noun not in PEOPLE]


def _swap(rng: Random, scene: Scene, gap: str | None) -> Edit | None:
    """Another object of the wanted semantic gap, in the same tint, size and place."""
    slots = _object_slots(scene)
    if not slots:
        return None
    slot = rng.choice(slots)
    old = scene.things[slot]
    fits = [
        n for n in OBJECTS if n != old.noun and old.tint in tints_of(n) and semantic_gap(old.noun, n) == (gap or "far")
    ]
    if not fits:
        return None
    new = rng.choice(fits)
    words = instructions("object", old=old.noun, new=new, kind=kind_of(new, old.noun))
    return Edit(scene, _with_thing(scene, slot, noun=new), 1, words, (slot,), gap=gap)


def _random(rng: Random, scene: Scene, gap: str | None) -> Edit | None:
    swap = _swap(rng, scene, gap)
    if swap is None:
        return None
    ground = _background(rng, swap.target, None)
    old, new = (each.things[swap.slots[0]].noun for each in (scene, swap.target))
    words = instructions("random", old=old, new=new, kind=kind_of(new, old), ground=ground.target.background)
    return Edit(scene, ground.target, 0, words, swap.slots, ground=True, gap=swap.gap)


def _pair(rng: Random, scene: Scene) -> Scene | None:
    """A one-object scene and the same with a second thing on the right; the first one keeps its pixels."""
    thing = scene.things[0]
    moved = thing.dx + PLACES["left"][0] - PAIR_PLACES["left"][0]
    if (thing.size, thing.place, thing.accessory) != ("small", "left", "none") or not -2 <= moved <= 2:
        return None
    second = sample_thing(rng, size="small", place="right", accessories=False)
    return replace(scene, things=(replace(thing, dx=moved), second))


def _add(rng: Random, scene: Scene, gap: str | None) -> Edit | None:
    pair = _pair(rng, scene)
    if pair is None:
        return None
    words = instructions("add", new=describe(pair.things[1], size=False), side="right", thing=scene.things[0].noun)
    return Edit(scene, pair, 2, words, (1,))


def _remove(rng: Random, scene: Scene, gap: str | None) -> Edit | None:
    pair = _pair(rng, scene)
    if pair is None:
        return None
    words = instructions("remove", old=f"{pair.things[1].noun} on the right", thing=scene.things[0].noun)
    return Edit(pair, scene, 3, words, (1,))


def _content(rng: Random, scene: Scene, gap: str | None) -> Edit:
    thing = scene.things[0]
    if thing.noun in PEOPLE:
        hair = _other(rng, HAIRS, thing.hair)
        words = instructions("hair", thing=thing.noun, new=hair)
        return Edit(scene, _with_thing(scene, 0, hair=hair), 4, words, (0,))
    new = _other(rng, ACCESSORIES, thing.accessory)
    kind = "undress" if new == "none" else "accessory" if thing.accessory == "none" else "redress"
    words = instructions(kind, thing=thing.noun, new=new, old=thing.accessory)
    return Edit(scene, _with_thing(scene, 0, accessory=new), 4, words, (0,))


def _pose(rng: Random, scene: Scene, gap: str | None) -> Edit:
    thing, name = scene.things[0], rng.choice(["size", "place"])
    new = _other(rng, SIZES if name == "size" else PLACES, getattr(thing, name))
    words = instructions(name, thing=thing.noun, new=new, old=getattr(thing, name))
    return Edit(scene, _with_thing(scene, 0, **{name: new}), 5, words, (0,))


def _color(rng: Random, scene: Scene, gap: str | None) -> Edit | None:
    slots = _object_slots(scene)
    if not slots:
        return None
    slot = rng.choice(slots)
    thing = scene.things[slot]
    tint = _other(rng, (t for t in tints_of(thing.noun) if t != "natural"), thing.tint)
    words = instructions("tint", thing=thing.noun, new=tint)
    return Edit(scene, _with_thing(scene, slot, tint=tint), 6, words, (slot,))


def _scene_change(name: str, edit_type: int, values: Iterable[str]) -> Callable[[Random, Scene, str | None], Edit]:
    """A change of one attribute of the whole scene: background, pattern or style."""

    def change(rng: Random, scene: Scene, gap: str | None) -> Edit:
        old = getattr(scene, name)
        new = _other(rng, values, old)
        words = instructions(name, new=new, old=old, thing=scene.things[0].noun)
        return Edit(scene, replace(scene, **{name: new}), edit_type, words, ground=True)

    return change


_background = _scene_change("background", 8, BACKGROUNDS)
MAKERS: tuple[Callable[[Random, Scene, str | None], Edit | None], ...] = (
    _random,
    _swap,
    _add,
    _remove,
    _content,
    _pose,
    _color,
    _scene_change("pattern", 7, PATTERNS),
    _background,
    _scene_change("style", 9, STYLES),
)
TYPES_WITH_PAIRS = (1, 6, 7, 8, 9)


def _has_twins(scene: Scene) -> bool:
    """Two things of one name: "the cat" of an instruction or a question could be either."""
    return len({thing.noun for thing in scene.things}) < len(scene.things)


def sample_edits(split: str, count: int, *, seed: int = 0) -> Iterator[Edit]:
    """`count` edits, the ten types in turn, the gaps in turn within types 0 and 1; the same on every run.

    The target scene belongs to `split` and the source to `split` or to "train": the answer is a composition never
    trained on. Neither scene shows two things of one name.

    Raises:
        InputError: for an unknown split.
    """
    if split not in SPLITS:
        raise InputError("world split", found=repr(split), expected=f"one of {', '.join(SPLITS)}")
    rng = Random(f"edits/{split}/{seed}")
    for index in range(count):
        edit_type = index % len(MAKERS)
        gap = GAPS[index // len(MAKERS) % len(GAPS)] if edit_type < 2 else None
        edit = None
        while edit is None:
            objects = 2 if edit_type in TYPES_WITH_PAIRS and rng.random() < PAIR_SHARE else 1
            edit = MAKERS[edit_type](rng, sample_scene(rng, objects), gap)
            if edit and (scene_split(edit.target) != split or scene_split(edit.source) not in (split, "train")):
                edit = None
            if edit and (_has_twins(edit.source) or _has_twins(edit.target)):
                edit = None
        yield edit

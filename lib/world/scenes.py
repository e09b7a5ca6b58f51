"""A scene is a record.

What its words leave open (jitter, angle, tone, phase) is kept in it too, so it has exactly one picture.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice, repeat
from random import Random

from lib.core.errors import InputError
from lib.world.vocabulary import (
    ACCESSORIES,
    BACKGROUNDS,
    HAIRS,
    HELD_OUT_IDENTITIES,
    OBJECTS,
    PAIR_PLACES,
    PATTERNS,
    PEOPLE,
    PLACES,
    SIZES,
    SKINS,
    SPLITS,
    STYLES,
    tints_of,
)

PERSON_SHARE = 0.12  # share of objects that are people
ACCESSORY_SHARE = 0.3  # share of single objects that wear something
STYLE_SHARE = 0.3  # share of scenes in a style other than normal
NATURAL_SHARE = 0.4  # share of objects in their own colours


@dataclass(frozen=True)
class Thing:
    """One named object. Words: noun, tint, size, place, accessory, and skin and hair of people. The rest is free."""

    noun: str
    tint: str = "natural"
    size: str = "big"
    place: str = "center"
    accessory: str = "none"
    skin: str | None = None
    hair: str | None = None
    dx: int = 0  # pixels, -2..2
    dy: int = 0  # pixels, -2..2
    angle: int = 0  # degrees, one of -10, -5, 0, 5, 10

    @property
    def sprite(self) -> str:
        """File stem of the sprite under data/sprites."""
        return f"{self.noun}_{self.skin}_{self.hair}" if self.noun in PEOPLE else self.noun


@dataclass(frozen=True)
class Scene:
    """One or two things (left to right) over a patterned background, seen through a style."""

    things: tuple[Thing, ...]
    background: str
    pattern: str = "plain"
    style: str = "normal"
    tone: tuple[int, int, int] = (0, 0, 0)  # added to the background colour, -10..10 per channel
    phase: tuple[int, int] = (0, 0)  # shift of the pattern in pixels, 0..15

    def attributes(self) -> dict[str, str]:
        """Everything that words can say about the scene: `background`, `pattern`, `style`, and per slot i, left to
        right,
        `object.i`, `tint.i`, `size.i`, `place.i`, `accessory.i`, for people `skin.i`, `hair.i`. One object:
        `object.1` is "none"."""
        found = {"background": self.background, "pattern": self.pattern, "style": self.style}
        for slot, thing in enumerate(self.things):
            found |= thing_attributes(thing, slot)
        return found if len(self.things) > 1 else found | {"object.1": "none"}


def thing_attributes(thing: Thing, slot: int) -> dict[str, str]:
    """The part of `Scene.attributes` that belongs to one slot."""
    if thing.noun in PEOPLE:
        return {
            f"object.{slot}": thing.noun,
            f"skin.{slot}": thing.skin,
            f"hair.{slot}": thing.hair,
            f"size.{slot}": thing.size,
            f"place.{slot}": thing.place,
        }
    names = ("tint", "size", "place", "accessory")
    return {f"object.{slot}": thing.noun} | {f"{name}.{slot}": getattr(thing, name) for name in names}


def composition_split(noun: str, tint: str, background: str) -> str:
    """Split of one (object, tint, background) combination: about 10 % test, 10 % tune, the rest train."""
    bucket = int.from_bytes(blake2b(f"{noun}|{tint}|{background}".encode(), digest_size=4).digest(), "big") % 20
    return "test" if bucket < 2 else "tune" if bucket < 4 else "train"


def thing_split(thing: Thing, background: str) -> str:
    """Split of a thing over a background; people are split by identity alone."""
    if thing.noun not in PEOPLE:
        return composition_split(thing.noun, thing.tint, background)
    identity = (thing.noun, thing.skin, thing.hair)
    return next((split for split, held_out in HELD_OUT_IDENTITIES.items() if identity in held_out), "train")


def scene_split(scene: Scene) -> str:
    """ "test" if any thing is a held-out test combination, else "tune" if any is one, else "train"."""
    splits = {thing_split(thing, scene.background) for thing in scene.things}
    return next((split for split in ("test", "tune") if split in splits), "train")


def _pick(rng: Random, values: Iterable[str], usual: str, share: float) -> str:
    """`usual` with probability 1 - share, else one of the other values."""
    return usual if rng.random() >= share else rng.choice([v for v in values if v != usual])


def sample_thing(rng: Random, *, size: str, place: str, accessories: bool) -> Thing:
    """A random thing of the given size and place."""
    free = {"dx": rng.randint(-2, 2), "dy": rng.randint(-2, 2), "angle": 5 * rng.randint(-2, 2)}
    if rng.random() < PERSON_SHARE:
        words = {"noun": rng.choice(list(PEOPLE)), "skin": rng.choice(list(SKINS)), "hair": rng.choice(list(HAIRS))}
    else:
        noun = rng.choice(OBJECTS)
        tint = _pick(rng, tints_of(noun), "natural", 1 - NATURAL_SHARE)
        accessory = _pick(rng, ACCESSORIES, "none", ACCESSORY_SHARE) if accessories else "none"
        words = {"noun": noun, "tint": tint, "accessory": accessory}
    return Thing(**words, size=size, place=place, **free)


def sample_scene(rng: Random, objects: int = 1) -> Scene:
    """A random scene of one or two objects, of any split."""
    if objects == 1:
        size, place = rng.choice(list(SIZES)), rng.choice(list(PLACES))
        things = (sample_thing(rng, size=size, place=place, accessories=True),)
    else:
        things = tuple(sample_thing(rng, size="small", place=place, accessories=False) for place in PAIR_PLACES)
    return Scene(
        things,
        background=rng.choice(list(BACKGROUNDS)),
        pattern=rng.choice(PATTERNS),
        style=_pick(rng, STYLES, "normal", STYLE_SHARE),
        tone=(rng.randint(-10, 10), rng.randint(-10, 10), rng.randint(-10, 10)),
        phase=(rng.randint(0, 15), rng.randint(0, 15)),
    )


def sample_scenes(split: str, count: int, *, objects: int = 1, seed: int = 0) -> Iterator[Scene]:
    """`count` scenes of one split, the same on every run. For "train" no thing is a held-out combination.

    Raises:
        InputError: for an unknown split, before the first scene is asked for.
    """
    if split not in SPLITS:
        raise InputError("split of scenes", found=repr(split), expected=f"one of {', '.join(SPLITS)}")
    rng = Random(f"{split}/{objects}/{seed}")
    drawn = (sample_scene(rng, objects) for _ in repeat(None))
    return islice((scene for scene in drawn if scene_split(scene) == split), count)

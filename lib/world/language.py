"""The language of the world: captions, a function of the record. Trainings read this file; instructions have their own.

caption := thing [ "on the left and" thing "on the right of" | PLACE ] ground
ground := "a" PATTERN COLOUR "background" [ "in" STYLE "style" ]
"""

from collections.abc import Iterable
from random import Random

from lib.world.scenes import Scene, Thing
from lib.world.vocabulary import (
    ACCESSORIES,
    AN,
    BACKGROUNDS,
    HAIRS,
    NOUNS,
    PATTERNS,
    PEOPLE,
    PLACES,
    SIZES,
    SKINS,
    STYLES,
    TINTS,
)

PLACE_PHRASES = {
    "left": "on the left of",
    "right": "on the right of",
    "center": "in the center of",
    "top": "at the top of",
    "bottom": "at the bottom of",
}
MAX_WORDS = 23  # the longest caption; with the end token it fills the text encoder's 24 positions
DROPPABLE = ("tint", "size", "place", "accessory", "background", "pattern", "skin", "hair")


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an" before it."""
    return f"{'an' if phrase.partition(' ')[0] in AN else 'a'} {phrase}"


def describe(thing: Thing, *, size: bool = True, silent: frozenset[str] = frozenset()) -> str:
    """Noun phrase of a thing without its place: "a big golden cat with a hat". `silent` attributes are left out."""
    words = [thing.size] if size and "size" not in silent else []
    if thing.noun in PEOPLE:
        words += [thing.skin] if "skin" not in silent else []
        words += [thing.hair] if "hair" not in silent else []
    elif thing.tint != "natural" and "tint" not in silent:
        words.append(thing.tint)
    worn = f" with a {thing.accessory}" if thing.accessory != "none" and "accessory" not in silent else ""
    return with_article(" ".join([*words, thing.noun])) + worn


def describe_background(scene: Scene, silent: frozenset[str] = frozenset()) -> str:
    """Noun phrase of the background: "a striped blue background in ink style"."""
    words = [scene.pattern] if "pattern" not in silent else []
    words += [scene.background] if "background" not in silent else []
    style = f" in {scene.style} style" if scene.style != "normal" else ""
    return with_article(" ".join([*words, "background"])) + style


def caption(scene: Scene, silent: Iterable[str] = ()) -> str:
    """The caption of a scene. Attributes named in `silent` (of DROPPABLE) are left open."""
    silent = frozenset(silent)
    ground = describe_background(scene, silent)
    if len(scene.things) > 1:
        left, right = (describe(thing, size=False, silent=silent) for thing in scene.things)
        return f"{left} on the left and {right} on the right of {ground}"
    thing = scene.things[0]
    where = "on" if "place" in silent else PLACE_PHRASES[thing.place]
    return f"{describe(thing, silent=silent)} {where} {ground}"


def training_caption(scene: Scene, rng: Random, drop: float = 0.15) -> str:
    """A caption for training: with probability `drop` one to four attributes are left unsaid, as in short prompts."""
    silent = rng.sample(DROPPABLE, rng.randint(1, 4)) if rng.random() < drop else ()
    return caption(scene, silent)


def vocabulary() -> list[str]:
    """Every word of captions, instructions' nouns and questions, sorted: what a tokenizer must keep whole."""
    closed = ("a", "an", "of", "on", "in", "at", "the", "and", "with", "background", "style")
    lists = (NOUNS, TINTS, SIZES, PLACES, ACCESSORIES, BACKGROUNDS, PATTERNS, STYLES, SKINS, HAIRS)
    return sorted({*closed, *(word for words in lists for word in words)})

"""The language of the world: captions, instructions and yes/no questions, all functions of the record.

caption := thing [ "on the left and" thing "on the right of" | PLACE ] ground
ground := "a" PATTERN COLOUR "background" [ "in" STYLE "style" ]
"""

from collections.abc import Iterable, Mapping
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
    category,
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


# (brief, expressive, ambiguous): {old}, {new} are words, {thing} the object before the edit, {kind} a phrase.
INSTRUCTIONS: dict[str, tuple[str, str, str]] = {
    "object": (
        "turn the {old} into {a_new}",
        "I had hoped to find {a_new} where the {old} is; could you swap them and leave the rest alone?",
        "put {kind} in place of the {old}",
    ),
    "random": (
        "turn the {old} into {a_new} and make the background {ground}",
        "I had hoped for {a_new} where the {old} is, and for {a_ground} background; could you see to both?",
        "put {kind} in place of the {old} and change the background color",
    ),
    "tint": (
        "make the {thing} {new}",
        "the {thing} would look so much better in {new}, everything else may stay as it is",
        "give the {thing} another color",
    ),
    "hair": (
        "make the {thing} {new}",
        "I had always pictured the {thing} {new}, everything else may stay as it is",
        "give the {thing} another hairstyle",
    ),
    "size": (
        "make the {thing} {new}",
        "I imagine the {thing} {new} instead of {old}, at the same spot",
        "change the size of the {thing}",
    ),
    "place": (
        "move the {thing} to the {new}",
        "the {thing} feels lost at the {old}; I would love to see it at the {new}",
        "move the {thing} somewhere else",
    ),
    "accessory": (
        "give the {thing} a {new}",
        "the {thing} is off to a party: what it needs now is a {new}, please",
        "dress the {thing} up",
    ),
    "redress": (
        "take the {old} off the {thing} and give it {a_new}",
        "that {old} does not suit the {thing} at all: what it needs instead is {a_new}, please",
        "let the {thing} wear something else",
    ),
    "background": (
        "make the background {new}",
        "I am tired of the {old} background, let it shine in {new} while the rest stays",
        "change the background color",
    ),
    "pattern": (
        "make the background {new}",
        "instead of a {old} backdrop I would like a {new} one in the same color",
        "give the background another texture",
    ),
    "style": (
        "show it in {new} style",
        "redo the whole picture as if it had been made in {new} style",
        "give the picture another look",
    ),
    "add": (
        "add {new} on the {side}",
        "the {thing} looks lonely, so please put {new} beside it on the {side}",
        "add something next to the {thing}",
    ),
    "remove": (
        "remove the {old}",
        "please take the {old} away, as if it had never been there",
        "leave only the {thing}",
    ),
    "undress": (
        "take the {old} off the {thing}",
        "the {thing} has worn that {old} long enough, let it go bare-headed",
        "make the {thing} look plainer",
    ),
}
TONES = ("brief", "expressive", "ambiguous")


def instructions(change: str, **words: str) -> dict[str, str]:
    """The three instructions of a change (a key of INSTRUCTIONS), by tone.

    Words as the change needs them: old, new, thing, side, kind, ground.
    """
    words |= {f"a_{name}": with_article(words[name]) for name in ("new", "ground") if name in words}
    return {tone: text.format(**words) for tone, text in zip(TONES, INSTRUCTIONS[change], strict=True)}


QUESTIONS = {
    "object": "Is there {value} in the picture?",
    "tint": "Is the {noun} {value}?",
    "size": "Is the {noun} {value}?",
    "place": "Is the {noun} at the {value}?",
    "accessory": "Does the {noun} wear a {value}?",
    "skin": "Is the {noun} {value}?",
    "hair": "Is the {noun} {value}?",
    "background": "Is the background {value}?",
    "pattern": "Is the background {value}?",
    "style": "Is the picture in {value} style?",
}


def question(name: str, value: str, attributes: Mapping[str, str]) -> str:
    """A yes/no question on one attribute (`object.0`, `background`, …); `attributes` names the object it is about."""
    kind, _, slot = name.partition(".")
    said = with_article(value) if kind == "object" else "its own color" if value == "natural" else value
    return QUESTIONS[kind].format(value=said, noun=attributes.get(f"object.{slot}", ""))


def kind_of(noun: str, than: str) -> str:
    """What an ambiguous instruction calls a noun in place of `than`: "a fruit", "another fruit" if `than` is one."""
    kind = category(noun)[1]
    words = "thing from the sky" if kind == "weather" else kind
    return f"another {words}" if kind == category(than)[1] else with_article(words)

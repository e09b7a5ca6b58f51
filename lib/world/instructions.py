"""What is said about an edit besides captions: instructions in three tones, yes/no questions."""

from collections.abc import Mapping

from lib.world.language import with_article
from lib.world.vocabulary import category

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

"""The words of the world: every attribute has a closed list of values, and every value has a word.

A change of any table here changes the pictures or the language and so invalidates every trained checkpoint.
"""

from itertools import product

# The category tree. Two nouns are `near` if they share the leaf, `middle` if they share the branch, else `far`.
CATEGORIES: dict[str, dict[str, dict[str, str]]] = {
    "living": {
        "mammal": {"cat": "🐱", "dog": "🐶", "panda": "🐼", "pig": "🐷"},
        "creature": {"frog": "🐸", "fish": "🐠", "bird": "🐦", "butterfly": "🦋"},
        "plant": {"tree": "🌲", "cactus": "🌵", "sunflower": "🌻", "mushroom": "🍄"},
    },
    "food": {
        "fruit": {"apple": "🍎", "banana": "🍌", "strawberry": "🍓", "watermelon": "🍉"},
        "dish": {"cupcake": "🧁", "pizza": "🍕", "donut": "🍩", "burger": "🍔"},
    },
    "made": {
        "vehicle": {"car": "🚗", "bus": "🚌", "boat": "⛵", "rocket": "🚀"},
        "thing": {"crown": "👑", "guitar": "🎸", "umbrella": "☂️", "clock": "⏰"},
    },
    "sky": {
        "weather": {"star": "⭐", "moon": "🌙", "sun": "🌞", "cloud": "☁️"},
    },
}
OBJECTS: tuple[str, ...] = tuple(n for branch in CATEGORIES.values() for leaf in branch.values() for n in leaf)
AN = ("apple", "umbrella", "orange")  # words that take "an"

# People: the identity track. A sprite is (person, skin, hair); its emoji is base + tone + joiner + hair.
PEOPLE = {"man": "👨", "woman": "👩"}
SKINS = {"light-skinned": "🏻", "medium-skinned": "🏽", "dark-skinned": "🏿"}
HAIRS = {"red-haired": "🦰", "curly-haired": "🦱", "white-haired": "🦳", "bald": "🦲"}
IDENTITIES: tuple[tuple[str, str, str], ...] = tuple(product(PEOPLE, SKINS, HAIRS))
HELD_OUT_IDENTITIES = {  # fixed by hand so that every person, skin and hair is also seen in training
    "test": {("man", "light-skinned", "curly-haired"), ("man", "dark-skinned", "white-haired"),
             ("woman", "medium-skinned", "red-haired"), ("woman", "dark-skinned", "bald")},
    "tune": {("man", "medium-skinned", "bald"), ("woman", "light-skinned", "white-haired")},
}  # fmt: skip

NOUNS: tuple[str, ...] = (*OBJECTS, *PEOPLE)
TINTS: dict[str, tuple[int, int, int] | None] = {  # "natural" has no word: the sprite's own colours
    "natural": None,
    "red": (225, 40, 45),
    "golden": (240, 180, 20),
    "green": (40, 170, 60),
    "blue": (45, 90, 230),
    "purple": (150, 60, 210),
    "gray": (135, 135, 140),
}
OWN_TINT = {  # tints that a noun's own colours already come close to: never drawn, or two words would name one picture
    "cat": ("golden",), "frog": ("green",), "bird": ("blue",), "fish": ("golden",), "tree": ("green",),
    "cactus": ("green",),
    "sunflower": ("golden",), "mushroom": ("red",), "apple": ("red",), "banana": ("golden",), "strawberry": ("red",),
    "pizza": ("golden",), "burger": ("golden",), "bus": ("gray",), "car": ("red",), "crown": ("golden",),
    "guitar": ("red",),
    "umbrella": ("purple", "blue"), "star": ("golden",), "moon": ("golden",), "sun": ("golden",), "cloud": ("gray",),
    "panda": ("gray",), "clock": ("red",), "boat": ("red",), "watermelon": ("red",),
}  # fmt: skip
SIZES = {"small": 28, "big": 40}  # side of the sprite in pixels of the 64-pixel frame
PAIR_SIZE = 28  # two objects share the frame: both are small, and the caption leaves size out
PLACES = {"left": (18, 34), "center": (32, 34), "right": (46, 34), "top": (32, 22), "bottom": (32, 43)}  # centre (x, y)
PAIR_PLACES = {"left": (16, 34), "right": (48, 34)}
ACCESSORIES = {"none": None, "hat": "🎩", "bow": "🎀"}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "red": (222, 92, 88),
    "orange": (240, 160, 80),
    "yellow": (242, 224, 110),
    "green": (120, 200, 120),
    "blue": (110, 160, 236),
    "purple": (176, 130, 220),
    "pink": (246, 176, 206),
    "gray": (160, 164, 170),
}
PATTERNS = ("plain", "striped", "dotted", "checkered")
STYLES = ("normal", "ink", "spotlight", "scanline")

SPLITS = ("train", "tune", "test")


def tints_of(noun: str) -> tuple[str, ...]:
    """The tints that a noun may have: all but those that look like its own colours."""
    return tuple(tint for tint in TINTS if tint not in OWN_TINT.get(noun, ()))


def category(noun: str) -> tuple[str, str]:
    """(branch, leaf) of a noun in the category tree; people are ("living", "person")."""
    if noun in PEOPLE:
        return "living", "person"
    return next((b, leaf) for b, leaves in CATEGORIES.items() for leaf, names in leaves.items() if noun in names)


def semantic_gap(one: str, other: str) -> str:
    """Distance of two nouns in the category tree: "near" (same leaf), "middle" (same branch) or "far"."""
    (branch, leaf), (other_branch, other_leaf) = category(one), category(other)
    return "near" if leaf == other_leaf else "middle" if branch == other_branch else "far"

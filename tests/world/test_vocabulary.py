from itertools import combinations

from lib.world.vocabulary import (
    ACCESSORIES,
    BACKGROUNDS,
    HAIRS,
    NOUNS,
    OBJECTS,
    OWN_TINT,
    PATTERNS,
    PEOPLE,
    PLACES,
    SIZES,
    SKINS,
    STYLES,
    TINTS,
    category,
    semantic_gap,
    tints_of,
)


def test_a_word_of_a_thing_names_one_attribute_only():
    """Tints and backgrounds share colours, which the caption tells apart by position; nothing else is shared."""
    kinds = [NOUNS, TINTS, SIZES, ACCESSORIES, SKINS, HAIRS, PATTERNS, STYLES, PLACES]
    for one, other in combinations(kinds, 2):
        assert set(one) & set(other) <= {"none"}
    assert not set(BACKGROUNDS) & {*NOUNS, *SIZES, *PATTERNS, *STYLES, *SKINS, *HAIRS}
    assert len(set(NOUNS)) == len(NOUNS)


def test_the_gap_follows_the_tree():
    assert semantic_gap("cat", "dog") == "near"
    assert semantic_gap("cat", "frog") == semantic_gap("cat", "man") == "middle"
    assert semantic_gap("cat", "pizza") == semantic_gap("cloud", "boat") == "far"
    for one, other in combinations(NOUNS, 2):
        assert semantic_gap(one, other) == semantic_gap(other, one)
    assert {category(person) for person in PEOPLE} == {("living", "person")}


def test_every_object_has_partners_at_every_gap_it_can_have():
    for noun in OBJECTS:
        gaps = {semantic_gap(noun, other) for other in OBJECTS if other != noun}
        assert {"near", "far"} <= gaps
        assert ("middle" in gaps) == (category(noun)[0] != "sky")  # the sky has one leaf


def test_tints_leave_out_a_nouns_own_colours():
    assert set(OWN_TINT) <= set(OBJECTS)
    for noun in OBJECTS:
        left = tints_of(noun)
        assert left[0] == "natural"
        assert set(TINTS) - set(left) == set(OWN_TINT.get(noun, ()))
        assert len(left) >= 5

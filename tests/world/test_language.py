import re
from dataclasses import replace
from random import Random

import pytest

from lib.world.instructions import INSTRUCTIONS, instructions, kind_of, question
from lib.world.language import DROPPABLE, MAX_WORDS, caption, describe, training_caption, vocabulary, with_article
from lib.world.scenes import Scene, Thing, sample_scenes
from lib.world.vocabulary import ACCESSORIES, BACKGROUNDS, HAIRS, NOUNS, PATTERNS, PLACES, SIZES, SKINS, STYLES, TINTS

WRONG_ARTICLE = re.compile(r"\ba (?=[aeiou])|\ban (?![aeiou])", re.IGNORECASE)
CAT = Scene((Thing("cat", tint="golden", accessory="hat", place="left"),), "orange", "striped", "ink")
WOMAN = Thing("woman", skin="dark-skinned", hair="bald", place="top")
PAIR = Scene(
    (Thing("apple", tint="blue", size="small", place="left"), replace(WOMAN, size="small", place="right")), "pink"
)
SAMPLE = [scene for split in ("train", "test") for n in (1, 2) for scene in sample_scenes(split, 100, objects=n)]


def test_captions_read_as_the_design_says():
    assert caption(CAT) == "a big golden cat with a hat on the left of a striped orange background in ink style"
    assert caption(replace(CAT, things=(WOMAN,), style="normal")) == (
        "a big dark-skinned bald woman at the top of a striped orange background"
    )
    assert (
        caption(PAIR)
        == "a blue apple on the left and a dark-skinned bald woman on the right of a plain pink background"
    )


@pytest.mark.parametrize(
    ("silent", "wanted"),
    [
        ("tint", "a big cat with a hat on the left of a striped orange background in ink style"),
        ("size", "a golden cat with a hat on the left of a striped orange background in ink style"),
        ("place", "a big golden cat with a hat on a striped orange background in ink style"),
        ("accessory", "a big golden cat on the left of a striped orange background in ink style"),
        ("background", "a big golden cat with a hat on the left of a striped background in ink style"),
        ("pattern", "a big golden cat with a hat on the left of an orange background in ink style"),
        ("skin", caption(CAT)),
        ("hair", caption(CAT)),
    ],
)
def test_what_is_silent_is_left_open(silent, wanted):
    assert caption(CAT, [silent]) == wanted


def test_people_may_keep_skin_and_hair_to_themselves():
    scene = replace(CAT, things=(WOMAN,))
    assert caption(scene, ["skin"]).startswith("a big bald woman at")
    assert caption(scene, ["hair", "size"]).startswith("a dark-skinned woman at")


def test_all_silent_at_once_still_reads():
    assert caption(CAT, DROPPABLE) == "a cat on a background in ink style"
    assert caption(PAIR, DROPPABLE) == "an apple on the left and a woman on the right of a background"


def test_each_attribute_is_heard():
    """Two scenes that differ in one attribute have two captions."""
    fields = {"background": BACKGROUNDS, "pattern": PATTERNS, "style": STYLES}
    things = {"noun": NOUNS[:-2], "tint": TINTS, "size": SIZES, "place": PLACES, "accessory": ACCESSORIES}
    for name, values in (fields | things).items():
        change = (
            (lambda value, name=name: replace(CAT, **{name: value}))
            if name in fields
            else (lambda value, name=name: replace(CAT, things=(replace(CAT.things[0], **{name: value}),)))
        )
        assert len({caption(change(value)) for value in values}) == len(values)
    for name, values in {"skin": SKINS, "hair": HAIRS}.items():
        said = {caption(replace(CAT, things=(replace(WOMAN, **{name: value}),))) for value in values}
        assert len(said) == len(values)


def test_captions_hold_only_words_of_the_vocabulary():
    words = set(vocabulary())
    rng = Random(1)
    for scene in SAMPLE:
        assert set(caption(scene).split()) <= words
        assert set(training_caption(scene, rng, 1.0).split()) <= words
    assert sorted(words) == vocabulary()


def test_the_longest_caption_has_max_words():
    person = Thing("man", size="small", place="left", skin="light-skinned", hair="red-haired")
    longest = Scene((person, replace(person, place="right")), "blue", "striped", "ink")
    assert len(caption(longest).split()) == MAX_WORDS
    assert max(len(caption(scene).split()) for scene in SAMPLE) <= MAX_WORDS


def test_training_captions_leave_out_attributes_as_often_as_asked():
    rng = Random(0)
    whole = [caption(scene) for scene in SAMPLE]
    assert [training_caption(scene, rng, 0.0) for scene in SAMPLE] == whole
    said = [training_caption(scene, Random(i), 1.0) for i, scene in enumerate(SAMPLE)]
    assert said == [training_caption(scene, Random(i), 1.0) for i, scene in enumerate(SAMPLE)]
    shorter = [len(one.split()) < len(other.split()) for one, other in zip(said, whole, strict=True)]
    assert sum(shorter) > 0.75 * len(whole)
    assert all(len(one.split()) <= len(other.split()) for one, other in zip(said, whole, strict=True))


def test_articles_follow_the_sound():
    assert with_article("orange background") == "an orange background"
    assert with_article("big apple") == "a big apple"
    rng = Random(2)
    for scene in SAMPLE:
        for text in (caption(scene), *(training_caption(scene, rng, 1.0) for _ in range(4))):
            assert not WRONG_ARTICLE.search(text), text
    for word in (*NOUNS, *TINTS, *ACCESSORIES, *BACKGROUNDS, *PATTERNS, *SIZES, *SKINS, *HAIRS):
        assert not WRONG_ARTICLE.search(with_article(word)), word


def test_describe_can_leave_the_size_out():
    assert describe(CAT.things[0], size=False) == "a golden cat with a hat"
    assert describe(Thing("umbrella"), size=False) == "an umbrella"


@pytest.mark.parametrize("change", INSTRUCTIONS)
def test_every_instruction_can_be_filled_in(change):
    names = ("old", "new", "thing", "side", "kind", "ground")
    said = instructions(change, **{name: f"<{name}>" for name in names})
    assert list(said) == ["brief", "expressive", "ambiguous"]
    assert len(set(said.values())) == 3
    assert all("{" not in text for text in said.values())
    assert "new>" not in said["ambiguous"]


def test_an_ambiguous_swap_names_the_kind_that_comes():
    assert kind_of("banana", than="apple") == "another fruit"
    assert kind_of("banana", than="cat") == "a fruit"
    assert kind_of("moon", than="sun") == "another thing from the sky"
    for noun in NOUNS:
        assert not WRONG_ARTICLE.search(kind_of(noun, than="man"))


def test_questions_are_about_the_thing_in_the_slot():
    after = PAIR.attributes()
    assert question("object.0", "apple", after) == "Is there an apple in the picture?"
    assert question("tint.0", "natural", after) == "Is the apple its own color?"
    assert question("hair.1", "bald", after) == "Is the woman bald?"
    assert question("pattern", "plain", after) == "Is the background plain?"
    asked = [question(name, value, after) for name, value in after.items() if value != "none"]
    assert len(set(asked)) == len(asked)

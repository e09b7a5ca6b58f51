"""Prompt variants: what they say, what they leave open, and that they leave all else alone."""

import pytest

from lib.bench.cases import EditCase
from lib.bench.world import world_cases
from lib.core.errors import InputError
from lib.studio.variants import empty_source, ground_first, paraphrased_source, same_prompt, scene_of, short_prompts
from lib.world.language import MAX_WORDS, caption, vocabulary
from lib.world.scenes import Scene, Thing, sample_scenes
from lib.world.vocabulary import BACKGROUNDS, HAIRS, PATTERNS, SKINS

CASES, EXAMPLES = world_cases("tune", 60), world_cases("test", 10)


@pytest.mark.parametrize("objects", [1, 2])
def test_a_scene_is_read_back_from_its_attributes(objects):
    for scene in sample_scenes("train", 80, objects=objects):
        again = scene_of(scene.attributes())
        assert again.attributes() == scene.attributes()
        assert caption(again) == caption(scene)


def test_the_ground_comes_first():
    cat = Thing("cat", tint="golden", size="big", place="left", accessory="hat")
    scene = Scene((cat,), background="blue", pattern="striped", style="ink")
    assert ground_first(scene) == "a striped blue background in ink style with a big golden cat with a hat on the left"
    pair = Scene((Thing("cat", size="small", place="left"), Thing("dog", size="small", place="right")), "red")
    assert ground_first(pair) == "a plain red background with a cat on the left and a dog on the right"


def test_a_paraphrase_says_the_same_within_the_language():
    known = set(vocabulary())
    for case, other in zip(CASES, paraphrased_source(CASES), strict=True):
        words, said = other.source_prompt.split(), case.source_prompt.split()
        assert other.source_prompt != case.source_prompt
        assert set(words) <= known and len(words) <= MAX_WORDS
        assert set(words) - {"with", "a", "an"} == set(said) - {"of", "with", "a", "an"}
        assert other.target_prompt == case.target_prompt


def test_short_prompts_say_what_changes_and_nothing_more():
    of_kind = {"background": set(BACKGROUNDS), "pattern": set(PATTERNS), "hair": set(HAIRS), "skin": set(SKINS)}
    for case, short in zip(CASES, short_prompts(CASES), strict=True):
        said, detailed = set(short.target_prompt.split()), set(case.target_prompt.split())
        changed = case.extras["changed"]
        assert said <= detailed | {"on", "a", "an"}
        assert set(changed.values()) & detailed <= said
        for kind in set(of_kind) - {name.partition(".")[0] for name in changed}:
            things = {value for name, value in case.extras["before"].items() if name.startswith("tint")}
            assert not said & of_kind[kind] - things - set(changed.values())
        assert len(short.source_prompt) < len(case.source_prompt)
        assert short.source_prompt != short.target_prompt


def test_short_prompts_by_example():
    short = {case.edit_type: (case.source_prompt, case.target_prompt) for case in short_prompts(EXAMPLES)}
    assert short[4] == ("a cat on a background", "a cat with a bow on a background")
    assert short[5] == ("a big frog on a background", "a small frog on a background")
    assert short[8] == tuple(
        f"a cactus on the left and a frog on the right of a {c} background" for c in ("blue", "red")
    )


def test_all_else_stays():
    for variant in (short_prompts, empty_source, paraphrased_source, same_prompt):
        for case, other in zip(CASES, variant(CASES), strict=True):
            assert (other.id, other.edit_type, other.extras) == (case.id, case.edit_type, case.extras)
            assert other.image is case.image and other.mask is case.mask and other.target_image is case.target_image
    assert {case.source_prompt for case in empty_source(CASES)} == {""}
    assert all(case.target_prompt == case.source_prompt for case in same_prompt(CASES))


@pytest.mark.parametrize("variant", [short_prompts, paraphrased_source])
def test_a_photograph_has_no_attributes_to_say(variant):
    photo = EditCase("photo", CASES[0].image, "a cat", "a dog")
    with pytest.raises(InputError, match="prompts of case photo: found no before, changed, protected; expected a case"):
        variant([photo])

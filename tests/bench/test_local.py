"""Local edits of the world: their masks, their words, three gaps on one picture."""

import pytest
import torch

from lib.bench.cases import EditCase
from lib.bench.local import LOCAL, gap_cases, local_cases, words_of
from lib.core.errors import InputError
from lib.editors.lore import object_spans
from lib.world.scenes import composition_split
from lib.world.vocabulary import semantic_gap


@pytest.mark.parametrize(
    ("before", "changed", "words"),
    [
        ({"object.0": "cat"}, {"object.0": "dog"}, ("dog", "cat")),
        ({"object.1": "none"}, {"object.1": "man", "skin.1": "light-skinned"}, ("man", None)),
        ({"object.1": "cat", "tint.1": "red"}, {"object.1": "none"}, ("background", "cat")),
        ({"accessory.0": "none"}, {"accessory.0": "hat"}, ("hat", None)),
        ({"accessory.0": "bow"}, {"accessory.0": "none"}, ("background", "bow")),
        ({"hair.0": "bald"}, {"hair.0": "curly-haired"}, ("curly-haired", "bald")),
        ({"object.1": "cat", "tint.1": "natural"}, {"tint.1": "red"}, ("red cat", "cat")),
        ({"object.0": "cat", "tint.0": "blue"}, {"tint.0": "red"}, ("red cat", "blue cat")),
    ],
)
def test_the_words_follow_from_the_record(before: dict, changed: dict, words: tuple) -> None:
    made = EditCase(id="a", image=torch.zeros(3, 8, 8), target_prompt="", extras={"before": before, "changed": changed})
    assert words_of(made) == words


def test_a_case_without_a_thing_that_changes_has_no_words() -> None:
    for changed in ({}, {"background": "red"}):
        made = EditCase(id="a", image=torch.zeros(3, 8, 8), target_prompt="", extras={"changed": changed})
        with pytest.raises(InputError, match="case 'a'"):
            words_of(made)


@pytest.fixture(scope="module")
def cases() -> list[EditCase]:
    return local_cases("test", 3)


def test_local_cases_are_those_types_and_lore_finds_their_words(cases: list[EditCase]) -> None:
    kinds = [each.edit_type for each in cases]
    assert {kind: kinds.count(kind) for kind in kinds} == {1: 9, 2: 3, 3: 3, 4: 3, 6: 3}
    assert sorted(set(kinds)) == sorted(LOCAL)
    assert len({each.id for each in cases}) == len(cases)
    for each in cases:
        assert each.mask.any()
        assert not each.mask.all()
        changed = (each.image != each.target_image).any(0, keepdim=True)
        assert not (changed & ~each.mask).any()
        ((begin, end),) = object_spans(each)
        assert each.target_prompt[begin:end] == each.extras["target_object"]
        source = each.extras["source_object"]
        assert source is None or f" {source} " in f"{each.source_prompt} "


def test_three_gaps_share_picture_and_mask(cases: list[EditCase]) -> None:
    for i in range(0, 9, 3):
        near, middle, far = three = cases[i : i + 3]
        assert [each.extras["gap"] for each in three] == ["near", "middle", "far"]
        assert len({each.extras["image"] for each in three}) == 1
        for each in three:
            assert torch.equal(each.image, near.image)
            assert torch.equal(each.mask, near.mask)
            assert each.source_prompt == near.source_prompt
            old, new = each.extras["source_object"], each.extras["target_object"]
            assert semantic_gap(old, new) == each.extras["gap"]
            before = each.extras["before"]
            assert composition_split(new, before["tint.0"], before["background"]) == "test"
        assert len({each.target_prompt for each in (near, middle, far)}) == 3


def test_gap_cases_are_the_same_again_and_one_is_the_least() -> None:
    first, again = gap_cases("tune", 1), gap_cases("tune", 2)
    assert [each.id for each in first] == [each.id for each in again[:3]]
    assert torch.equal(first[2].target_image, again[2].target_image)
    with pytest.raises(InputError, match="at least 1"):
        gap_cases("test", 0)

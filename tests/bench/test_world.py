import pytest
import torch

from lib.bench.cases import collate
from lib.bench.world import LICENCE, picture, world_cases
from lib.core.errors import InputError
from lib.core.images import check_images, check_masks, to_uint8
from lib.world.edits import sample_edits
from lib.world.language import caption
from lib.world.render import render


@pytest.fixture(scope="module")
def cases():
    return world_cases("tune", 20)


def test_cases_keep_the_image_contract(cases):
    batch = collate(cases)
    check_images(batch.image)
    check_images(torch.stack([case.target_image for case in cases]))
    check_masks(batch.mask, batch.image)
    assert batch.image.shape == (20, 3, 64, 64)


def test_a_case_is_its_edit(cases):
    for case, edit in zip(cases, sample_edits("tune", 20), strict=True):
        assert (case.source_prompt, case.target_prompt) == (caption(edit.source), caption(edit.target))
        assert torch.equal(case.image, picture(edit.source))
        assert torch.equal(case.target_image, picture(edit.target))
        assert torch.equal(case.mask[0], torch.from_numpy(edit.mask()))
        assert case.instruction == edit.instructions["brief"] == case.extras["instructions"]["brief"]
        assert (case.extras["changed"], case.extras["protected"]) == (edit.changed, edit.protected)
        assert case.extras["before"] == edit.source.attributes()
        assert (case.extras["gap"], case.extras["questions"]) == (edit.gap, edit.questions())
        assert (case.benchmark, case.licence) == ("world", LICENCE)


def test_outside_the_mask_the_answer_is_the_source(cases):
    for case in cases:
        outside = ~case.mask.expand(3, -1, -1)
        assert torch.equal(case.image[outside], case.target_image[outside])
        assert not torch.equal(case.image, case.target_image)


def test_a_picture_is_exactly_its_render():
    scene = next(sample_edits("test", 1)).source
    assert (to_uint8(picture(scene)[None])[0].permute(1, 2, 0).numpy() == render(scene)).all()


def test_types_take_turns_and_ids_are_unique(cases):
    assert [case.edit_type for case in cases] == [*range(10)] * 2
    assert cases[3].id == "world-tune-0-00003"
    assert len({case.id for case in (*cases, *world_cases("tune", 5, seed=1), *world_cases("test", 5))}) == 30


def test_more_cases_begin_with_the_same(cases):
    fewer = world_cases("tune", 4)
    assert [case.id for case in fewer] == [case.id for case in cases[:4]]
    assert all(torch.equal(one.image, other.image) for one, other in zip(fewer, cases, strict=False))


@pytest.mark.parametrize("split", ["validation", "", None, "Test"])
def test_an_unknown_split_is_refused(split):
    with pytest.raises(InputError, match=r"world split: found .*; expected one of train, tune, test"):
        world_cases(split, 1)


@pytest.mark.parametrize("count", [0, -1])
def test_no_cases_at_all_are_refused(count):
    with pytest.raises(InputError, match=f"number of world cases: found {count}; expected at least 1"):
        world_cases("test", count)

"""Out in PIE-Bench's layout and back: masks and prompts exactly, pictures up to JPEG's rounding."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lib.bench.cases import collate
from lib.bench.export import export_cases, export_edited, mark_words, read_back, shrink
from lib.bench.pie_bench import COUNTS, pie_bench_cases, unbracket, verify
from lib.bench.world import world_cases
from lib.core.errors import InputError
from lib.core.images import load_image
from tests.bench.layouts import write_pie

TOLERANCE = 2 / 255  # JPEG rounds luma and chroma to whole numbers, then the colours


@pytest.fixture(scope="module")
def cases():
    return world_cases("tune", 20)


@pytest.fixture(scope="module")
def folder(cases, tmp_path_factory):
    return export_cases(cases, tmp_path_factory.mktemp("export") / "world")


def official(path):
    """A picture as the official scorer opens it."""
    with Image.open(path) as image:
        return np.asarray(image)


def test_cases_come_back(cases, folder):
    found = {case.id: case for case in read_back(folder)}
    assert set(found) == {case.id for case in cases}
    for case in cases:
        back = found[case.id]
        for name in ("source_prompt", "target_prompt", "instruction", "edit_type", "benchmark", "licence"):
            assert getattr(back, name) == getattr(case, name)
        assert torch.equal(back.mask, case.mask)
        assert (back.image - case.image).abs().max() <= TOLERANCE
    assert collate(list(found.values())).mask.shape == (20, 1, 64, 64)


def test_the_folder_is_pie_benchs(cases, folder):
    samples = json.loads((folder / "mapping_file.json").read_text())
    assert verify(folder, dict.fromkeys(range(10), 2)) == dict.fromkeys(range(10), 2)
    for key, sample in samples.items():
        assert len(key) == 12 and key.isdigit() and key[0] == sample["editing_type_id"]
        place = sample["image_path"]
        assert place.startswith(f"{key[0]}_") and place.endswith(f"/{key}.jpg")
        assert int(place.split("/")[0].rsplit("_", 1)[1]) == COUNTS[int(key[0])]
        with Image.open(folder / "annotation_images" / place) as image:
            assert (image.size, image.mode, image.format) == ((512, 512), "RGB", "JPEG")
            assert [component[1:3] for component in image.layer] == [(1, 1)] * 3  # no colour is subsampled: 4:4:4
            assert max(max(table) for table in image.quantization.values()) == 1  # quality 100
    assert sorted(key for key in samples if key[0] == "0") == ["000000000000", "000000000001"]
    assert sorted(key for key in samples if key[0] == "5") == ["514000000000", "514000000001"]


def test_the_scorers_mask_is_ours_enlarged(cases, folder):
    large = pie_bench_cases(folder)[0]
    case = next(case for case in cases if case.id == large.id)
    assert torch.equal(large.mask, case.mask.repeat_interleave(8, 1).repeat_interleave(8, 2))


def test_changed_words_stand_in_brackets(folder):
    phrases = [case.extras["local_phrase"] for case in pie_bench_cases(folder)]
    samples = json.loads((folder / "mapping_file.json").read_text()).values()
    assert sum(phrase is not None for phrase in phrases) == sum("[" in one["editing_prompt"] for one in samples) > 10


@pytest.mark.parametrize(
    ("source", "target", "marked"),
    [
        ("a red cat", "a blue cat", "a [blue] cat"),
        ("a cat", "a big old cat", "a [big old] cat"),
        ("a cat on a mat", "a dog on a rug", "a [dog] on a [rug]"),
        ("a big cat", "a cat", "a cat"),
        ("a cat", "a cat", "a cat"),
        ("a", "b", "[b]"),
    ],
)
def test_mark_words(source, target, marked):
    assert mark_words(source, target) == marked


words = st.lists(st.sampled_from(["a", "cat", "red", "on", ""]), max_size=8).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(words, words)
def test_marks_never_change_a_prompt(source, target):
    assert unbracket(mark_words(source, target))[0] == target


def test_means_and_any(cases):
    image = torch.zeros(3, 512, 512)
    image[:, :8, :4] = 1  # half of the first block
    mask = torch.zeros(1, 512, 512, dtype=torch.bool)
    mask[0, 15, 15] = True  # one pixel of the block at (1, 1)
    small = shrink(replace(cases[0], image=image, mask=mask))
    assert small.image[:, 0, 0].tolist() == [0.5] * 3
    assert small.image.sum() == 1.5
    assert small.mask.nonzero().tolist() == [[0, 1, 1]]


def test_edited_images_lie_where_the_scorer_looks(cases, folder, tmp_path):
    large = torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    images = {cases[3].id: cases[3].target_image, cases[7].id: large, cases[10].id: cases[10].target_image}
    out = export_edited(images, folder, tmp_path / "deep" / "flowedit")
    samples = json.loads((folder / "mapping_file.json").read_text())
    mine = json.loads((out / "mapping_file.json").read_text())
    assert mine == {key: sample for key, sample in samples.items() if sample["origin"]["id"] in images}
    assert len(list(out.rglob("*.jpg"))) == len(mine) == 3
    for sample in mine.values():
        path = out / "annotation_images" / sample["image_path"]
        assert official(path).shape == official(folder / "annotation_images" / sample["image_path"]).shape
        wanted = images[sample["origin"]["id"]]
        found = load_image(path)
        if wanted.shape[1] == 64:
            wanted = wanted.repeat_interleave(8, 1).repeat_interleave(8, 2)
            assert (found - wanted).abs().max() <= TOLERANCE
        else:
            assert (found - wanted).square().mean() < 1e-4


def test_edited_images_of_pie_bench_itself(tmp_path):
    write_pie(tmp_path / "pie")
    images = {case.id: case.image for case in pie_bench_cases(tmp_path / "pie")[:2]}
    out = export_edited(images, tmp_path / "pie", tmp_path / "out")
    assert len(list((out / "annotation_images").rglob("*.jpg"))) == 2
    assert len(json.loads((out / "mapping_file.json").read_text())) == 2


def test_nothing_is_left_half_written(cases, tmp_path):
    bad = [*cases[:3], replace(cases[3], mask=None)]
    with pytest.raises(InputError, match=r"world-tune-0-00003.*, mask: found none"):
        export_cases(bad, tmp_path / "world")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(cases, folder, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match=r"taken: found something there already"):
        export_cases(cases, tmp_path / "taken")
    with pytest.raises(InputError, match=r"taken: found something there already"):
        export_edited({cases[0].id: cases[0].image}, folder, tmp_path / "taken")
    assert list((tmp_path / "taken").iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image": torch.zeros(3, 32, 32)}, r"image: found \[3, 32, 32\]; expected 64 x 64 pixels"),
        ({"image": torch.full((3, 64, 64), 2.0)}, "image: found values from 2 to 2"),
        ({"mask": torch.zeros(1, 32, 32, dtype=torch.bool)}, "mask: found shape"),
        ({"source_prompt": None}, "source_prompt: found none"),
        ({"edit_type": None}, "edit_type: found none"),
        ({"edit_type": 10}, "edit_type: found 10"),
        ({"target_prompt": "a [cat]"}, r"target_prompt: found 'a \[cat\]'; expected words without brackets"),
        ({"target_prompt": ""}, "target_prompt: found ''"),
    ],
)
def test_cases_that_do_not_fit_are_refused(cases, tmp_path, values, message):
    with pytest.raises(InputError, match=f"^case 'world-tune-0-00000' to export, {message}"):
        export_cases([replace(cases[0], **values)], tmp_path / "world")


def test_no_case_and_twins_are_refused(cases, tmp_path):
    with pytest.raises(InputError, match="cases to export: found none"):
        export_cases([], tmp_path / "world")
    with pytest.raises(InputError, match="'world-tune-0-00000' more than once"):
        export_cases([cases[0]] * 2, tmp_path / "world")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({}, "edited images: found none"),
        ({"nobody": torch.zeros(3, 64, 64)}, "edited images: found case 'nobody'"),
        ({"world-tune-0-00000": torch.zeros(3, 65, 65)}, r"found \[3, 65, 65\]; expected 64 x 64 or 512 x 512 pixels"),
        ({"world-tune-0-00000": torch.zeros(3, 64, 64) - 1}, "found values from -1 to -1"),
        ({"world-tune-0-00000": torch.zeros(4, 64, 64)}, r"found torch.float32 \[1, 4, 64, 64\]"),
        ({"world-tune-0-00000": "picture.png"}, "found a str"),
    ],
)
def test_edited_images_that_do_not_fit_are_refused(folder, tmp_path, images, message):
    with pytest.raises(InputError, match=message):
        export_edited(images, folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []

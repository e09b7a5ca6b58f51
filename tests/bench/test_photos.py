"""The photographs: their table, and files as odd as the real ones."""

import pytest
from PIL import Image

from lib.bench.photos import FOLDER, PHOTOS, photo_cases, verify
from lib.core.errors import InputError
from lib.core.images import load_image
from lib.editors.lore import object_spans
from tests.bench.layouts import picture, write_photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


def test_cases_are_what_the_table_says(folder):
    cases = list(photo_cases(folder))
    assert [case.id for case in cases] == ["photos-car", "photos-cup", "photos-catdog"]
    assert [case.source_prompt for case in cases] == [
        "a taxi in a neon-lit street",
        "a cup on a wooden table",
        "a cat and a dog",
    ]
    assert [case.image.shape[1] for case in cases] == [800, 800, 700]
    assert [case.edit_type for case in cases] == [1, 3, 1]
    assert cases[0].extras == {
        "target_object": "race car",
        "steps": 30,
        "inject": 24,
        "renoise": 0.1,
        "iterations": 5,
        "seed": 2388791121,
    }
    assert all((case.benchmark, case.licence) == ("photos", "Apache-2.0") for case in cases)


def test_words_that_a_method_attends_to_are_in_the_prompt():
    assert all(photo.target_object in photo.target_prompt for photo in PHOTOS)


def test_lore_finds_its_object(folder):
    for case in photo_cases(folder):
        ((begin, end),) = object_spans(case)
        assert case.target_prompt[begin:end] == case.extras["target_object"]


def test_masks_are_white_where_the_edit_goes(folder):
    for case in photo_cases(folder):
        assert case.mask.shape == (1, *case.image.shape[1:])
        assert case.mask.sum() == 20 * 40
        assert case.mask[0, 59, 29] and not case.mask[0, 60, 29]


def test_transparency_is_laid_on_white(folder):
    cup = photo_cases(folder)[1]
    assert (cup.image[:, 0, 0] == 1).all()


def test_verify_reads_them_all(tmp_path):
    write_photos(tmp_path)
    assert verify(tmp_path) == {"photos": 3}
    (tmp_path / "cup_mask.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"cup_mask.png: found unreadable bytes"):
        verify(tmp_path)


def test_another_size_is_refused(tmp_path):
    write_photos(tmp_path)
    picture(64).save(tmp_path / "car.png")
    with pytest.raises(InputError, match=r"image .*car.png: found 64 x 64 pixels; expected 800 x 800"):
        photo_cases(tmp_path)[0]
    Image.new("L", (64, 64)).save(tmp_path / "dog_mask.png")
    with pytest.raises(InputError, match=r"mask .*dog_mask.png: found \[64, 64\]; expected \[700, 700\]"):
        photo_cases(tmp_path)[2]


@pytest.mark.parametrize("name", ["catdog.jpg", "dog_mask.png"])
def test_a_missing_file_is_named(tmp_path, name):
    write_photos(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name}: found no such file"):
        photo_cases(tmp_path)


def test_the_shipped_photograph_has_the_tables_size():
    assert load_image(FOLDER / "catdog.jpg").shape == (3, PHOTOS[2].side, PHOTOS[2].side)


def test_the_shipped_photographs_are_whole():
    assert verify(FOLDER) == {"photos": len(PHOTOS)}

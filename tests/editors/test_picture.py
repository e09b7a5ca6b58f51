"""One picture file in, one out: what is refused before a model is loaded, and what is never left behind."""

import errno
import os
from pathlib import Path

import pytest
import torch

from lib.backbones.base import Backbone
from lib.bench.cases import EditCase
from lib.core.errors import InputError
from lib.core.images import load_image, read_recipe, save_png
from lib.editors import picture as pictures
from lib.editors.picture import edit_picture, main
from lib.editors.run import Edited, run_editor


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    """A picture of 48 x 40 pixels."""
    save_png(torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(0)), tmp_path / "in" / "cat.png")
    return tmp_path / "in" / "cat.png"


def write_mask(path: Path, height: int, width: int) -> Path:
    """White on the right half, where the picture may change."""
    mask = torch.zeros(3, height, width)
    mask[..., width // 2 :] = 1
    save_png(mask, path)
    return path


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def loading(name: object) -> Backbone:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(pictures, "load_backbone", loading)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_picture_is_edited_and_carries_its_recipe(cat: Path, tmp_path: Path, flux: Backbone) -> None:
    out = tmp_path / "new" / "dog.png"
    edited = edit_picture(cat, "a red cat", "a blue dog", out, backbone=flux, max_side=32)
    assert torch.equal(load_image(out), edited.image)
    assert edited.image.shape[1:] == (24, 32)  # 27 x 32, cropped to what the backbone can read
    assert read_recipe(out) == edited.recipe


def test_settings_are_words_of_the_command_line(cat, tmp_path, flux_folder, capsys):
    words = [cat, "a red cat", "a blue dog", tmp_path / "dog.png", "--backbone", flux_folder, "--max-side", 32]
    assert run(*words, "--settings", "steps=3", "start=0.5") == 0
    settings = read_recipe(tmp_path / "dog.png")["settings"]
    assert (settings["steps"], settings["start"]) == (3, 0.5)
    capsys.readouterr()
    assert run(*words, "--settings", "stepz=3") == 2
    assert "settings of 'flowedit': found unknown stepz" in capsys.readouterr().err


def test_what_the_model_will_not_do_well_is_said_before_it_begins(
    tmp_path: Path, flux: Backbone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out, side = tmp_path / "dog.png", pictures.side_of(flux)
    save_png(torch.rand(3, side + 8, side), tmp_path / "large.png")
    save_png(torch.rand(3, side, side), tmp_path / "small.png")
    size = f"{flux.name} was trained on pictures of {side} x {side} pixels, this one has {side + 8} x {side}"
    size += f"; --max-side {side} (max_side) shrinks it"
    words = f"{flux.name} does not know, and reads letter by letter: zebra"
    edit_picture(tmp_path / "small.png", "a red cat", "a blue dog", out, backbone=flux)
    assert not caplog.messages
    monkeypatch.setattr(pictures, "run_editor", lambda *_, **__: pytest.fail("it began"))
    for picture, prompt, notes in [("large.png", "a blue dog", [size]), ("small.png", "a zebra", [words])]:
        caplog.clear()
        with pytest.raises(pytest.fail.Exception, match="it began"):
            edit_picture(tmp_path / picture, "a red cat", prompt, out, backbone=flux)
        assert caplog.messages == [f"note: {note}" for note in notes]


def test_the_mask_goes_the_way_of_its_picture(
    cat: Path, tmp_path: Path, flux: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask, seen = write_mask(tmp_path / "mask.png", 40, 48), []

    def watched(name: str, model: Backbone, cases: list[EditCase], *rest: object, **options: object) -> list[Edited]:
        seen.extend(cases)
        return run_editor(name, model, cases, *rest, **options)

    monkeypatch.setattr(pictures, "run_editor", watched)
    edit_picture(
        cat, "a red cat", "a blue dog", tmp_path / "dog.png", backbone=flux, editor="kv-edit", mask=mask, max_side=32
    )
    assert seen[0].mask.shape[1:] == seen[0].image.shape[1:] == (24, 32)
    assert torch.equal(seen[0].mask, (torch.arange(32) >= 16).expand(1, 24, 32))


@pytest.mark.parametrize(("height", "width"), [(40, 40), (41, 48), (8, 8), (80, 96)])
@pytest.mark.usefixtures("no_model")
def test_a_mask_of_another_size_is_refused(
    cat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], height: int, width: int
) -> None:
    """Also one that would have the picture's size after the crop: it would lie elsewhere than where it was drawn."""
    mask = write_mask(tmp_path / "mask.png", height, width)
    assert run(cat, "a", "b", tmp_path / "dog.png", "--mask", mask) == 2
    said = capsys.readouterr().err
    assert said == f"error: mask {mask}: found [{height}, {width}]; expected [40, 48] (height, width)\n"


@pytest.mark.usefixtures("no_model")
def test_a_place_that_cannot_be_written_to_is_refused_before_a_model_is_loaded(
    cat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    for out, found in [(tmp_path / "in", "a folder"), (cat / "dog.png", f"{cat}, which is a file"),
                       (cat / "deep" / "dog.png", f"{cat}, which is a file")]:  # fmt: skip
        assert run(cat, "a cat", "a dog", out) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: file {out}: found {found}; expected ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("no_model")
def test_a_folder_where_nothing_may_be_written_is_refused(
    cat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(InputError, match="where nothing may be written"):
        edit_picture(cat, "a cat", "a dog", tmp_path / "new" / "dog.png", backbone="models/none")


@pytest.mark.parametrize("side", [0, -3])
@pytest.mark.usefixtures("no_model")
def test_no_pixels_are_refused_by_the_name_of_the_option(
    cat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], side: int
) -> None:
    assert run(cat, "a cat", "a dog", tmp_path / "dog.png", "--max-side", side) == 2
    said = capsys.readouterr().err
    assert said == f"error: --max-side (max_side): found {side}; expected 1 or more pixels\n"


@pytest.mark.usefixtures("no_model")
def test_a_picture_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "cat.png", "a cat", "a dog", tmp_path / "dog.png") == 2
    assert capsys.readouterr().err.startswith(f"error: image {tmp_path / 'cat.png'}: found no such file; expected ")


def test_a_disk_that_is_full_leaves_no_half_picture(
    cat: Path, tmp_path: Path, flux: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"dog\.png: found No space left on device; expected a place to write to"):
        edit_picture(cat, "a red cat", "a blue dog", tmp_path / "out" / "dog.png", backbone=flux)
    assert list((tmp_path / "out").iterdir()) == []

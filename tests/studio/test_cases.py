"""Cases for notebooks: chosen, enlarged, reworded, made from a photograph."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lib.backbones.base import Backbone
from lib.bench.cases import EditCase
from lib.core.errors import InputError
from lib.core.images import load_image, save_png
from lib.editors.picture import side_of
from lib.studio.cases import at_size, choose, photo_case, with_prompt


def model(side: int | None, multiple: int = 8) -> SimpleNamespace:
    config = SimpleNamespace(sample_size=side)
    return SimpleNamespace(pipe=SimpleNamespace(vae=SimpleNamespace(config=config)), multiple=multiple)


def case() -> EditCase:
    draw = torch.Generator().manual_seed(0)
    return EditCase(
        id="a",
        image=torch.rand(3, 64, 64, generator=draw),
        target_image=torch.rand(3, 64, 64, generator=draw),
        mask=torch.rand(1, 64, 64, generator=draw) > 0.5,
        source_prompt="a cat",
        target_prompt="a dog",
        instruction="turn the cat into a dog",
        extras={"changed": {"object.0": "dog"}},
    )


def test_a_case_is_chosen_by_its_number() -> None:
    cases = [case(), case()]
    assert choose(cases, 1) is cases[1]
    for wrong in (-1, 2):
        with pytest.raises(InputError, match="a number from 0 to 1"):
            choose(cases, wrong)


def test_the_side_is_that_of_the_autoencoder(flux: Backbone) -> None:
    assert side_of(flux) == flux.pipe.vae.config.sample_size
    assert side_of(model(None)) == 64


@pytest.mark.parametrize(("side", "factor"), [(32, 1), (64, 1), (100, 1), (128, 2), (1024, 16)])
def test_a_case_grows_by_a_whole_factor_and_never_shrinks(side: int, factor: int) -> None:
    small, large = case(), at_size(case(), model(side))
    for name in ("image", "target_image", "mask"):
        one, other = getattr(small, name), getattr(large, name)
        assert other.shape[1:] == (64 * factor, 64 * factor)
        assert other.dtype == one.dtype
        assert all(torch.equal(other[:, i::factor, j::factor], one) for i in (0, factor - 1) for j in (0, factor - 1))
    assert (large.id, large.extras) == (small.id, small.extras)


def test_a_case_without_mask_and_answer_grows_too() -> None:
    bare = EditCase(id="a", image=torch.zeros(3, 64, 64), target_prompt="a dog")
    large = at_size(bare, model(128))
    assert large.image.shape == (3, 128, 128)
    assert large.mask is None
    assert large.target_image is None


def test_another_wish_has_no_known_answer() -> None:
    other = with_prompt(case(), "a red dog")
    assert (other.target_prompt, other.source_prompt) == ("a red dog", "a cat")
    assert (other.mask, other.target_image, other.instruction, other.extras) == (None, None, None, {})
    same = case()
    assert with_prompt(same, "a dog") is same


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """80 x 160 pixels: red on the left and on the right, green in the middle."""
    image = torch.zeros(3, 80, 160)
    image[0] = 1
    image[:2, :, 40:120] = torch.tensor([0.0, 1.0])[:, None, None]
    save_png(image, tmp_path / "park.png")
    return tmp_path / "park.png"


def test_a_photograph_is_cut_to_its_middle_and_shrunk(photo: Path) -> None:
    made = photo_case(photo, model(64), "a cat", "a dog")
    assert made.image.shape == (3, 64, 64)
    assert made.image[1].min() > 0.999
    assert (made.id, made.source_prompt, made.target_prompt) == ("photo-park", "a cat", "a dog")


def test_a_photograph_is_never_enlarged(photo: Path) -> None:
    made = photo_case(photo, model(1024, multiple=16), "a cat", "a dog")
    assert torch.equal(made.image, load_image(photo)[:, :, 40:120])


def test_what_is_no_photograph_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    for name in ("notes.txt", "missing.jpg"):
        with pytest.raises(InputError, match=name):
            photo_case(tmp_path / name, model(64), "a", "b")
    save_png(torch.zeros(3, 4, 4), tmp_path / "dot.png")
    with pytest.raises(InputError, match="4 x 4"):
        photo_case(tmp_path / "dot.png", model(64), "a", "b")

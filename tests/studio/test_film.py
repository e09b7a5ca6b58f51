"""The film of an edit is what its callback saw."""

import pytest
import torch

from lib.backbones.base import Backbone
from lib.bench.cases import EditCase
from lib.core.errors import InputError
from lib.core.images import quantise
from lib.editors.run import run_editor
from lib.studio.film import Film


@pytest.fixture
def film(flux: Backbone) -> Film:
    film, case = Film(), EditCase(id="a", image=torch.full((3, 32, 32), 0.5), target_prompt="a cat")
    settings = {"steps": 6, "start": 1.0}
    edited = run_editor("sdedit", flux, [case, replace_id(case)], settings, callback=film)
    film.edited = edited[0].image
    return film


def replace_id(case: EditCase) -> EditCase:
    return EditCase(id="b", image=case.image, target_prompt=case.target_prompt)


def test_the_film_ends_with_the_edit(film: Film, flux: Backbone) -> None:
    images, labels = film.frames(flux, 3)
    assert len(images) == len(labels) == 3
    assert labels[-1] == "t = 0.00"
    assert torch.allclose(quantise(images[-1]), film.edited, atol=1.01 / 255)
    assert images[0].shape == (3, 32, 32)


def test_frames_are_spread_from_the_first_step_to_the_last(film: Film, flux: Backbone) -> None:
    levels = [f"t = {t:.2f}" for t, _ in film.steps]
    assert len(levels) == 6
    assert film.frames(flux, 3)[1] == [levels[0], levels[2], levels[5]]
    assert film.frames(flux, 1)[1] == [levels[5]]
    assert film.frames(flux, 99)[1] == levels


def test_the_film_keeps_copies() -> None:
    film, x = Film(), torch.zeros(2, 4, 8, 8)
    film(0.5, x)
    x += 1
    assert film.steps[0][1].shape == (1, 4, 8, 8)
    assert film.steps[0][1].abs().max() == 0


def test_an_empty_film_is_said(flux: Backbone) -> None:
    with pytest.raises(InputError, match="film: found no step"):
        Film().frames(flux)
    film = Film()
    film(0.0, torch.zeros(1, 4, 8, 8))
    with pytest.raises(InputError, match="frames of a film"):
        film.frames(flux, 0)

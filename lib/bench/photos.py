"""Three real photographs with masks, from the examples of LORE (arXiv 2508.03144): repository oyly16/LORE, a03e04e."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path

from lib.bench.cases import EditCase
from lib.bench.pie_bench import LazyCases, check_folder, check_side
from lib.core.errors import InputError
from lib.core.images import load_image, load_mask
from lib.core.paths import DATA

NAME = "photos"
LICENCE = "Apache-2.0"
HOMEPAGE = "https://github.com/oyly16/LORE"
FOLDER = DATA / "photos"


@dataclass(frozen=True)
class Photo:
    """A photograph, its mask, the prompts, and the settings with which LORE's authors edit it."""

    image: str
    mask: str  # white = to be edited
    side: int  # pixels
    edit_type: int  # PIE-Bench's
    source_prompt: str
    target_prompt: str
    target_object: str  # the words of the target prompt that the method attends to
    steps: int
    inject: int
    renoise: float
    iterations: int
    seed: int


CAR = ("a taxi in a neon-lit street", "a race car in a neon-lit street", "race car")
CUP = ("a cup on a wooden table", "a wooden table", "table")
DOG = ("a cat and a dog", "a cat and a race car", "race car")  # the attention demo

# fmt: off
PHOTOS: tuple[Photo, ...] = (
    #     image         mask            side type prompts steps inject renoise iterations seed
    Photo("car.png",    "car_mask.png", 800, 1,   *CAR,   30,   24,    0.1,    5,         2388791121),
    Photo("cup.png",    "cup_mask.png", 800, 3,   *CUP,   10,   8,     0.0,    2,         0),
    Photo("catdog.jpg", "dog_mask.png", 700, 1,   *DOG,   15,   12,    0.1,    30,        25),
)
# fmt: on
SETTINGS = ("target_object", "steps", "inject", "renoise", "iterations", "seed")


def photo_cases(folder: str | Path = FOLDER, photos: Sequence[Photo] = PHOTOS) -> LazyCases:
    """A case for each photograph of the table, read when it is asked for; `extras` holds the authors' settings.

    Raises:
        InputError: at once for a missing folder or file; when the case is read, for a file that is broken or of another
            size than the table says.
    """
    folder = check_folder(folder)
    for name in (name for photo in photos for name in (photo.image, photo.mask)):
        if not isfile(folder / name):
            raise InputError(folder / name, found="no such file", expected=f"a file of the benchmark {NAME}")
    return LazyCases(photos, lambda photo: _case(folder, photo))


def verify(folder: str | Path = FOLDER, photos: Sequence[Photo] = PHOTOS) -> dict[str, int]:
    """Read every photograph and mask; return the number of photographs. InputError as in `photo_cases`."""
    return {"photos": sum(1 for _ in photo_cases(folder, photos))}


def _case(folder: Path, photo: Photo) -> EditCase:
    return EditCase(
        id=f"{NAME}-{Path(photo.image).stem}",
        image=check_side(load_image(folder / photo.image), photo.side, f"image {folder / photo.image}"),
        target_prompt=photo.target_prompt,
        source_prompt=photo.source_prompt,
        mask=load_mask(folder / photo.mask, (photo.side, photo.side)),
        edit_type=photo.edit_type,
        benchmark=NAME,
        licence=LICENCE,
        extras={name: getattr(photo, name) for name in SETTINGS},
    )

"""256 colours where they look the same, and paper that stays white."""

import numpy as np
import pytest
from PIL import Image

from lib.core.palette import with_palette


def picture(colours: int, height: int = 60, width: int = 80) -> Image.Image:
    """So many random colours on white paper."""
    rng = np.random.default_rng(0)
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    pixels[10:50, 10:70] = rng.integers(0, 250, (colours, 3))[rng.integers(0, colours, (40, 60))]
    return Image.fromarray(pixels)


def error(image: Image.Image, other: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=float) - np.asarray(other.convert("RGB"), dtype=float)


def test_few_colours_come_out_nearly_as_they_are():
    image = picture(40)
    few = with_palette(image, 3.0)
    assert few.mode == "P"
    inside = error(image, few)[10:50, 10:70]
    assert np.sqrt((inside**2).mean()) <= 3.0
    assert few.tobytes() == with_palette(image, 3.0).tobytes()


@pytest.mark.parametrize(("tolerance", "mode"), [(3.0, "RGB"), (60.0, "P")])
def test_many_colours_are_kept_unless_the_error_is_allowed(tolerance, mode):
    image = picture(2400)
    few = with_palette(image, tolerance)
    assert few.mode == mode
    assert not error(image, few)[:10].any(), "white became another colour"
    assert mode == "P" or few is image


def test_blank_paper():
    blank = Image.new("RGB", (30, 20), "white")
    assert not error(blank, with_palette(blank, 0.0)).any()

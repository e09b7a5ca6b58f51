import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.core import images
from lib.core.errors import InputError


def gradient(height: int = 6, width: int = 8) -> np.ndarray:
    """uint8 [height, width, 3], different at every pixel."""
    ramp = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3)
    return (ramp * 255 // ramp.max()).astype(np.uint8)


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


def png(header: bytes, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def load(pil: Image.Image, path: Path, **options) -> torch.Tensor:
    pil.save(path, **options)
    return images.load_image(path)


# The contract


def test_good_images_and_masks_pass():
    images.check_images(torch.rand(2, 3, 4, 5))
    images.check_masks(torch.rand(2, 1, 4, 5) > 0.5, torch.rand(2, 3, 4, 5))


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (torch.rand(3, 4, 5), r"torch.float32 \[3, 4, 5\]"),
        (torch.rand(2, 4, 5, 3), r"torch.float32 \[2, 4, 5, 3\]"),
        (torch.rand(2, 4, 8, 8), r"torch.float32 \[2, 4, 8, 8\]"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), r"torch.uint8 \[1, 3, 4, 4\]"),
        (torch.full((1, 3, 4, 4), 255.0), "values from 255 to 255"),
        (torch.full((1, 3, 4, 4), -1.0), "values from -1 to -1"),
        (torch.full((1, 3, 4, 4), torch.nan), "values that are not finite"),
        (np.zeros((1, 3, 4, 4), np.float32), "a ndarray"),
    ],
)
def test_bad_images_are_refused(x, found):
    with pytest.raises(InputError, match=f"^source: found {found}; expected"):
        images.check_images(x, "source")


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (torch.zeros(2, 1, 4, 4), r"torch.float32 \[2, 1, 4, 4\]"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.bool), r"torch.bool \[2, 3, 4, 4\]"),
        (torch.zeros(2, 1, 4, 5, dtype=torch.bool), r"shape \[2, 1, 4, 5\]"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.bool), r"shape \[1, 1, 4, 4\]"),
    ],
)
def test_bad_masks_are_refused(mask, found):
    with pytest.raises(InputError, match=f"^masks: found {found}; expected"):
        images.check_masks(mask, torch.rand(2, 3, 4, 4))


# Reading


def test_rgb_is_read_exactly(tmp_path):
    assert torch.equal(load(Image.fromarray(gradient()), tmp_path / "x.png"), as_tensor(gradient()))


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.dstack([gradient(), np.full((6, 8), 255, np.uint8)])
    rgba[0, 0, 3], rgba[1, 1, 3] = 0, 128
    image = load(Image.fromarray(rgba), tmp_path / "x.png")
    expected = as_tensor(gradient())
    assert torch.equal(image[:, 0, 0], torch.ones(3))
    assert torch.allclose(image[:, 1, 1], 1 - (1 - expected[:, 1, 1]) * 128 / 255, atol=1 / 255)
    assert torch.equal(image[:, 2:], expected[:, 2:])


def test_transparent_palette_and_grey_are_laid_on_white(tmp_path):
    palette = Image.fromarray(np.zeros((2, 2), np.uint8)).convert("P")
    assert torch.equal(load(palette, tmp_path / "p.png", transparency=0), torch.ones(3, 2, 2))
    assert torch.equal(load(Image.new("LA", (2, 2), (0, 0)), tmp_path / "la.png"), torch.ones(3, 2, 2))


def test_sixteen_bit_grey_is_scaled(tmp_path):
    values = np.array([[0, 128, 257, 32896, 65535]], np.uint16)
    image = load(Image.fromarray(values), tmp_path / "x.png")
    assert torch.equal((image * 255).round(), torch.tensor([0.0, 0, 1, 128, 255]).expand(3, 1, 5))


def test_sixteen_bit_rgb_is_scaled(tmp_path):
    values = np.array([0, 257, 32896, 65535, 255 * 256, 1000], ">u2")
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(png(header, b"\0" + values.tobytes()))
    image = images.load_image(tmp_path / "x.png")
    expected = torch.from_numpy(values.astype(np.float32)).reshape(1, 2, 3).permute(2, 0, 1) / 65535
    assert torch.allclose(image, expected, atol=1 / 255)


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by 90 degrees clockwise
    image = load(Image.fromarray(gradient()), tmp_path / "x.png", exif=exif)
    assert torch.equal(image, as_tensor(np.rot90(gradient(), k=-1).copy()))


def test_grey_and_cmyk_become_rgb(tmp_path):
    assert torch.equal(load(Image.new("L", (4, 2), 51), tmp_path / "x.png"), torch.full((3, 2, 4), 0.2))
    cmyk = load(Image.new("CMYK", (4, 2), (0, 255, 255, 0)), tmp_path / "x.jpg", quality=100)
    assert torch.allclose(cmyk, torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 2, 4), atol=2 / 255)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.png: found no such file; expected an image file"):
        images.load_image(tmp_path / "nothing.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_file(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"x\.{suffix}: found unreadable bytes .*; expected a whole image file"):
        images.load_image(path)


def test_not_an_image(tmp_path):
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(InputError, match="unreadable bytes"):
        images.load_image(tmp_path / "x.png")


def test_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="found 2 frames; expected a still image"):
        images.load_image(tmp_path / "x.gif")


@pytest.mark.parametrize("side", [8193, 10_000, 20_000])
def test_decompression_bomb(tmp_path, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    (tmp_path / "x.png").write_bytes(png(header, b""))
    with pytest.raises(InputError, match=r"x\.png: found .*pixels.*; expected at most 67108864 pixels"):
        images.load_image(tmp_path / "x.png")


def test_floating_point_pixels(tmp_path):
    with pytest.raises(InputError, match="floating-point pixels"):
        load(Image.new("F", (2, 2)), tmp_path / "x.tiff")


def test_mask_is_cut_at_half(tmp_path):
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(tmp_path / "m.png")
    assert images.load_mask(tmp_path / "m.png").tolist() == [[[False, False, True, True]]]
    with pytest.raises(InputError, match=r"found \[1, 4\]; expected \[4, 1\]"):
        images.load_mask(tmp_path / "m.png", size=(4, 1))


# Writing


def test_uint8_and_back():
    levels = torch.arange(256).float().div(255).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(images.quantise(levels), levels)
    assert torch.equal(images.from_pil(images.to_pil(levels[0])), levels[0])
    x = torch.rand(2, 3, 5, 5)
    assert (images.quantise(x) - x).abs().max() <= 0.5 / 255 + 1e-7
    with pytest.raises(InputError, match="values from"):
        images.to_uint8(x + 1)


def test_png_has_the_same_bytes_each_time(tmp_path):
    x = torch.rand(3, 16, 16)
    images.save_png(x, tmp_path / "a.png", {"b": 1, "a": "ä"})
    images.save_png(x, tmp_path / "sub" / "b.png", {"a": "ä", "b": 1})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "sub" / "b.png").read_bytes()
    assert torch.equal(images.load_image(tmp_path / "a.png"), images.quantise(x))


def test_a_failed_save_leaves_nothing(tmp_path):
    images.save_png(torch.zeros(3, 4, 4), tmp_path / "x.png")
    before = (tmp_path / "x.png").read_bytes()
    with pytest.raises(TypeError):
        images.save_png(torch.ones(3, 4, 4), tmp_path / "x.png", {"not json": object()})
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").read_bytes() == before


def test_recipe_of_a_foreign_file(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    (tmp_path / "y.png").write_text("hello")
    for name, found in (("x.png", "an image without one"), ("y.png", "unreadable"), ("z.png", "no such file")):
        with pytest.raises(InputError, match=rf"{name}: found {found}"):
            images.read_recipe(tmp_path / name)


# Fitting


def test_fit_cuts_the_centre():
    x = torch.arange(5 * 10).float().reshape(1, 5, 10).expand(3, 5, 10)
    assert torch.equal(images.fit_to(x, 4), x[:, 0:4, 1:9])
    assert torch.equal(images.fit_to(x, 5), x)


def test_fit_shrinks_image_and_mask_alike():
    image, mask = torch.zeros(3, 40, 80), torch.zeros(1, 40, 80, dtype=torch.bool)
    image[:, :, 40:], mask[:, :, 40:] = 1, True
    small, small_mask = images.fit_to(image, 8, max_side=40), images.fit_to(mask, 8, max_side=40)
    assert (tuple(small.shape), tuple(small_mask.shape)) == ((3, 16, 40), (1, 16, 40))
    assert small_mask.dtype == torch.bool
    assert torch.equal(small.mean(0, keepdim=True) > 0.5, small_mask)
    images.check_images(small[None])


def test_fit_refuses_what_is_too_small():
    with pytest.raises(InputError, match="found 5 x 10; expected at least 8 x 8"):
        images.fit_to(torch.rand(3, 5, 10), 8)

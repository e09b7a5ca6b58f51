"""The image contract, and the one place where images are converted.

An image is float32 RGB [B, 3, H, W] in [0, 1]; a mask is bool [B, 1, H, W], True = may change. One image without its
batch dimension is [3, H, W], one mask [1, H, W].
"""

import json
import os
import struct
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor
from torch.nn import functional

from lib.core.errors import InputError

MAX_PIXELS = 64 * 2**20
RECIPE_KEY = "palimpsest"
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # what Pillow raises on bad bytes


def check_images(x: Tensor, name: str = "images") -> None:
    """Raise InputError unless `x` is float32 [B, 3, H, W], finite, in [0, 1]."""
    _check_layout(x, name, channels=3, dtype=torch.float32)
    if x.numel() and not torch.isfinite(x).all():
        raise InputError(name, found="values that are not finite", expected="values in [0, 1]")
    if x.numel() and (x.min() < 0 or x.max() > 1):
        raise InputError(name, found=f"values from {x.min():.4g} to {x.max():.4g}", expected="values in [0, 1]")


def check_masks(mask: Tensor, images: Tensor | None = None, name: str = "masks") -> None:
    """Raise InputError unless `mask` is bool [B, 1, H, W], and of the batch and size of `images` if these are given."""
    _check_layout(mask, name, channels=1, dtype=torch.bool)
    if images is not None and (len(mask), *mask.shape[2:]) != (len(images), *images.shape[2:]):
        expected = f"{[len(images), 1, *images.shape[2:]]} to fit the images"
        raise InputError(name, found=f"shape {list(mask.shape)}", expected=expected)


def load_image(path: str | Path) -> Tensor:
    """Read an image file as [3, H, W]: upright (EXIF), transparency laid on white, 16-bit grey scaled, any colour mode.

    InputError names the file if it is missing, broken, not an image, animated or larger than 64 megapixels.
    """
    thing = f"image {path}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # broken metadata beside whole pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as pil:
                _check_file(pil, thing)
                return from_pil(ImageOps.exif_transpose(pil), thing)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(thing, found="far too many pixels", expected=f"at most {MAX_PIXELS} pixels") from error
    except FileNotFoundError as error:
        raise InputError(thing, found="no such file", expected="an image file") from error
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(thing, found=f"unreadable bytes ({error})", expected="a whole image file") from error


def load_mask(path: str | Path, size: tuple[int, int] | None = None) -> Tensor:
    """Read a mask file as bool [1, H, W]: True where it is at least half white. `size` (H, W) must fit if given."""
    grey = load_image(path).mul(torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    if size is not None and grey.shape[1:] != torch.Size(size):
        raise InputError(f"mask {path}", found=f"{list(grey.shape[1:])}", expected=f"{list(size)} (height, width)")
    return grey >= 0.5


def from_pil(pil: Image.Image, name: str = "image") -> Tensor:
    """A Pillow image of any mode as [3, H, W]."""
    if pil.mode.startswith("I"):
        pil = Image.fromarray(_eight_bits(np.asarray(pil), name))
    if pil.mode == "F":
        raise InputError(name, found="floating-point pixels", expected="8 or 16 bits per channel")
    if pil.has_transparency_data:
        pil = pil.convert("RGBA")
        pil = Image.alpha_composite(Image.new("RGBA", pil.size, "white"), pil)
    return torch.from_numpy(np.array(pil.convert("RGB"))).permute(2, 0, 1).contiguous().float() / 255


def to_uint8(x: Tensor) -> Tensor:
    """Images in [0, 1], with or without a batch dimension, as uint8 of the same layout, rounded."""
    check_images(x if x.ndim == 4 else x[None], "image")
    return (x * 255).round().to(torch.uint8)


def quantise(x: Tensor) -> Tensor:
    """Images rounded to the 256 levels that a PNG can hold, still float32 in [0, 1]."""
    return to_uint8(x).float() / 255


def to_pil(image: Tensor) -> Image.Image:
    """One image [3, H, W] for Pillow, rounded to the nearest of 256 levels."""
    if image.ndim != 3:
        raise InputError("image", found=f"shape {list(image.shape)}", expected="[3, H, W]")
    return Image.fromarray(to_uint8(image.detach().cpu()).permute(1, 2, 0).contiguous().numpy())


def save_png(image: Tensor, path: str | Path, recipe: dict[str, Any] | None = None) -> None:
    """Write one image [3, H, W] as PNG with its recipe inside: the same bytes each time, and never half a file."""
    pil, path = to_pil(image), Path(path)
    info = PngImagePlugin.PngInfo()
    if recipe is not None:
        info.add_text(RECIPE_KEY, json.dumps(recipe, sort_keys=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as scratch:
        try:
            pil.save(scratch, format="PNG", pnginfo=info)
            scratch.flush()
            os.chmod(scratch.name, 0o644)
            os.replace(scratch.name, path)
        except BaseException:
            os.unlink(scratch.name)
            raise


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe that a PNG of ours carries. InputError if the file is missing, broken or carries none."""
    thing = f"recipe of {path}"
    try:
        with Image.open(path) as pil:
            pil.load()
            return json.loads(pil.info[RECIPE_KEY])
    except FileNotFoundError as error:
        raise InputError(thing, found="no such file", expected="a PNG written by palimpsest") from error
    except KeyError as error:
        raise InputError(thing, found="an image without one", expected="a PNG written by palimpsest") from error
    except UNREADABLE as error:
        raise InputError(thing, found=f"unreadable bytes ({error})", expected="a PNG written by palimpsest") from error


def fit_to(image: Tensor, multiple: int, max_side: int | None = None) -> Tensor:
    """Shrink [..., H, W] until no side exceeds `max_side`, then cut out its centre so that both sides are multiples.

    A mask goes the same way as its image. InputError if a side is smaller than one multiple.
    """
    height, width = image.shape[-2:]
    if max_side is not None and max(height, width) > max_side:
        height, width = (max(1, round(side * max_side / max(height, width))) for side in (height, width))
        image = _resize(image, (height, width))
    if min(height, width) < multiple:
        raise InputError("image size", found=f"{height} x {width}", expected=f"at least {multiple} x {multiple}")
    inner_height, inner_width = height // multiple * multiple, width // multiple * multiple
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    return image[..., top : top + inner_height, left : left + inner_width].contiguous()


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    batch = image.reshape(-1, *image.shape[-3:])
    if image.dtype == torch.bool:
        small = functional.interpolate(batch.float(), size, mode="nearest-exact").bool()
    else:
        small = functional.interpolate(batch, size, mode="bicubic", antialias=True).clamp(0, 1)
    return small.reshape(*image.shape[:-2], *size)


def _check_layout(x: Tensor, name: str, *, channels: int, dtype: torch.dtype) -> None:
    expected = f"{dtype} [B, {channels}, H, W]"
    if not isinstance(x, Tensor):
        raise InputError(name, found=f"a {type(x).__name__}", expected=f"a tensor {expected}")
    if x.dtype != dtype or x.ndim != 4 or x.shape[1] != channels:
        raise InputError(name, found=f"{x.dtype} {list(x.shape)}", expected=expected)


def _check_file(pil: Image.Image, thing: str) -> None:
    width, height = pil.size
    if width * height > MAX_PIXELS:
        raise InputError(thing, found=f"{width} x {height} pixels", expected=f"at most {MAX_PIXELS} pixels")
    if getattr(pil, "is_animated", False) and pil.format != "MPO":  # MPO: a still photo with previews behind it
        raise InputError(thing, found=f"{pil.n_frames} frames", expected="a still image")


def _eight_bits(values: np.ndarray, name: str) -> np.ndarray:
    """16-bit grey values as 8-bit ones: 65535 becomes 255, rounded to the nearest. (Pillow itself cuts off at 255.)"""
    if values.min() < 0 or values.max() > 65535:
        raise InputError(name, found=f"values up to {values.max()}", expected="8 or 16 bits per channel")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)

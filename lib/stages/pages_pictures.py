"""Pictures inside an executed notebook: read out of an output, and made small for a card or for docs/."""

import base64
import binascii
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from lib.core.errors import InputError

PICTURES = ("image/png", "image/jpeg")
PIXELS = 64_000_000  # a picture in a notebook that is larger is a mistake
MARGIN = 6  # pixels of white that stay around a picture
SAMPLE = 100_000  # pixels that a palette is made from: k-means over all of a large figure takes a minute
ROUNDING = 6.0  # levels of 255: the root mean square error at which 256 colours still do


def picture_of(output: Mapping[str, Any], name: str) -> bytes | None:
    """The bytes of an output's PNG or JPEG, if it has one. InputError if they are none."""
    for mime in PICTURES:
        if mime in output.get("data", {}):
            try:
                return base64.b64decode(joined(output["data"][mime]), validate=False)
            except binascii.Error as error:
                raise InputError(f"picture in {name}", found=f"broken base64 ({error})", expected=mime) from error
    return None


def small_png(data: bytes, name: str, width: int = 900) -> bytes:
    """A PNG or JPEG as a small PNG without white margins, at most `width` pixels wide, on white, the same every time.

    It has a palette of 256 colours where these come as close as ROUNDING (over the pixels that are not white).
    InputError naming the notebook `name` if `data` is no picture.
    """
    import numpy as np
    from PIL import Image, ImageChops, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data)) as opened:
            if opened.width * opened.height > PIXELS:
                raise InputError(f"picture in {name}", found=f"{opened.size}", expected=f"at most {PIXELS} pixels")
            whole = opened.convert("RGBA")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"picture in {name}", found="unreadable bytes", expected="a PNG or a JPEG") from error
    image = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    inside = ImageChops.difference(image, Image.new("RGB", image.size, "white")).getbbox()
    if inside:
        left, top, right, bottom = inside
        corner = max(left - MARGIN, 0), max(top - MARGIN, 0)
        image = image.crop((*corner, min(right + MARGIN, image.width), min(bottom + MARGIN, image.height)))
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    sparse = min(1.0, (SAMPLE / (image.width * image.height)) ** 0.5)
    sides = max(1, round(image.width * sparse)), max(1, round(image.height * sparse))
    sample = image.resize(sides, Image.Resampling.NEAREST)
    palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    few = image.quantize(palette=palette, dither=Image.Dither.NONE)
    pixels = np.asarray(image, dtype=np.float32)
    shown = (pixels < 255).any(axis=2)
    if not shown.all():  # the paper stays white, not nearly white
        colours, indices = np.reshape(palette.getpalette(), (-1, 3)), np.array(few)
        white = int(colours.sum(axis=1).argmax())
        colours[white], indices[~shown] = 255, white
        few = Image.fromarray(indices).convert("P")
        few.putpalette(colours.ravel().tolist())
    rounded = np.asarray(few.convert("RGB"), dtype=np.float32)
    close = not shown.any() or float(np.sqrt(((pixels - rounded)[shown] ** 2).mean())) <= ROUNDING
    written = BytesIO()
    (few if close else image).save(written, "PNG", optimize=True)
    return written.getvalue()


def joined(text: str | list[str]) -> str:
    """A notebook's text, which may be kept as a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def size_of(png: str) -> tuple[int, int] | None:
    """Width and height of a PNG in base64, from its header; None if it is no PNG."""
    try:
        head = base64.b64decode(png.lstrip()[:44])
    except binascii.Error:
        return None
    if head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")

"""Pictures inside an executed notebook: read out of an output, and made small for a card or for docs/."""

import base64
import binascii
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from lib.core.errors import InputError
from lib.core.palette import with_palette

PICTURES = ("image/png", "image/jpeg")
PIXELS = 64_000_000  # a picture in a notebook that is larger is a mistake
MARGIN = 6  # pixels of white that stay around a picture
ROUNDING = 6.0  # levels of 255: the root mean square error at which 256 colours still do in a small picture


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

    It has a palette of 256 colours where these come as close as ROUNDING (`with_palette`).
    InputError naming the notebook `name` if `data` is no picture.
    """
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
    written = BytesIO()
    with_palette(image, ROUNDING).save(written, "PNG", optimize=True)
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

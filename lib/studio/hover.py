"""Pairs of pictures that a page of `make review` lays over each other: the second shows under the pointer."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from torch import Tensor

from lib.core.errors import InputError
from lib.core.images import to_pil

if TYPE_CHECKING:
    from IPython.display import HTML

WIDTH = 96  # pixels in JupyterLab, where both pictures of a pair stand side by side


def before_after(before: Tensor, after: Tensor, names: Sequence[tuple[str, str]]) -> HTML:
    """A grid of pairs, pictures [N, 3, H, W] in [0, 1]; `names` says what each first and each second picture is.

    InputError if there are not as many of each.
    """
    from IPython.display import HTML

    if not len(before) == len(after) == len(names):
        found = f"{len(before)}, {len(after)} and {len(names)}"
        raise InputError("pictures before, after and names", found=found, expected="as many of each")
    pairs = "".join(_figure(*each) for each in zip(before, after, names, strict=True))
    return HTML(f'<div class="grid">{pairs}</div>')


def _figure(before: Tensor, after: Tensor, names: tuple[str, str]) -> str:
    """The figure that `lib.stages.pages_html` and its style know."""
    pictures = "".join(
        f'<img alt="{side}: {html.escape(name)}" width="{WIDTH}" src="data:image/png;base64,{_png(image)}">'
        for side, name, image in zip(("before", "after"), names, (before, after), strict=True)
    )
    captions = " ".join(f"<span>{html.escape(name)}</span>" for name in names)
    return f'<figure class="before-after">{pictures}<figcaption>{captions}</figcaption></figure>'


def _png(image: Tensor) -> str:
    written = BytesIO()
    to_pil(image).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()

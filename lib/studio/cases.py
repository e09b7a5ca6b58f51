"""Cases for a notebook: one of a list, at the size of the model, with another prompt, or from a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from lib.bench.cases import EditCase
from lib.core.errors import InputError
from lib.core.images import fit_to, load_image
from lib.core.paths import resolve
from lib.editors.picture import side_of

if TYPE_CHECKING:
    from lib.backbones.base import Backbone


def choose(cases: Sequence[EditCase], index: int) -> EditCase:
    """The case of this number. InputError if there is none."""
    if not 0 <= index < len(cases):
        raise InputError("case", found=index, expected=f"a number from 0 to {len(cases) - 1}")
    return cases[index]


def at_size(case: EditCase, backbone: Backbone) -> EditCase:
    """The case with picture, mask and right answer enlarged by the whole factor that suits the model; never shrunk."""
    factor = side_of(backbone) // max(case.image.shape[1:])
    if factor <= 1:
        return case
    large = {name: getattr(case, name) for name in ("image", "mask", "target_image")}
    return replace(case, **{name: None if x is None else _enlarge(x, factor) for name, x in large.items()})


def with_prompt(case: EditCase, target_prompt: str) -> EditCase:
    """The same picture with another wish. What the right answer would be, and where, is then not known."""
    if target_prompt == case.target_prompt:
        return case
    return replace(case, target_prompt=target_prompt, instruction=None, mask=None, target_image=None, extras={})


def photo_case(path: str | Path, backbone: Backbone, source_prompt: str, target_prompt: str) -> EditCase:
    """A photograph as a case: cut to the square in its middle and shrunk to the model's size, never enlarged.

    `path` is relative to the repository's root unless absolute. InputError if the file is no picture (see `load_image`)
    or too small for the model.
    """
    image = load_image(resolve(path))
    height, width = image.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[:, top : top + side, left : left + side]
    return EditCase(
        id=f"photo-{Path(path).stem}",
        image=fit_to(square, backbone.multiple, max_side=side_of(backbone)),
        source_prompt=source_prompt,
        target_prompt=target_prompt,
        benchmark="photo",
    )


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return x.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)

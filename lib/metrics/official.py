"""PIE-Bench's scores as its own evaluation computes them (Ju et al. 2024), quirks kept: the namespace `pie_official`.

These are comparable with published tables, and not with `lib.metrics.strict`. The quirks:
- The four "background" scores black out the edit region in both images and then average over the WHOLE frame. They look
  better the larger the mask: PSNR by exactly 10 log10(all pixels / background pixels).
- The outermost rows and columns always count as edit region (`border`; False keeps the mask as it is).
- Structure distance feeds values from 0 to 255 to a network that expects [0, 1].
- CLIP of the edited part sees the frame blacked out outside the mask, uncropped, with the whole target prompt.

Images are float32 RGB [B, 3, H, W] in [0, 1], rounded to the 256 levels of a PNG first; masks are bool [B, 1, H, W],
True = may change. Wrong ranges, layouts and sizes raise InputError. Scores are float64 [B] on the CPU, unscaled. An
empty part is NaN in its row. Identical images have a PSNR of inf, uncut: `lib.metrics.tables.aggregate` counts those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nan

from lib.core.errors import InputError
from lib.core.images import check_masks
from lib.metrics.clip import clip_score
from lib.metrics.extractors import ImageTextEncoder, PerceptualNet, TokenKeys
from lib.metrics.perceptual import lpips, structure_distance
from lib.metrics.pixels import SSIM_REACH, checked

Part = Literal["unedit", "edit", "whole"]


def with_border(mask: Tensor) -> Tensor:
    """The mask with its outermost rows and columns set to True, on all four sides."""
    check_masks(mask)
    mask = mask.clone()
    for edge in (mask[..., 0, :], mask[..., -1, :], mask[..., :, 0], mask[..., :, -1]):
        edge.fill_(True)
    return mask


def plain_prompt(prompt: str) -> str:
    """A prompt without the square brackets that mark its edited words."""
    return prompt.replace("[", "").replace("]", "")


def mse(image: Tensor, source: Tensor, mask: Tensor, part: Part = "unedit", *, border: bool = True) -> Tensor:
    """Mean squared error in [0, 1] over all pixels of the frame, what is not of the `part` blacked out."""
    image, source, empty = _blacked_out(image, source, mask, part, border=border)
    return _blank((image - source).double().square().mean(dim=(1, 2, 3)), empty)


def psnr(image: Tensor, source: Tensor, mask: Tensor, part: Part = "unedit", *, border: bool = True) -> Tensor:
    """PSNR in dB, at least 0, from `mse`; inf if the part is identical. (torchmetrics' own is of float32 precision.)"""
    return -10 * mse(image, source, mask, part, border=border).log10()


def ssim(image: Tensor, source: Tensor, mask: Tensor, part: Part = "unedit", *, border: bool = True) -> Tensor:
    """torchmetrics' SSIM in [-1, 1] of the blacked-out frames: 1 all over the black, mixed windows at its edge."""
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes a second to import

    image, source, empty = _blacked_out(image, source, mask, part, border=border)
    if min(image.shape[2:]) <= SSIM_REACH:
        expected = f"over {SSIM_REACH} a side"
        raise InputError("images for SSIM", found=f"{list(image.shape[2:])} pixels", expected=expected)
    values = structural_similarity_index_measure(image.double(), source.double(), data_range=1.0, reduction="none")
    return _blank(values, empty)


def lpips_part(
    image: Tensor, source: Tensor, mask: Tensor, net: PerceptualNet, part: Part = "unedit", *, border: bool = True
) -> Tensor:
    """LPIPS, at least 0, of the blacked-out frames (PIE-Bench: net squeeze), averaged over the whole frame."""
    image, source, empty = _blacked_out(image, source, mask, part, border=border)
    return _blank(lpips(image, source, net), empty)


def structure(image: Tensor, source: Tensor, keys: TokenKeys, *, antialias: bool = False) -> Tensor:
    """Structure distance in [0, 4] of the whole frames on values from 0 to 255 (PIE-Bench: dino_vitb8, block 11).

    `antialias` False is torchvision 0.13, PIE-Bench's; from 0.17 on its script shrinks with a filter.
    """
    return structure_distance(image, source, keys, scale=255.0, antialias=antialias)


def clip_whole(image: Tensor, prompts: Sequence[str], encoder: ImageTextEncoder) -> Tensor:
    """100 cos in [-100, 100] of the whole image and its whole prompt (of the source: the sanity column)."""
    return clip_score(image, [plain_prompt(prompt) for prompt in prompts], encoder)


def clip_edited(
    image: Tensor, mask: Tensor, prompts: Sequence[str], encoder: ImageTextEncoder, *, border: bool = True
) -> Tensor:
    """100 cos in [-100, 100] of the image, black outside the mask and not cropped, and the whole target prompt."""
    image, _, empty = _blacked_out(image, image, mask, "edit", border=border)
    return _blank(clip_whole(image, prompts, encoder), empty)


def _blacked_out(
    image: Tensor, source: Tensor, mask: Tensor, part: Part, *, border: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Both images times the part, and [B] whether the part is empty."""
    image, source, mask = checked(image, source, mask)
    mask = with_border(mask) if border else mask
    if part not in ("unedit", "edit", "whole"):
        raise InputError("part", found=repr(part), expected="unedit, edit or whole")
    kept = {"unedit": ~mask, "edit": mask, "whole": torch.ones_like(mask)}[part]
    return image * kept, source * kept, ~kept.any(dim=(1, 2, 3))


def _blank(values: Tensor, empty: Tensor) -> Tensor:
    return values.masked_fill(empty, nan)

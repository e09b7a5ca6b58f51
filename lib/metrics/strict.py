"""Scores that a mask's size does not flatter: the namespace `strict`. Its PSNR and SSIM stand in `lib.metrics.pixels`.

Images are float32 RGB [B, 3, H, W] in [0, 1], rounded to the 256 levels of a PNG first; masks are bool [B, 1, H, W],
True = may change. Wrong ranges, layouts and sizes raise InputError. Scores are float64 [B] on the CPU, unscaled, and
NaN in the row of a case that has nothing to score: no background, no mask, no border between the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nan
from torch.nn.functional import max_pool2d

from lib.core.errors import InputError
from lib.core.images import check_images, check_masks, to_uint8
from lib.metrics.clip import check_texts, clip_score
from lib.metrics.extractors import ImageTextEncoder, PerceptualNet, TokenKeys
from lib.metrics.perceptual import lpips, lpips_map, structure_distance
from lib.metrics.pixels import checked

CROP_MARGIN = 0.1  # of the box's sides, added on each side
SEAM_REACH = 4  # how many pixels from the border the gradients are taken that a seam is measured against
OVER_EDIT_LEVELS = 10


def background_mse(image: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error in [0, 1] of the pixels outside the mask."""
    image, source, mask = checked(image, source, mask)
    background = (~mask).double()
    error = ((image - source).double().square() * background).sum(dim=(1, 2, 3))
    return error / (3 * background.sum(dim=(1, 2, 3)))


def background_lpips(image: Tensor, source: Tensor, mask: Tensor, net: PerceptualNet) -> Tensor:
    """LPIPS at every pixel of the untouched images, at least 0, averaged outside the mask.

    What happens inside leaks out by the receptive field; `background_lpips_paste` has no leak.
    """
    image, source, mask = checked(image, source, mask)
    background = (~mask).double()
    return (lpips_map(image, source, net) * background).sum(dim=(1, 2, 3)) / background.sum(dim=(1, 2, 3))


def background_lpips_paste(image: Tensor, source: Tensor, mask: Tensor, net: PerceptualNet) -> Tensor:
    """LPIPS, at least 0, after the source is pasted into the edit region: whole frame, only the background differs."""
    image, source, mask = checked(image, source, mask)
    values = lpips(torch.where(mask, source, image), source, net)
    return values.masked_fill(mask.all(dim=(1, 2, 3)), nan)


def structure(image: Tensor, source: Tensor, keys: TokenKeys, *, antialias: bool = True) -> Tensor:
    """Structure distance in [0, 4] on values in [0, 1], as the network was trained and as Splice defines it."""
    return structure_distance(image, source, keys, scale=1.0, antialias=antialias)


def bounding_box(mask: Tensor, margin: float = CROP_MARGIN) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right) of one mask [1, H, W], ends excluded; None if it is empty.

    Each side moves out by `margin` times the box's height or width, rounded, as far as the frame goes.
    """
    if margin < 0:
        raise InputError("margin", found=margin, expected="0 or more")
    if not mask.any():
        return None
    box: list[int] = []
    for filled in (mask[0].any(dim=1), mask[0].any(dim=0)):
        inside = filled.nonzero()
        first, last = int(inside[0]), int(inside[-1]) + 1
        extra = round(margin * (last - first))
        box += [max(0, first - extra), min(len(filled), last + extra)]
    return box[0], box[1], box[2], box[3]


def clip_crop(
    image: Tensor, mask: Tensor, phrases: Sequence[str], encoder: ImageTextEncoder, *, margin: float = CROP_MARGIN
) -> Tensor:
    """100 cos in [-100, 100] of the mask's bounding box with its margin, and a phrase for what should be in it.

    Crops differ in size and are encoded one by one. NaN if the mask is empty.
    """
    check_images(image, "scored images")
    check_masks(mask, image)
    check_texts(phrases, image)
    scores = []
    for picture, region, phrase in zip(image, mask, phrases, strict=True):
        box = bounding_box(region, margin)
        if box is None:
            scores.append(torch.tensor([nan], dtype=torch.float64))
            continue
        top, bottom, left, right = box
        scores.append(clip_score(picture[None, :, top:bottom, left:right], [phrase], encoder))
    return torch.cat(scores)


def seam_score(image: Tensor, mask: Tensor) -> Tensor:
    """How far the mask's border shows, in [-1, 1]: (J - R) / (J + R).

    J is the mean absolute step between neighbouring pixels on either side of the border. R is that between neighbours
    on one side, at most SEAM_REACH pixels from it, inside and outside weighing the same, taken along the rows and the
    columns in the proportion in which the border crosses them. 0: the border looks like what surrounds it (also where
    neither has any step); near 1: all steps lie on it. An object's own outline counts as well: read it beside the same
    score of the source. NaN without a border.
    """
    image, _, mask = checked(image, image, mask)
    near = _spread(mask) & _spread(~mask)
    crossings = torch.zeros(len(image), dtype=torch.float64)
    jump, around = torch.zeros_like(crossings), torch.zeros_like(crossings)
    for axis in (2, 3):
        (here, there), (in_here, in_there) = _neighbours(image.double(), axis), _neighbours(mask, axis)
        step = (here - there).abs().mean(dim=1, keepdim=True)
        close = torch.logical_and(*_neighbours(near, axis))
        crossing = in_here ^ in_there
        sides = torch.stack(
            [_mean_over(step, in_here & in_there & close), _mean_over(step, ~in_here & ~in_there & close)]
        )
        number = crossing.sum(dim=(1, 2, 3))
        crossings += number
        jump += (step * crossing).sum(dim=(1, 2, 3))
        around += number * sides.nanmean(dim=0).nan_to_num()
    total = jump + around
    return torch.where(total == 0, 0.0, (jump - around) / total).masked_fill(crossings == 0, nan)


def over_edit_share(image: Tensor, source: Tensor, mask: Tensor, levels: int = OVER_EDIT_LEVELS) -> Tensor:
    """Share in [0, 1] of the pixels outside the mask of which some channel changed by more than `levels` of 255."""
    if not 0 <= levels < 255:
        raise InputError("levels", found=levels, expected="a number from 0 to 254")
    image, source, mask = checked(image, source, mask)
    change = (to_uint8(image).int() - to_uint8(source).int()).abs().amax(dim=1, keepdim=True)
    background = ~mask
    return ((change > levels) & background).sum(dim=(1, 2, 3)).double() / background.sum(dim=(1, 2, 3))


def _spread(region: Tensor) -> Tensor:
    """The region and all pixels within SEAM_REACH of it."""
    return max_pool2d(region.float(), kernel_size=2 * SEAM_REACH + 1, stride=1, padding=SEAM_REACH) > 0


def _mean_over(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum(dim=(1, 2, 3)) / where.sum(dim=(1, 2, 3))


def _neighbours(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Every pixel that has a next one along the axis, and that next one."""
    return x.narrow(axis, 0, x.shape[axis] - 1), x.narrow(axis, 1, x.shape[axis] - 1)

"""Strict pixel scores: only what lies outside the mask counts, on the images as they are, never blacked out.

All images are float32 RGB [B, 3, H, W] in [0, 1] and are rounded to the 256 levels of a PNG first; masks are bool
[B, 1, H, W], True = may change. Wrong ranges and layouts raise InputError. Scores are float64 [B] on the CPU.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from lib.core.errors import InputError
from lib.core.images import check_images, check_masks, quantise

# Identical pictures have no finite PSNR. Rounding to 8 bits alone costs a mean squared error of (1/255)^2 / 12, which
# is 58.9 dB, so that nothing above says anything of an editor: every score is cut at this ceiling, copies included.
PSNR_CEILING = 60.0
SSIM_REACH, SSIM_SIGMA = 5, 1.5  # half the 11 x 11 window, and its width
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def background_psnr(image: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """PSNR in dB of the pixels outside the mask, in [0, PSNR_CEILING]; NaN where the mask covers everything."""
    image, source, mask = checked(image, source, mask)
    background = (~mask).double()
    error = ((image - source).double().square() * background).sum(dim=(1, 2, 3))
    return _decibel(error / (3 * background.sum(dim=(1, 2, 3))))


def target_psnr(image: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB against the right answer over the whole frame, in [0, PSNR_CEILING]."""
    image, target, _ = checked(image, target, None)
    return _decibel((image - target).double().square().mean(dim=(1, 2, 3)))


def background_ssim(image: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """SSIM in [-1, 1], averaged over the pixels whose 11 x 11 window lies outside the mask; NaN if there is none.

    The map is the usual one (Gaussian window, sigma 1.5, data range 1, frame reflected) and equals torchmetrics' in
    float64, whose convolution of doubles takes longer than editing the picture did. A window that reached into the mask
    would punish the edit itself.
    """
    image, source, mask = checked(image, source, mask)
    if min(image.shape[2:]) <= SSIM_REACH:
        raise InputError(
            "images for SSIM", found=f"{list(image.shape[2:])} pixels", expected=f"over {SSIM_REACH} a side"
        )
    full = _ssim_map(image.double(), source.double())
    touched = max_pool2d(mask.double(), kernel_size=2 * SSIM_REACH + 1, stride=1, padding=SSIM_REACH)
    clear = (touched == 0).double()
    return (full * clear).sum(dim=(1, 2, 3)) / (3 * clear.sum(dim=(1, 2, 3)))


def checked(image: Tensor, other: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both images at 256 levels and the mask (none given: nothing may change), on the CPU; or InputError."""
    check_images(image, "scored images")
    check_images(other, "reference images")
    if image.shape != other.shape:
        raise InputError("scored images", found=f"shape {list(image.shape)}", expected=f"{list(other.shape)}")
    if mask is None:
        mask = torch.zeros(len(image), 1, *image.shape[2:], dtype=torch.bool)
    check_masks(mask, image)
    return quantise(image.cpu()), quantise(other.cpu()), mask.cpu()


def _ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """SSIM (Wang et al. 2004) at every pixel of every channel of images [B, C, H, W] in [0, 1].

    float64: variances are differences of nearly equal numbers where a picture is flat.
    """
    down, across = (_blur(size).to(a) for size in a.shape[2:])
    mean_a, mean_b, aa, bb, ab = (down @ x @ across.T for x in (a, b, a * a, b * b, a * b))
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a**2 + mean_b**2 + SSIM_C1)
    structure = (2 * (ab - mean_a * mean_b) + SSIM_C2) / ((aa - mean_a**2) + (bb - mean_b**2) + SSIM_C2)
    return luminance * structure


@lru_cache
def _blur(size: int) -> Tensor:
    """The Gaussian window along one side as a matrix [size, size], the frame reflected about its outermost pixels."""
    reach = torch.arange(-SSIM_REACH, SSIM_REACH + 1)
    weights = torch.exp(-0.5 * (reach.double() / SSIM_SIGMA) ** 2)
    places = (torch.arange(size)[:, None] + reach).abs()
    places = size - 1 - (size - 1 - places).abs()
    return torch.zeros(size, size).double().scatter_add_(1, places, (weights / weights.sum()).expand(size, -1))


def _decibel(squared_error: Tensor) -> Tensor:
    return (-10 * squared_error.log10()).clamp(max=PSNR_CEILING)

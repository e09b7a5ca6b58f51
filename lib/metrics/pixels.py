"""Strict pixel scores: only what lies outside the mask counts, on the images as they are, never blacked out.

All images are float32 RGB [B, 3, H, W] in [0, 1] and are rounded to the 256 levels of a PNG first; masks are bool
[B, 1, H, W], True = may change. Wrong ranges and layouts raise InputError. Scores are float64 [B] on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from lib.core.errors import InputError
from lib.core.images import check_images, check_masks, quantise

# Identical pictures have no finite PSNR. Rounding to 8 bits alone costs a mean squared error of (1/255)^2 / 12, which
# is 58.9 dB, so that nothing above says anything of an editor: every score is cut at this ceiling, copies included.
PSNR_CEILING = 60.0
SSIM_REACH = 5  # half the 11 x 11 window


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

    The map is torchmetrics' (Gaussian window, sigma 1.5, data range 1, frame reflected). A window that reached into the
    mask would punish the edit itself.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes a second to import

    image, source, mask = checked(image, source, mask)
    if min(image.shape[2:]) <= SSIM_REACH:
        raise InputError(
            "images for SSIM", found=f"{list(image.shape[2:])} pixels", expected=f"over {SSIM_REACH} a side"
        )
    _, full = structural_similarity_index_measure(
        image.double(), source.double(), data_range=1.0, return_full_image=True
    )
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


def _decibel(squared_error: Tensor) -> Tensor:
    return (-10 * squared_error.log10()).clamp(max=PSNR_CEILING)

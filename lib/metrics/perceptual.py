"""Distances between the features of a network: LPIPS (Zhang et al. 2018) and structure distance (Tumanyan et al. 2022).

The network is injected (`lib.metrics.extractors`); what stands here is the arithmetic around it. Images are float32 RGB
[B, 3, H, W] in [0, 1] and are mapped here to the range that each network was trained on; wrong ranges, layouts and
sizes raise InputError. Scores are float64 [B] on the CPU, 0 for equal images, and symmetric.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lib.core.errors import InputError
from lib.core.images import check_images, quantise
from lib.metrics.clip import cosine
from lib.metrics.extractors import IMAGENET_MEAN, IMAGENET_STD, ImageEncoder, PerceptualNet, TokenKeys

# LPIPS's own scaling of images in [-1, 1].
LPIPS_SHIFT, LPIPS_SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
LPIPS_EPSILON = 1e-8  # under the root, as torchmetrics has it since 1.2.1
STRUCTURE_SIDE, STRUCTURE_MAX_SIDE = 224, 480  # the shorter side becomes 224 unless the longer one would exceed 480
COSINE_EPSILON = 1e-8  # smallest product of two keys' norms


def lpips(image: Tensor, other: Tensor, net: PerceptualNet) -> Tensor:
    """LPIPS [B], at least 0: sum over layers of mean over pixels of w_l . (phi_l(x) - phi_l(y))^2, version 0.1.

    phi is scaled to unit length over channels. Equal to torchmetrics' LPIPS with normalize=True for the same trunk.
    """
    return torch.stack([layer.mean(dim=(1, 2, 3)) for layer in _layers(image, other, net)]).sum(dim=0)


def lpips_map(image: Tensor, other: Tensor, net: PerceptualNet) -> Tensor:
    """LPIPS at every pixel [B, 1, H, W]: each layer's map enlarged (bilinear) to the image's size, then summed.

    The receptive fields reach beyond a pixel, so that a region's values depend a little on what lies around it.
    """
    size = image.shape[2:]
    return torch.stack(
        [interpolate(layer, size=size, mode="bilinear", align_corners=False) for layer in _layers(image, other, net)]
    ).sum(dim=0)


def structure_distance(image: Tensor, other: Tensor, keys: TokenKeys, *, scale: float, antialias: bool) -> Tensor:
    """Mean squared difference in [0, 4] of the two self-similarity maps of a ViT's keys (Splice, eq. 5), whole frame.

    `scale`: what an image in [0, 1] is multiplied by before ImageNet's mean and deviation are applied; 1 is what the
    network was trained on, 255 what PIE-Bench's evaluation feeds it. `antialias`: whether the bilinear shrinking to a
    shorter side of 224 filters first (torchvision on tensors: never by default up to 0.16, always from 0.17 on).
    """
    maps = []
    for name, pictures in (("scored images", image), ("reference images", other)):
        check_images(pictures, name)
        found = keys.keys(_for_imagenet(quantise(pictures.cpu()), scale=scale, antialias=antialias)).double().cpu()
        if found.ndim != 3 or len(found) != len(pictures):
            raise InputError(f"keys of {keys.name}", found=f"shape {list(found.shape)}", expected="[B, tokens, D]")
        maps.append(self_similarity(found))
    if image.shape != other.shape:
        raise InputError("scored images", found=f"shape {list(image.shape)}", expected=f"{list(other.shape)}")
    return (maps[0] - maps[1]).square().mean(dim=(1, 2))


def feature_distance(image: Tensor, other: Tensor, encoder: ImageEncoder) -> Tensor:
    """1 - cos in [0, 2] of the two images' vectors: how differently they are seen by this encoder."""
    check_images(image, "scored images")
    check_images(other, "reference images")
    return 1 - cosine(encoder.embed_images(image), encoder.embed_images(other))


def self_similarity(keys: Tensor) -> Tensor:
    """Cosine similarity of every two tokens, [B, T, T] from [B, T, D]. The order of the D entries does not matter."""
    norms = keys.norm(dim=2, keepdim=True)
    return keys @ keys.mT / (norms @ norms.mT).clamp(min=COSINE_EPSILON)


def _layers(image: Tensor, other: Tensor, net: PerceptualNet) -> list[Tensor]:
    """The weighted squared differences of each layer, float64 [B, 1, h, w]."""
    check_images(image, "scored images")
    check_images(other, "reference images")
    if image.shape != other.shape:
        raise InputError("scored images", found=f"shape {list(image.shape)}", expected=f"{list(other.shape)}")
    if min(image.shape[2:]) < net.smallest:
        raise InputError(
            f"images for LPIPS with {net.name}",
            found=f"{list(image.shape[2:])} pixels",
            expected=f"at least {net.smallest} a side",
        )
    first, second = (net.features(_for_lpips(quantise(pictures.cpu()))) for pictures in (image, other))
    if not len(first) == len(second) == len(net.heads):
        raise InputError(f"features of {net.name}", found=f"{len(first)} layers", expected=f"{len(net.heads)}")
    return [
        torch.einsum("c,bchw->bhw", head.double().cpu(), (_unit(x) - _unit(y)).square())[:, None]
        for head, x, y in zip(net.heads, first, second, strict=True)
    ]


def _unit(features: Tensor) -> Tensor:
    features = features.double().cpu()
    return features / (features.square().sum(dim=1, keepdim=True) + LPIPS_EPSILON).sqrt()


def _for_lpips(images: Tensor) -> Tensor:
    shift, scale = (torch.tensor(values)[:, None, None] for values in (LPIPS_SHIFT, LPIPS_SCALE))
    return (2 * images - 1 - shift) / scale


def _for_imagenet(images: Tensor, *, scale: float, antialias: bool) -> Tensor:
    from torchvision.transforms.v2 import functional  # takes a second to import

    small = functional.resize(images * scale, [STRUCTURE_SIDE], max_size=STRUCTURE_MAX_SIDE, antialias=antialias)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (small - mean) / std

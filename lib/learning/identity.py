"""Identity encoders: whether two pictures show the same person or the same object, however placed, lit or drawn.

There are two, trained apart (`identity_a`, `identity_b`) on data from `identity_data`: an editor may be trained against
A; B only scores. Architecture, loss, augmentation, seed and order of the data differ, so that their errors may too.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from math import nan
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lib.core.errors import InputError
from lib.core.paths import resolve

SIDE = 64  # pixels of the pictures that the encoders take
MARGIN = 0.1  # of a mask's bounding box, on each side, in its longer side


def crop_to_mask(images: Tensor, masks: Tensor, margin: float = MARGIN, side: int = SIDE) -> Tensor:
    """The square around each mask's bounding box with a margin, moved into the frame and resized: [B, 3, side, side].

    images [B, 3, H, W], masks bool [B, 1, H, W], True where the thing is. Differentiable in the images.

    Raises:
        InputError: if shapes or dtype do not fit or a mask is empty.
    """
    wanted = [len(images), 1, *images.shape[2:]]
    if masks.dtype != torch.bool or list(masks.shape) != wanted:
        raise InputError("mask to crop to", found=f"{masks.dtype} {list(masks.shape)}", expected=f"bool {wanted}")
    crops = []
    for image, mask in zip(images, masks[:, 0], strict=True):
        if not mask.any():
            raise InputError("mask to crop to", found="no pixel", expected="one pixel at least")
        ends = [(int(line.nonzero()[0]), int(line.nonzero()[-1]) + 1) for line in (mask.any(1), mask.any(0))]
        longest = max(end - start for start, end in ends)
        size = min(round(longest * (1 + 2 * margin)), *mask.shape)
        corner = [
            min(max((start + end - size) // 2, 0), length - size)
            for (start, end), length in zip(ends, mask.shape, strict=True)
        ]
        part = image[None, :, corner[0] : corner[0] + size, corner[1] : corner[1] + size]
        crops.append(F.interpolate(part, (side, side), mode="bilinear", antialias=True))
    return torch.cat(crops)


class ResidualFeatures(nn.Module):
    """Pictures [B, 3, 64, 64] -> [B, 64]: strided residual stages with batch norm, average pooling."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        self.downs = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in pairwise((3, *widths)))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(m for _ in range(2) for m in (
                nn.BatchNorm2d(o), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1, bias=False)))) for o in widths)  # fmt: skip
        self.out = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], 64)

    def forward(self, x: Tensor) -> Tensor:
        for down, block in zip(self.downs, self.blocks, strict=True):
            x = down(x)
            x = x + block(x)
        return self.head(self.out(x))


class PlainFeatures(nn.Sequential):
    """Pictures [B, 3, 64, 64] -> [B, 64]: 4 x 4 patches, plain convolutions with group norm, maximum pooling."""

    def __init__(self, widths: tuple[int, ...] = (48, 96, 144)) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=4)]  # 16 x 16
        for inner, outer in pairwise((widths[0], *widths)):
            for i in (inner, outer):
                layers += [nn.Conv2d(i, outer, 3, padding=1), nn.GroupNorm(8, outer), nn.GELU()]
            layers.append(nn.MaxPool2d(2))
        super().__init__(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 64))


ARCHITECTURES: dict[str, type[nn.Module]] = {"residual": ResidualFeatures, "plain": PlainFeatures}


class IdentityEncoder(nn.Module):
    """Pictures to unit vectors. Two show the same identity if their cosine is at least `threshold`."""

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.architecture, self.threshold = architecture, nan
        self.features = ARCHITECTURES[architecture]()

    def embed(self, images: Tensor, masks: Tensor | None = None) -> Tensor:
        """Unit vectors [B, 64] of pictures [B, 3, H, W] in [0, 1]; with masks bool [B, 1, H, W], of the crops to them.

        Gradients flow to the pictures. A whole picture should be square and show one thing.

        Raises:
            InputError: for another layout or an empty mask.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError("picture for the identity encoder", found=list(images.shape), expected="[B, 3, H, W]")
        if masks is not None:
            images = crop_to_mask(images, masks)
        elif images.shape[2:] != (SIDE, SIDE):
            images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        return F.normalize(self.features(images * 2 - 1).float(), dim=1)


def save_identity(encoder: IdentityEncoder, folder: Path) -> None:
    """Half-precision weights, the architecture and the threshold."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in encoder.state_dict().items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = {"identity_encoder": encoder.architecture, "threshold": encoder.threshold}
    (folder / "config.json").write_text(json.dumps(config) + "\n")


def load_identity(folder: str | Path) -> IdentityEncoder:
    """The trained encoder of a folder, in evaluation mode, float32.

    Raises:
        InputError: for a missing folder or file, a folder of something else, or unreadable weights.
    """
    folder = resolve(folder)
    expected = "a folder made by the stage `identity-a` or `identity-b`"
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise InputError(f"identity encoder {folder.name}", found=f"no {name}", expected=expected)
    try:
        config = json.loads((folder / "config.json").read_text())
        encoder = IdentityEncoder(config["identity_encoder"])
        encoder.threshold = float(config["threshold"])
        stored = load_file(folder / "model.safetensors")
        encoder.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"identity encoder {folder.name}", found=f"{error!r:.200}", expected=expected) from error
    return encoder.eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of pictures, each [N, 3, 64, 64] in [0, 1]; same: bool [N], whether both show one identity."""

    first: Tensor
    second: Tensor
    same: Tensor


@torch.inference_mode()
def similarities(encoder: IdentityEncoder, pairs: Pairs, batch: int = 128) -> Tensor:
    """Cosine of each pair's embeddings: float32 [N]."""
    parts = zip(pairs.first.split(batch), pairs.second.split(batch), strict=True)
    return torch.cat([(encoder.embed(one) * encoder.embed(other)).sum(1) for one, other in parts])


def verification_accuracy(similarity: Tensor, same: Tensor, threshold: float) -> float:
    """Mean of two shares: same pairs at or above the threshold, different pairs below it. similarity, same: [N].

    Raises:
        InputError: if either kind of pair is missing.
    """
    if same.all() or not same.any():
        raise InputError("pairs to verify", found=f"{int(same.sum())} same of {len(same)}", expected="both kinds")
    right = ((similarity >= threshold) == same).double()
    return (right[same].mean() + right[~same].mean()).item() / 2


def best_threshold(similarity: Tensor, same: Tensor) -> float:
    """The threshold of the highest verification accuracy, halfway between two neighbouring similarities."""
    ordered = similarity.double().unique()
    candidates = [*((ordered[1:] + ordered[:-1]) / 2).tolist(), ordered[0].item()]
    return max(candidates, key=lambda threshold: verification_accuracy(similarity.double(), same, threshold))


def error_correlation(encoder_a: IdentityEncoder, encoder_b: IdentityEncoder, pairs: Pairs) -> float:
    """Pearson's correlation over pairs of "A is wrong" and "B is wrong", each at its own threshold.

    0: their errors are independent; 1: they are the same. NaN if one of them is wrong always or never.
    """
    wrong = [((similarities(each, pairs) >= each.threshold) != pairs.same).double() for each in (encoder_a, encoder_b)]
    deviation = [each - each.mean() for each in wrong]
    scale = deviation[0].norm() * deviation[1].norm()
    return (deviation[0] @ deviation[1] / scale).item() if scale > 0 else nan

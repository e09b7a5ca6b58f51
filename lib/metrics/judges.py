"""The judges that are shipped, as the networks that scores look through; and every judge opened by its name.

| judge | of `Extractors` | the world's | by name |
|---|---|---|---|
| clip | clip | models/tiny-clip | a CLIP of the hub or a folder; of open_clip: "ViT-L-14-quickgelu:openai", a folder |
| dino | keys | none | a ViT of the hub or a folder |
| lpips | perceptual | none | squeeze, alex or vgg |
| identity | identity | models/identity-b | a ViT of the hub (DINO, DINOv2) or a folder, on the crop to the mask |

Encoder A may be what an editor was trained against, hence B. Pictures outside [0, 1] raise InputError in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nan

from lib.core.errors import InputError
from lib.core.images import check_images, check_masks
from lib.metrics.clip_judge import TINY_CLIP, folder_named, open_clip, read_object
from lib.metrics.extractors import CLIP, DINO, DINO2, VIT_SIDE, CropEncoder, ImageEncoder, LPIPSNet, dino_keys, hub_vit
from lib.metrics.tables import TABLE, Extractors

if TYPE_CHECKING:
    from lib.learning.identity import IdentityEncoder

IDENTITY = "models/identity-b"
WORLD = {"clip": TINY_CLIP, "identity": IDENTITY}  # judge -> name
PUBLISHED = {"clip": CLIP, "dino": DINO, "lpips": "squeeze", "identity": DINO2}
FIELDS = {"clip": "clip", "dino": "keys", "lpips": "perceptual", "identity": "identity"}  # judge -> of Extractors


class Identity:
    """An identity encoder of ours as a `CropEncoder`: it sees the square around each mask."""

    def __init__(self, name: str, encoder: IdentityEncoder, device: str = "cpu") -> None:
        self.name, self._encoder, self._device = name, encoder.to(device), device

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors [B, 64] of whole images [B, 3, H, W] in [0, 1]. InputError for anything else."""
        check_images(images, f"images for {self.name}")
        return self._encoder.embed(images.to(self._device))

    @torch.no_grad()
    def embed_crops(self, images: Tensor, masks: Tensor) -> Tensor:
        """Unit vectors [B, 64] of the crops to masks bool [B, 1, H, W]; NaN where one is empty. InputError as above."""
        check_images(images, f"images for {self.name}")
        return _of_crops(images, masks, self._encoder.embed, self._device)


class Cropped:
    """Any `ImageEncoder` as a `CropEncoder`."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self.name, self._encoder = encoder.name, encoder

    def embed_images(self, images: Tensor) -> Tensor:
        return self._encoder.embed_images(images)

    def embed_crops(self, images: Tensor, masks: Tensor) -> Tensor:
        """[B, D] of the squares around masks bool [B, 1, H, W], at 224 pixels a side; NaN where one is empty."""
        from lib.learning.identity import crop_to_mask

        check_images(images, f"images for {self.name}")

        def embed(some: Tensor, where: Tensor) -> Tensor:
            return self._encoder.embed_images(crop_to_mask(some, where, side=VIT_SIDE).clamp(0, 1))

        return _of_crops(images, masks, embed, "cpu")


def identity(folder: str | Path = IDENTITY, device: str = "cpu") -> Identity:
    """An identity encoder that a stage made. InputError if the folder is missing or something else."""
    from lib.learning.identity import load_identity

    return Identity(Path(folder).name, load_identity(folder), device)


def open_extractors(names: Mapping[str, str], device: str = "cpu") -> Extractors:
    """The judges named in {clip, dino, lpips, identity: name}; those without a name are None.

    InputError naming the judge if there is no such judge or it cannot be fetched or opened.
    """
    openers = {"clip": open_clip, "dino": _open_keys, "lpips": _open_lpips, "identity": _open_identity}
    if unknown := sorted(set(names) - set(openers)):
        raise InputError("judge", found=", ".join(unknown), expected=f"one of {', '.join(openers)}")
    opened: dict[str, Any] = {}
    for judge, name in names.items():
        try:
            opened[FIELDS[judge]] = openers[judge](name, device)
        except InputError as error:
            thing = f"{judge} judge {name!r}, {error.thing}"
            raise InputError(thing, found=error.found, expected=f"{error.expected}; none leaves it out") from error
    return Extractors(**opened)


def judges_for(namespaces: Iterable[str]) -> set[str]:
    """The judges that scores of these namespaces look through."""
    wanted = {row.extractor for row in TABLE.values() if row.namespace in set(namespaces)}
    return {judge for judge, field in FIELDS.items() if field in wanted}


def _open_keys(name: str, device: str) -> Any:
    folder_named(name)
    return dino_keys(name, device)


def _open_lpips(name: str, device: str) -> LPIPSNet:
    return LPIPSNet(name, device)


def _open_identity(name: str, device: str) -> CropEncoder:
    folder = folder_named(name)
    if folder is not None and "identity_encoder" in read_object(folder / "config.json"):
        return identity(folder, device)
    return Cropped(hub_vit(name, device))


def _of_crops(images: Tensor, masks: Tensor, embed: Any, device: str) -> Tensor:
    """What `embed` makes of the images whose mask is not empty; NaN in the other rows, or [B, 1] if there are none."""
    check_masks(masks, images)
    there = masks.flatten(1).any(dim=1).cpu()
    if not there.any():
        return torch.full((len(images), 1), nan)
    found = embed(images[there].to(device), masks[there].to(device)).cpu()
    vectors = torch.full((len(images), found.shape[1]), nan, dtype=found.dtype)
    vectors[there] = found
    return vectors

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

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nan

from lib.core.errors import InputError
from lib.core.images import check_images, check_masks
from lib.core.paths import ROOT, resolve
from lib.metrics.extractors import (
    CLIP,
    DINO,
    DINO2,
    VIT_SIDE,
    CropEncoder,
    ImageEncoder,
    ImageTextEncoder,
    LPIPSNet,
    dino_keys,
    hub_clip,
    hub_vit,
    open_clip_encoder,
)
from lib.metrics.tables import TABLE, Extractors

if TYPE_CHECKING:
    from lib.learning.clip import TinyClip
    from lib.learning.identity import IdentityEncoder

TINY_CLIP, IDENTITY = "models/tiny-clip", "models/identity-b"
WORLD = {"clip": TINY_CLIP, "identity": IDENTITY}  # judge -> name
PUBLISHED = {"clip": CLIP, "dino": DINO, "lpips": "squeeze", "identity": DINO2}
FIELDS = {"clip": "clip", "dino": "keys", "lpips": "perceptual", "identity": "identity"}  # judge -> of Extractors
WORDS_FILE = "tokenizer.json"  # what tiny-clip's configuration names as its tokenizer, as no model of the hub does


class TinyCLIP:
    """tiny-clip as an `ImageTextEncoder`; its vectors of images also serve FID, KID and feature distances."""

    def __init__(self, name: str, model: TinyClip, device: str = "cpu") -> None:
        self.name, self._model, self._device = name, model.to(device), device
        self._words = set(model.tokenizer.get_vocab())

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors [B, 128] of images [B, 3, H, W] in [0, 1]. InputError for anything else."""
        check_images(images, f"images for {self.name}")
        return self._model.embed_images(images.to(self._device))

    def reads(self, text: str) -> bool:
        """Whether the world has all its words. "A photo depicts" is not among them."""
        return all(word in self._words for word in _words(text).lower().split())

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors [B, 128]; commas are passed over.

        InputError for a text without words, with others than the world's, or with more than it takes.
        """
        return self._model.embed_texts([_words(text) for text in texts])


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


def tiny_clip(folder: str | Path = TINY_CLIP, device: str = "cpu") -> TinyCLIP:
    """The judge of captions that the stage `tiny-clip` made. InputError if the folder is missing or something else."""
    from lib.learning.clip import load_clip

    return TinyCLIP(Path(folder).name, load_clip(folder), device)


def identity(folder: str | Path = IDENTITY, device: str = "cpu") -> Identity:
    """An identity encoder that a stage made. InputError if the folder is missing or something else."""
    from lib.learning.identity import load_identity

    return Identity(Path(folder).name, load_identity(folder), device)


def open_extractors(names: Mapping[str, str], device: str = "cpu") -> Extractors:
    """The judges named in {clip, dino, lpips, identity: name}; those without a name are None.

    InputError naming the judge if there is no such judge or it cannot be fetched or opened.
    """
    openers = {"clip": _open_clip, "dino": _open_keys, "lpips": _open_lpips, "identity": _open_identity}
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


def _open_clip(name: str, device: str) -> ImageTextEncoder:
    architecture, colon, weights = name.partition(":")
    if colon:
        return open_clip_encoder(architecture, weights, device)
    folder = _folder(name)
    config = folder / "open_clip_config.json" if folder else None
    if config is None or not config.is_file():
        return hub_clip(name, device)
    return tiny_clip(folder, device) if _is_tiny(config) else open_clip_encoder(name, device=device)


def _open_keys(name: str, device: str) -> Any:
    _folder(name)
    return dino_keys(name, device)


def _open_lpips(name: str, device: str) -> LPIPSNet:
    return LPIPSNet(name, device)


def _open_identity(name: str, device: str) -> CropEncoder:
    folder = _folder(name)
    if folder is not None and "identity_encoder" in _read(folder / "config.json"):
        return identity(folder, device)
    return Cropped(hub_vit(name, device))


def _folder(name: str) -> Path | None:
    """The folder of this name; None if it is a name of the hub. InputError if it can only be a folder and is not."""
    folder = resolve(name)
    if folder.is_dir():
        return folder
    if name.startswith((".", "~", "/", "models/")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise InputError(f"folder {name}", found="no such folder", expected="a folder, or a name of the hub")
    if (ROOT / Path(name).parts[0]).is_dir():
        raise InputError(f"folder {name}", found="no such folder", expected="a folder, or a name of the hub")
    return None


def _is_tiny(config: Path) -> bool:
    """Whether an open_clip configuration is of the world's words."""
    text = _read(config).get("model_cfg", {})
    text = text.get("text_cfg", {}) if isinstance(text, dict) else {}
    return isinstance(text, dict) and text.get("hf_tokenizer_name") == WORDS_FILE


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; {} if there is none: whoever opens the folder says so."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _words(text: str) -> str:
    return text.replace(",", " ")


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

"""CLIP as a judge of pictures and prompts, opened by name: the world's own, one of the hub, one of open_clip."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.core.images import check_images
from lib.core.paths import ROOT, resolve
from lib.metrics.extractors import ImageTextEncoder, hub_clip, open_clip_encoder

if TYPE_CHECKING:
    from lib.learning.clip import TinyClip

TINY_CLIP = "models/tiny-clip"
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


def tiny_clip(folder: str | Path = TINY_CLIP, device: str = "cpu") -> TinyCLIP:
    """The judge of captions that the stage `tiny-clip` made. InputError if the folder is missing or something else."""
    from lib.learning.clip import load_clip

    return TinyCLIP(Path(folder).name, load_clip(folder), device)


def open_clip(name: str, device: str = "cpu") -> ImageTextEncoder:
    """The CLIP of a name: of the hub, of a folder, or of open_clip as "ViT-L-14-quickgelu:openai".

    InputError if there is none or it cannot be fetched.
    """
    architecture, colon, weights = name.partition(":")
    if colon:
        return open_clip_encoder(architecture, weights, device)
    folder = folder_named(name)
    config = folder / "open_clip_config.json" if folder else None
    if config is None or not config.is_file():
        return hub_clip(name, device)
    return tiny_clip(folder, device) if _is_tiny(config) else open_clip_encoder(name, device=device)


def folder_named(name: str) -> Path | None:
    """The folder of this name; None if it is a name of the hub. InputError if it can only be a folder and is not."""
    folder = resolve(name)
    if folder.is_dir():
        return folder
    if name.startswith((".", "~", "/", "models/")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise InputError(f"folder {name}", found="no such folder", expected="a folder, or a name of the hub")
    if (ROOT / Path(name).parts[0]).is_dir():
        raise InputError(f"folder {name}", found="no such folder", expected="a folder, or a name of the hub")
    return None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; {} if there is none: whoever opens the folder says so."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_tiny(config: Path) -> bool:
    """Whether an open_clip configuration is of the world's words."""
    text = read_object(config).get("model_cfg", {})
    text = text.get("text_cfg", {}) if isinstance(text, dict) else {}
    return isinstance(text, dict) and text.get("hf_tokenizer_name") == WORDS_FILE


def _words(text: str) -> str:
    return text.replace(",", " ")

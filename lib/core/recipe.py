"""The recipe of an output: all that is needed to make it again."""

import dataclasses
import hashlib
import json
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.core.paths import resolve

PACKAGES = ("torch", "diffusers", "transformers", "palimpsest")


def recipe(
    *,
    editor: str,
    settings: Any,
    case_id: str,
    source_prompt: str | None,
    target_prompt: str,
    seed: int,
    source_hash: str,
    backbone_hash: str,
) -> dict[str, Any]:
    """What made an edited image, as plain JSON values. `settings` is the editor's settings dataclass."""
    record = {
        "editor": editor,
        "settings": {"class": type(settings).__name__, **dataclasses.asdict(settings)},
        "case": case_id,
        "source_prompt": source_prompt,
        "target_prompt": target_prompt,
        "seed": seed,
        "source_hash": source_hash,
        "backbone_hash": backbone_hash,
        "versions": {name: _version(name) for name in PACKAGES},
    }
    return json.loads(json.dumps(record))  # tuples become lists here, so that reading it back gives an equal record


def hash_tensor(x: Tensor) -> str:
    """16 hex characters of the sha256 over dtype, shape and bytes; the device does not matter."""
    array = x.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{array.dtype} {list(array.shape)}\0".encode())
    digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def hash_folder(path: str | Path) -> str:
    """16 hex characters of the sha256 over the sorted relative names and the bytes of all files below `path`."""
    folder = resolve(path)
    if not folder.is_dir():
        raise InputError(f"folder {folder}", found="no such folder", expected="a folder to hash")
    digest = hashlib.sha256()
    for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in folder.rglob("*")):
        if file.is_file():
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
            digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:16]


@cache  # a package's metadata is a file that would be parsed for every image
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

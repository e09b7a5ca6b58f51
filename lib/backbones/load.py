"""Opening a model: the only place that loads pipelines. Safetensors only, no code from elsewhere, one dtype throughout.

A folder is checked file by file before anything is loaded, so that a bad one gives one clear line.
"""

import json
import re
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers.utils import logging as transformers_logging

from lib.backbones.base import Backbone
from lib.backbones.flux import FluxBackbone
from lib.backbones.sd3 import SD3Backbone
from lib.core.errors import InputError
from lib.core.memory import keep_freed_memory
from lib.core.paths import ROOT, resolve

BACKBONES: dict[str, type[Backbone]] = {"FluxPipeline": FluxBackbone, "StableDiffusion3Pipeline": SD3Backbone}
HUB_SECONDS = 10  # how long the hub may take to answer at all
EXPECTED = "a folder in diffusers layout, or the id of a model of the hub"
NEEDED = ("transformer", "vae", "scheduler")  # of a text encoder some models do without
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")


def load_backbone(
    name_or_folder: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    guidance_mode: str = "auto",
    offload: bool = False,
    slicing: bool = False,
    tiling: bool = False,
    double_shift: bool = False,
) -> Backbone:
    """Open a folder in diffusers layout (relative to the repository's root) or a model of the hub by its id.

    `device`: a GPU if there is one. `dtype`: float32 on the CPU, bfloat16 on a GPU, for every part of the model.
    `guidance_mode`: "distilled", "classifier-free", or "auto", which takes the first if the model can. `offload` keeps
    only the part at work on the GPU; `slicing` and `tiling` spare memory in the VAE; `double_shift`: see `SD3Backbone`.
    On the CPU the whole process keeps the memory that it frees (`lib.core.memory`).
    InputError, in one line, if the model is missing, incomplete, damaged, of another class, or out of reach.
    """
    name = str(name_or_folder)
    folder, revision = _locate(name)
    index = check_folder(folder, name)
    backbone_class = BACKBONES[index["_class_name"]]
    options: dict[str, Any] = {"double_shift": True} if double_shift else {}
    if double_shift and backbone_class is not SD3Backbone:
        raise InputError(f"double_shift of {name}", found=backbone_class.__name__, expected="an SD3 model")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    on_cpu = device.type == "cpu"
    if offload and on_cpu:
        raise InputError(f"offload of {name}", found="the CPU as its device", expected="a GPU")
    if on_cpu:
        keep_freed_memory()
    dtype = dtype or (torch.float32 if on_cpu else torch.bfloat16)
    left_out = {part: None for part, origin in index.items() if origin == [None, None]}
    try:
        with _bars_on_terminals_only():
            pipe = DiffusionPipeline.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, **left_out
            )
    except Exception as error:  # diffusers, transformers, tokenizers and safetensors each raise their own
        raise InputError(f"model {name}", found=_brief(error), expected="a folder that diffusers can load") from error
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if offload:
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.to(device)
    if on_cpu:
        pipe.vae.to(memory_format=torch.channels_last)  # a sixth less time to decode; the values differ by rounding
    if slicing:
        pipe.vae.enable_slicing()
    if tiling:
        pipe.vae.enable_tiling()
    return backbone_class(pipe, name=name, folder=folder, revision=revision, guidance_mode=guidance_mode, **options)


@contextmanager
def _bars_on_terminals_only() -> Iterator[None]:
    """Loading shows its bars to somebody who watches, and leaves logs and notebooks alone."""
    libraries = () if sys.stderr.isatty() else (diffusers_logging, transformers_logging)
    shown = [library for library in libraries if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def check_folder(folder: str | Path, name: str | None = None) -> dict[str, Any]:
    """Raise InputError unless `folder` holds a whole pipeline that we can edit with; return its `model_index.json`."""
    folder = Path(folder)
    thing = f"model {name or folder}"
    if not folder.is_dir():
        raise InputError(thing, found="no such folder", expected="a folder in diffusers layout")
    index = _read_json(folder / "model_index.json", thing)
    if index.get("_class_name") not in BACKBONES:
        found = f"pipeline class {index.get('_class_name')}"
        raise InputError(thing, found=found, expected=f"one of {', '.join(BACKBONES)}")
    for part in NEEDED:
        origin = index.get(part)
        if not isinstance(origin, list) or not origin or origin[0] is None:
            raise InputError(thing, found=f"no {part} in model_index.json", expected=", ".join(NEEDED))
    for part, origin in index.items():
        if not part.startswith("_") and isinstance(origin, list) and origin[0] is not None:
            _check_part(folder / part, origin, thing)
    return index


def _locate(name: str) -> tuple[Path, str | None]:
    """The folder of `name`, and its revision if it is a model of the hub. What is cached opens without a network."""
    if not name.strip():
        raise InputError("model", found=repr(name), expected=EXPECTED)
    folder = resolve(name)
    try:
        there = folder.is_dir()
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise InputError(f"model {name}", found=error.strerror, expected=EXPECTED) from error
    in_house = name.startswith((".", "~", "/")) or (ROOT / Path(name).parts[0]).is_dir() or name.startswith("models/")
    if there or in_house or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return folder, None
    try:
        cached = try_to_load_from_cache(name, "model_index.json")
    except HFValidationError as error:
        found = "no such folder, and no name that the hub allows"
        raise InputError(f"model {name}", found=found, expected=EXPECTED) from error
    if isinstance(cached, str):
        try:
            check_folder(Path(cached).parent, name)
            return Path(cached).parent, Path(cached).parent.name
        except InputError:
            pass  # begun and never finished, perhaps: the hub has the rest
    ask_hub(name)
    try:
        folder = Path(DiffusionPipeline.download(name, use_safetensors=True))
    except Exception as error:
        raise InputError(f"model {name}", found=_brief(error), expected="a download from the hub") from error
    return folder, folder.name


def ask_hub(name: str) -> None:
    """Raise InputError unless the hub answers for this model, soon: its client's own retries may take minutes."""
    error = _within(HUB_SECONDS, lambda: HfApi().model_info(name, timeout=HUB_SECONDS / 2))
    if error is not None:
        found = f"no such folder, none in the cache, none from the hub ({error})"
        raise InputError(f"model {name}", found=found, expected="a folder, a cached model, or a reachable hub")


def _within(seconds: float, call: Callable[[], object]) -> str | None:
    """What went wrong in `call`, in brief; None if it returned in time."""
    outcome = [f"none within {seconds} s"]

    def run() -> None:
        try:
            call()
            outcome.clear()
        except Exception as error:  # the hub's client raises errors of its own, of httpx and of the system
            outcome[0] = _brief(error)

    thread = Thread(target=run, daemon=True)  # looking up a name cannot be interrupted; a daemon can be left behind
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else None


def _check_part(part: Path, origin: list[str], thing: str) -> None:
    library, class_name = origin
    if not part.is_dir():
        raise InputError(thing, found=f"no part {part.name}", expected=f"a folder with a {class_name}")
    if "Tokenizer" in class_name:
        _read_json(part / "tokenizer_config.json", thing)
        if not any((part / file).is_file() for file in TOKENIZER_FILES):
            expected = f"one of {', '.join(TOKENIZER_FILES)}"
            raise InputError(thing, found=f"no vocabulary in {part.name}", expected=expected)
    elif "Scheduler" in class_name:
        _read_json(part / "scheduler_config.json", thing)
    elif "Processor" in class_name or "Extractor" in class_name:
        _read_json(part / "preprocessor_config.json", thing)
    else:
        _read_json(part / "config.json", thing)
        stem = "diffusion_pytorch_model" if library == "diffusers" else "model"
        index = part / f"{stem}.safetensors.index.json"
        whole = {"all": f"{stem}.safetensors"}
        shards = _read_json(index, thing).get("weight_map", whole) if index.is_file() else whole
        for shard in sorted(set(shards.values())):
            _check_safetensors(part / shard, thing)


def _check_safetensors(path: Path, thing: str) -> None:
    """Compare the file's length with what its header promises: 8 bytes of header length, the header, the tensors."""
    where = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise InputError(thing, found=f"no {where}", expected="its weights as safetensors")
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, path.stat().st_size)))
        ends = [tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise InputError(thing, found=f"an unreadable header in {where}", expected="whole safetensors") from error
    size = 8 + length + max(ends, default=0)
    if path.stat().st_size != size:
        raise InputError(thing, found=f"{path.stat().st_size} bytes in {where}", expected=f"{size} bytes")


def _read_json(path: Path, thing: str) -> dict[str, Any]:
    where = path.name if path.name == "model_index.json" else f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise InputError(thing, found=f"no {where}", expected="a folder in diffusers layout")
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(thing, found=f"an unreadable {where}", expected="a whole JSON object") from error


def _brief(error: BaseException) -> str:
    """An error's class and the first line of its message."""
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first[:160]}"

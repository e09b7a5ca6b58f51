"""Overhead of each editor: the time of its loop over the time of its transformer calls alone.

The loop is everything between encode and decode but the embedding of prompts. The very calls that the transformer got
in it are replayed with the same inputs and nothing around them; a perfect editor has an overhead of 1. Edits and
replays take turns, and every number is the median of the repeats.

    python -m bench.overhead --backbone models/tiny-flux --batch 32 --repeats 5
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from lib.backbones.base import Backbone
from lib.bench.cases import Batch, EditCase, collate
from lib.core.noise import Noise
from lib.core.paths import resolve
from lib.editors.registry import EDITORS, Editor, editor_named

PHASES = ("encode", "embed", "decode")
ROWS = ("encode", "embed", "loop", "replayed transformer calls", "decode", "overhead")


class Timed:
    """A backbone that notes how long its encode, embed and decode take."""

    def __init__(self, backbone: Backbone, clock: Callable[[], float]) -> None:
        self._backbone, self._clock = backbone, clock
        self.seconds = dict.fromkeys(PHASES, 0.0)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backbone, name)
        if name not in PHASES:
            return found

        def timed(*arguments: Any, **options: Any) -> Any:
            began = self._clock()
            result = found(*arguments, **options)
            self.seconds[name] += self._clock() - began
            return result

        return timed


def measure(
    editors: Sequence[Editor],
    backbone: Backbone,
    batch: Batch,
    repeats: int,
    clock: Callable[[], float] = perf_counter,
) -> dict[str, dict[str, float]]:
    """Seconds per batch in each of ROWS (the last is a ratio) and the number of transformer calls, per editor."""
    transformer = backbone.pipe.transformer
    samples: dict[str, list[dict[str, float]]] = {editor.name: [] for editor in editors}
    calls: dict[str, list[tuple[tuple, dict]]] = {editor.name: [] for editor in editors}
    with torch.inference_mode():
        for editor in editors:  # warms up, and keeps the inputs of every call
            kept = calls[editor.name]

            def keep(module: Any, inputs: tuple, named: dict, kept: list = kept) -> None:
                kept.append((inputs, named))

            handle = transformer.register_forward_pre_hook(keep, with_kwargs=True)
            _edit(editor, backbone, batch)
            handle.remove()
        for _ in range(repeats):
            for editor in editors:
                backbone._embed_cached.cache_clear()  # so that every repeat embeds its prompts
                timed = Timed(backbone, clock)
                began = clock()
                _edit(editor, timed, batch)
                loop = clock() - began - sum(timed.seconds.values())
                began = clock()
                for inputs, named in calls[editor.name]:
                    transformer(*inputs, **named)
                replay = clock() - began
                overhead = loop / replay
                sample = {"loop": loop, "replayed transformer calls": replay, "overhead": overhead, **timed.seconds}
                samples[editor.name].append(sample)
    return {
        name: {row: median(sample[row] for sample in taken) for row in ROWS} | {"calls": len(calls[name])}
        for name, taken in samples.items()
    }


def report(measured: dict[str, dict[str, float]], facts: str) -> str:
    """A Markdown table: a column per editor, milliseconds per batch, the overhead as a ratio."""
    names = list(measured)
    lines = ["# Overhead of the editors", "", facts, ""]
    lines += ["| per batch | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for row in ROWS[:-1]:
        label = "replayed transformer calls, ms (calls)" if row.startswith("replayed") else f"{row}, ms"
        cells = [f"{1000 * measured[name][row]:.1f}" for name in names]
        if row.startswith("replayed"):
            cells = [f"{cell} ({measured[name]['calls']:g})" for cell, name in zip(cells, names, strict=True)]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines.append(
        "| **overhead** (loop / replay) | " + " | ".join(f"{measured[n]['overhead']:.3f}" for n in names) + " |"
    )
    return "\n".join(lines) + "\n"


def device_name(device: torch.device) -> str:
    """What the machine calls its GPU or CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {torch.get_num_threads()} threads"


def make_batch(size: int, count: int) -> Batch:
    """Seeded random pictures with prompts that every backbone here can read."""
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return collate([_case(i, image) for i, image in enumerate(images)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description="Overhead of each editor over its transformer calls alone.")
    parser.add_argument("--backbone", default="models/tiny-flux", help="folder or hub name")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    without_gradients = [name for name, row in EDITORS.items() if not row.needs_gradients]
    parser.add_argument("--editors", nargs="+", default=without_gradients, metavar="NAME")
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", default="bench/overhead.md", help="file to write, relative to the repository")
    options = parser.parse_args(arguments)

    from lib.backbones.load import load_backbone  # so that --help needs no diffusers

    backbone = load_backbone(options.backbone, device=options.device)
    clock = perf_counter
    if backbone.device.type == "cuda":

        def clock() -> float:
            torch.cuda.synchronize(backbone.device)
            return perf_counter()

    editors = [editor_named(name) for name in options.editors]
    measured = measure(editors, backbone, make_batch(options.size, options.batch), options.repeats, clock)
    name = backbone.name if not Path(backbone.name).is_absolute() else Path(backbone.name).name
    facts = (
        f"{device_name(backbone.device)}; `{name}` in {str(backbone.dtype).removeprefix('torch.')}, guidance "
        f"{backbone.guidance_mode}; batch {options.batch} of {options.size} x {options.size} pixels; median of "
        f"{options.repeats} interleaved repeats; default settings; torch {torch.__version__}."
    )
    text = report(measured, facts)
    print(text)
    resolve(options.out).write_text(text)


def _edit(editor: Editor, backbone: Any, batch: Batch) -> Tensor:
    return editor.run(backbone, batch, editor.settings(), noise=Noise(batch.ids, 0)).image


def _case(i: int, image: Tensor) -> EditCase:
    mask = torch.zeros(1, *image.shape[1:], dtype=torch.bool)
    mask[..., : image.shape[2] // 2] = True
    return EditCase(id=f"{i:04}", image=image, source_prompt="a red cat", target_prompt="a blue dog", mask=mask)


if __name__ == "__main__":
    main()

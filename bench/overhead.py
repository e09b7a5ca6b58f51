"""Overhead of each editor: the time of its loop over the time of its transformer calls alone.

The loop is everything between encode and decode but the embedding of prompts. Each call that the transformer gets in
it is replayed alone, with the same inputs and the stock attention processors: a perfect editor has an overhead of 1.

Other work on the machine slows loop and replay, but not equally if they lie minutes apart. So each call is replayed
next to itself, before it and after it by turns, while the clock of the loop stands still, and editors take turns as
well. Of each call the median over the repeats of its ratio to its replay is taken: `overhead` is their mean times that
of the loop to its own calls, on the wall and in CPU time of this process, which does not run while others hold the
core. `of whole repeats` is the plain median over the repeats of loop / replay, which one disturbed call spoils.
`loop / its own calls` needs no replay, so its noise is least; it is the overhead of all editors that leave attention
alone, because their calls and the replays are one and the same.

    python -m bench.overhead --backbone models/tiny-flux --batch 32 --repeats 5 --steps 4 --threads 1
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.backbones.base import Backbone
from lib.bench.cases import Batch, EditCase, collate
from lib.core.noise import Noise
from lib.core.paths import resolve
from lib.editors.registry import EDITORS, Editor, editor_named

PHASES = ("encode", "embed", "decode")
TIMES = ("encode", "embed", "loop", "replayed transformer calls", "around the calls", "decode")
RATIOS = ("overhead", "overhead in CPU time", "overhead of whole repeats", "loop / its own calls")
LIMIT = 1.05

Clock = Callable[[], np.ndarray]  # seconds on the wall, and of the CPU in all threads of this process


class Timed:
    """A backbone that notes how long its encode, embed and decode take."""

    def __init__(self, backbone: Backbone, clock: Clock) -> None:
        self._backbone, self._clock = backbone, clock
        self.seconds = {name: np.zeros(2) for name in PHASES}

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


class Replayed:
    """Inside the block, every call of the transformer is made twice: for its caller, and alone.

    `own` and `alone` are the seconds of either kind, call by call; `stopped` those for which the loop's clock must
    stand still.
    """

    def __init__(self, transformer: nn.Module, clock: Clock, *, before: bool) -> None:
        self._transformer, self._clock, self._before = transformer, clock, before
        self._attention = [part for part in transformer.modules() if hasattr(part, "processor")]
        self._stock = [part.processor for part in self._attention]
        self._busy = False
        self.own: list[np.ndarray] = []
        self.alone: list[np.ndarray] = []
        self.stopped = np.zeros(2)

    def __enter__(self) -> Replayed:
        self._handles = [
            self._transformer.register_forward_pre_hook(self._enter, with_kwargs=True),
            self._transformer.register_forward_hook(self._leave, with_kwargs=True),
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: nn.Module, inputs: tuple, named: dict) -> None:
        if self._busy:
            return
        if (len(self.own) % 2 == 0) == self._before:
            self._replay(inputs, named)
        self._began = self._clock()

    def _leave(self, module: nn.Module, inputs: tuple, named: dict, result: Any) -> None:
        if self._busy:
            return
        self.own.append(self._clock() - self._began)
        if len(self.alone) < len(self.own):
            self._replay(inputs, named)

    def _replay(self, inputs: tuple, named: dict) -> None:
        stopped = self._clock()
        with self._bare():
            began = self._clock()
            self._transformer(*inputs, **named)
            self.alone.append(self._clock() - began)
        self.stopped += self._clock() - stopped

    @contextmanager
    def _bare(self) -> Iterator[None]:
        """No replay of the replay, and nobody's hooks in attention."""
        processors = [part.processor for part in self._attention]
        self._busy = True
        try:
            for part, processor in zip(self._attention, self._stock, strict=True):
                part.processor = processor
            yield
        finally:
            for part, processor in zip(self._attention, processors, strict=True):
                part.processor = processor
            self._busy = False


def clock_of(device: torch.device) -> Clock:
    """A clock that waits for the device. What the CPU does while a GPU works says nothing: NaN there."""

    def on_cpu() -> np.ndarray:
        return np.array([perf_counter(), process_time()])

    def on_gpu() -> np.ndarray:
        torch.cuda.synchronize(device)
        return np.array([perf_counter(), np.nan])

    return on_gpu if device.type == "cuda" else on_cpu


def measure(
    editors: Sequence[Editor],
    backbone: Backbone,
    batch: Batch,
    repeats: int,
    clock: Clock,
    steps: int | None = None,
) -> dict[str, dict[str, float]]:
    """Per editor: seconds on the wall per batch of each of TIMES, each of RATIOS, the number of transformer `calls`.

    `low` and `high` are the range of the overhead of whole repeats. One untimed edit warms up.
    """
    samples: dict[str, list[Sample]] = {editor.name: [] for editor in editors}
    with torch.inference_mode():
        _edit(editors[0], backbone, batch, steps)  # warms up
        for repeat in range(repeats):
            for editor in editors:
                backbone.forget_prompts()  # so that every repeat embeds them
                samples[editor.name].append(_sample(editor, backbone, batch, steps, clock, before=repeat % 2 == 0))
    return {name: summary(taken) for name, taken in samples.items()}


@dataclass(frozen=True)
class Sample:
    """One edit: seconds of its phases and its loop [2], of its calls and of their replays [calls, 2]."""

    phases: dict[str, np.ndarray]
    loop: np.ndarray
    own: np.ndarray
    alone: np.ndarray


def _sample(
    editor: Editor, backbone: Backbone, batch: Batch, steps: int | None, clock: Clock, *, before: bool
) -> Sample:
    timed = Timed(backbone, clock)
    with Replayed(backbone.pipe.transformer, clock, before=before) as replayed:
        began = clock()
        _edit(editor, timed, batch, steps)
        whole = clock() - began
    loop = whole - sum(timed.seconds.values()) - replayed.stopped
    return Sample(timed.seconds, loop, np.array(replayed.own), np.array(replayed.alone))


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """What `measure` says of one editor."""
    loop = np.array([sample.loop for sample in samples])  # [repeats, 2]
    own, alone = (np.array([getattr(sample, kind) for sample in samples]) for kind in ("own", "alone"))
    around = loop / own.sum(1)
    weight = np.median(alone, 0) / np.median(alone, 0).sum(0)  # [calls, 2]; calls may differ in size
    wall, cpu = (np.median(own / alone, 0) * weight).sum(0) * np.median(around, 0)
    repeats = (loop / alone.sum(1))[:, 0]
    seconds = {name: [sample.phases[name][0] for sample in samples] for name in PHASES}
    seconds |= {"loop": loop[:, 0], "replayed transformer calls": alone.sum(1)[:, 0]}
    seconds["around the calls"] = (loop - own.sum(1))[:, 0]
    return {name: float(np.median(values)) for name, values in seconds.items()} | {
        "overhead": float(wall),
        "overhead in CPU time": float(cpu),
        "overhead of whole repeats": float(np.median(repeats)),
        "loop / its own calls": float(np.median(around[:, 0])),
        "low": float(repeats.min()),
        "high": float(repeats.max()),
        "calls": own.shape[1],
    }


def report(measured: dict[str, dict[str, float]], facts: str) -> str:
    """A Markdown table: a row per editor, milliseconds per batch, the overheads as ratios."""
    head = [name if name in RATIOS else f"{name}, ms" for name in (*TIMES, *RATIOS)]
    lines = ["# Overhead of the editors", "", facts, ""]
    lines += ["| per batch | calls | " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) + 1)]
    for name, found in measured.items():
        cells = [f"{found['calls']:g}", *(f"{1000 * found[row]:,.1f}" for row in TIMES)]
        cells += ["-" if isnan(found[ratio]) else f"**{found[ratio]:.3f}**" for ratio in RATIOS[:2]]
        cells += [f"{found[RATIOS[2]]:.3f} ({found['low']:.3f} to {found['high']:.3f})", f"{found[RATIOS[3]]:.3f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("")
    for ratio in RATIOS[:2]:
        above = [name for name, found in measured.items() if found[ratio] > LIMIT]
        lines.append(f"Above {LIMIT:g} by {ratio}: {', '.join(above) or 'none'}.")
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
    parser.add_argument("--steps", type=int, default=None, help="of every editor, instead of its own number")
    parser.add_argument("--threads", type=int, default=None, help="of torch: 1 leaves a core to what else is running")
    parser.add_argument("--device", default=None)
    parser.add_argument("--out", default="bench/overhead.md", help="file to write, relative to the repository")
    options = parser.parse_args(arguments)

    from lib.backbones.load import load_backbone  # so that --help needs no diffusers

    if options.threads:
        torch.set_num_threads(options.threads)
    backbone = load_backbone(options.backbone, device=options.device)
    editors = [editor_named(name) for name in options.editors]
    batch = make_batch(options.size, options.batch)
    measured = measure(editors, backbone, batch, options.repeats, clock_of(backbone.device), options.steps)
    name = backbone.name if not Path(backbone.name).is_absolute() else Path(backbone.name).name
    settings = f"default settings but for {options.steps} steps" if options.steps else "default settings"
    facts = (
        f"{device_name(backbone.device)}; `{name}` in {str(backbone.dtype).removeprefix('torch.')}, guidance "
        f"{backbone.guidance_mode}; batch {options.batch} of {options.size} x {options.size} pixels; {settings}; "
        f"medians of {options.repeats} interleaved repeats, in brackets their range; torch {torch.__version__}. "
        "Overhead is the loop's time over that of its transformer calls replayed alone, each next to its own; "
        "milliseconds and ratios are the wall's unless CPU time is said. Load average while it ran: "
        f"{os.getloadavg()[1]:.1f} on {os.cpu_count()} cores."
    )
    text = report(measured, facts)
    print(text)
    resolve(options.out).write_text(text)


def _edit(editor: Editor, backbone: Any, batch: Batch, steps: int | None) -> Tensor:
    return editor.run(backbone, batch, settings_with(editor, steps), noise=Noise(batch.ids, 0)).image


def settings_with(editor: Editor, steps: int | None) -> Any:
    """The editor's default settings, with another number of steps and the same share of them sharing values."""
    settings = editor.settings()
    if steps is None:
        return settings
    changes = {"steps": steps}
    if hasattr(settings, "inject"):
        changes["inject"] = max(1, round(settings.inject * steps / settings.steps))
    return dataclasses.replace(settings, **changes)


def _case(i: int, image: Tensor) -> EditCase:
    mask = torch.zeros(1, *image.shape[1:], dtype=torch.bool)
    mask[..., : image.shape[2] // 2] = True
    return EditCase(id=f"{i:04}", image=image, source_prompt="a red cat", target_prompt="a blue dog", mask=mask)


if __name__ == "__main__":
    main()

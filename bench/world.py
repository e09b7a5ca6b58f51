"""Rendered scenes per second on one core, by kind of scene; what is drawn for the first time is left out.

    python -m bench.world --scenes 2000 --repeats 5

A training renders as it goes, so the renderer must keep ahead of it: the aim is 1,000 scenes per second and core.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import PIL

from lib.core.paths import resolve
from lib.world.edits import sample_edits
from lib.world.render import render_all
from lib.world.scenes import sample_scenes

AIM = 1000  # scenes per second


def measure(count: int, repeats: int, clock: Callable[[], float] = perf_counter) -> dict[str, float]:
    """Median rate per second of drawing `count` scenes (or of making `count // 10` edits with their masks)."""
    one, two = (list(sample_scenes("train", count, objects=objects)) for objects in (1, 2))
    few = max(10, count // 10)
    edits = list(sample_edits("test", few))
    rows: dict[str, tuple[int, Callable[[], object]]] = {
        "scenes of one object, rendered": (count, lambda: render_all(one)),
        "scenes of two objects, rendered": (count, lambda: render_all(two)),
        "scenes of one object, sampled from the train split": (count, lambda: list(sample_scenes("train", count))),
        "edits, sampled from the test split": (few, lambda: list(sample_edits("test", few))),
        "masks of edits": (few, lambda: [edit.mask() for edit in edits]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _, work in rows.values():  # fills the caches of sprites and patterns
        work()
    for _ in range(repeats):
        for name, (_, work) in rows.items():
            began = clock()
            work()
            seconds[name].append(clock() - began)
    return {name: amount / median(seconds[name]) for name, (amount, _) in rows.items()}


def report(rates: dict[str, float], facts: str) -> str:
    """A Markdown table, and whether the aim is reached by the slower kind of scene."""
    lines = ["# Speed of the emoji world", "", facts, "", "| on one core | per second |", "|---|---:|"]
    lines += [f"| {name} | {rate:,.0f} |" for name, rate in rates.items()]
    slowest = min(rate for name, rate in rates.items() if name.endswith("rendered"))
    verdict = "reached" if slowest >= AIM else "missed"
    return "\n".join([*lines, "", f"Aim of {AIM:,} rendered scenes per second: {verdict}."]) + "\n"


def processor() -> str:
    """What the machine calls its processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description="Rendered scenes per second on one core.")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", default="bench/world.md", help="file to write, relative to the repository")
    options = parser.parse_args(arguments)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rates = measure(options.scenes, options.repeats)
    facts = (
        f"{processor()}, one core; {options.scenes} scenes, median of {options.repeats} repeats, sprites in memory; "
        f"Python {platform.python_version()}, NumPy {np.__version__}, Pillow {PIL.__version__}."
    )
    text = report(rates, facts)
    print(text)
    resolve(options.out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Kill `make repro` at random moments, run it again at once, and compare every product with an undisturbed run.

The workspace is that of bench/toy.py. The victim is the whole process group, make, DVC, the stage or one of the two
processes that `accelerate launch` started; the signal is KILL or TERM; at work is a notebook, a training or edits. A
trial whose victim is not there (any more) at that moment is no hit and is repeated.

    python -m bench.kills --hits 30 --seed 0
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice, product
from pathlib import Path

import psutil

from bench.toy import DUE, build, copy, left_over, products, start
from lib.core.paths import resolve
from tests.stages.conftest import Project

GROUP, ONE = "the process group", "one of two processes"
STAGES = {"notebook": "lib.stages.notebook", "training": "lib.stages.train", "edits": "launch"}
VICTIMS: dict[str, Callable[[list[str], str], bool]] = {  # words of a process, part at work -> whether it is meant
    GROUP: lambda words, part: words[0] == "make",
    "make": lambda words, part: words[0] == "make",
    "dvc": lambda words, part: words[1:4] == ["-m", "dvc", "repro"],
    "the stage": lambda words, part: STAGES[part] in words,
    ONE: lambda words, part: "lib.stages.edit" in words and "launch" not in words,
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
PATIENCE = 900  # seconds after which a re-run counts as hanging


@dataclass(frozen=True)
class Part:
    """A part of the pipeline, run undisturbed: its products, and when each victim was there, in seconds."""

    name: str
    wanted: dict[str, str]
    there: dict[str, tuple[float, float]]


@dataclass
class Row:
    """What came of the hits of one victim and signal."""

    hits: Counter[str] = field(default_factory=Counter)  # by part
    missed: int = 0
    lost: int = 0
    left: int = 0

    @property
    def total(self) -> int:
        return self.hits.total()


def found(child: subprocess.Popen[bytes], victim: str, part: str) -> list[psutil.Process]:
    """The processes of a run that the name of a victim means, as far as they are alive."""
    there = []
    try:
        family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
    except psutil.Error:
        return []
    for process in family:
        try:
            words = process.cmdline()
            shell = not words or Path(words[0]).name in ("sh", "dash", "bash")  # DVC's, which only waits
            if not shell and process.status() != psutil.STATUS_ZOMBIE and VICTIMS[victim](words, part):
                there.append(process)
        except psutil.Error:
            continue
    return there


def strike(child: subprocess.Popen[bytes], victim: str, part: str, how: signal.Signals, rng: random.Random) -> bool:
    """Send the signal to the victim; False if it is not there."""
    there = found(child, victim, part)
    if child.poll() is not None or not there:
        return False
    try:
        if victim == GROUP:
            os.killpg(child.pid, how)
        else:
            rng.choice(there).send_signal(how)
    except (psutil.Error, ProcessLookupError):
        return False
    return True


def undisturbed(done: Project, place: Path, part: str) -> Part:
    """Run one part to its end and look who is there meanwhile."""
    project, there = copy(done, place, part), {}
    began = time.monotonic()
    with start(project) as child:
        while child.poll() is None:
            for victim in VICTIMS:
                if found(child, victim, part):
                    moment = time.monotonic() - began
                    there[victim] = (there.get(victim, (moment,))[0], moment)
            time.sleep(0.1)
    assert child.returncode == 0, f"{part} does not run even undisturbed"
    wanted = products(project.root)
    assert wanted != products(done.root), f"{part} was not due"
    shutil.rmtree(place)
    return Part(part, wanted, there)


def trial(done: Project, place: Path, part: Part, victim: str, how: signal.Signals, rng: random.Random) -> list[str]:
    """One kill and one re-run: what is wrong afterwards. A list with "missed" alone: there was nothing to kill."""
    project = copy(done, place, part.name)
    first, last = part.there[victim]
    moment = time.monotonic() + rng.uniform(first, last)
    child = start(project)
    while time.monotonic() < moment and child.poll() is None:
        time.sleep(0.01)
    if not strike(child, victim, part.name, how, rng):
        child.wait()
        shutil.rmtree(place)
        return ["missed"]
    with start(project) as again:  # at once: what is left of the first run may still be there
        try:
            again.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(again.pid, signal.SIGKILL)
    child.wait()
    wrong = [] if again.returncode == 0 else [f"the re-run ended with {again.returncode}"]
    now = products(project.root)
    wrong += sorted(name for name in part.wanted.keys() | now.keys() if part.wanted.get(name) != now.get(name))
    wrong += [f"left running: {line}" for line in left_over(project)]
    shutil.rmtree(place)
    return wrong


def report(rows: dict[tuple[str, str], Row], products: int) -> str:
    """A Markdown table, a row per victim and signal."""
    hits, missed, lost = (sum(getattr(row, name) for row in rows.values()) for name in ("total", "missed", "lost"))
    lines = [
        "# Kills",
        "",
        "`python -m bench.kills`: `make repro` on a small workspace (a notebook, a training of 200 steps with "
        "checkpoints, edits by two processes under `accelerate launch`), killed at a random moment and run again at "
        f"once. Lost: hits after which the re-run failed or one of the {products} products (dvc.lock among them) was "
        "missing, other than after an undisturbed run, or not alone.",
        "",
        "| victim | signal | hits | in a notebook | in a training | in edits | results lost | processes left |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for (victim, how), row in rows.items():
        parts = " | ".join(str(row.hits[part]) for part in DUE)
        lines.append(f"| {victim} | {how} | {row.total} | {parts} | {row.lost} | {row.left} |")
    lines += ["", f"{hits} hits ({missed} more trials found nobody to kill); results lost: {lost}."]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, run again, compare; print the table and write it. 1 if anything was lost."""
    parser = argparse.ArgumentParser(description="Kill `make repro` at random moments and run it again.")
    parser.add_argument("--hits", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="bench/kills.md", help="file to write, relative to the repository")
    given = parser.parse_args(arguments)
    rng = random.Random(given.seed)
    rows = {(victim, how.name): Row() for victim, how in product(VICTIMS, SIGNALS)}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        done = build(home / "done")
        parts = {name: undisturbed(done, home / "undisturbed", name) for name in DUE}
        turns = {victim: cycle(["edits"] if victim == ONE else parts) for victim in VICTIMS}
        for victim, how in islice(cycle(product(VICTIMS, SIGNALS)), given.hits):
            part, row = next(turns[victim]), rows[victim, how.name]
            while (wrong := trial(done, home / "trial", parts[part], victim, how, rng)) == ["missed"]:
                row.missed += 1
            row.hits[part] += 1
            row.left += any(line.startswith("left running") for line in wrong)
            row.lost += any(not line.startswith("left running") for line in wrong)
            print(f"{how.name} of {victim} in {part}: {'; '.join(wrong) or 'equal'}", flush=True)
    text = report(rows, len(parts["notebook"].wanted))
    print(text)
    resolve(given.out).write_text(text, encoding="utf-8")
    return 1 if any(row.lost or row.left for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

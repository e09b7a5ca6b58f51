"""A full disk, a read-only folder, a flipped byte, two runs at once, a clock set back, stale locks: what is seen?

Each fault is done to a copy of the workspace of bench/toy.py in which a part of the pipeline is due. Written down: the
last line of the output, what lies half-written afterwards, and whether `make repro` ends as an undisturbed run does
once the fault is gone. Disks are small tmpfs and read-only bind mounts in a mount namespace of this process
(`unshare`; Linux, root), so that no other process sees them.

    python -m bench.faults
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from pathlib import Path

from bench.kills import undisturbed
from bench.toy import BATCH, CASES, DUE, build, copy, products
from lib.core.paths import resolve
from tests.stages.conftest import Project

MARK = "PALIMPSEST_FAULTS_INSIDE"
DAY = 86400
NOTEBOOK = "python -m lib.stages.notebook two"
TRAINING = "python -m lib.stages.train toy"
EDITS = (
    "python -m lib.stages.edit --editor sdedit --benchmark world --backbone models/flux "
    f"--count {CASES} --batch-size {BATCH} --settings steps=9 start=.9 --out runs/edits/9"
)
REPRO = "make repro"
SHOWN = 170  # characters of a last line
Nothing = Callable[[], object]


@dataclass(frozen=True)
class Seen:
    """A row of the table."""

    fault: str
    command: str
    status: int
    last: str
    traceback: bool
    half: list[str]
    repaired: str


class Lab:
    """A finished workspace, copies of it, and what an undisturbed run makes of each part."""

    def __init__(self, home: Path) -> None:
        self.home, self.count = home, 0
        self.done = build(home / "done", ship=True)
        self.wanted = {part: undisturbed(self.done, home / "undisturbed", part).wanted for part in DUE}

    def copy(self, part: str | None) -> Project:
        self.count += 1
        return copy(self.done, self.home / f"w{self.count}", part)

    def see(
        self,
        fault: str,
        command: str,
        project: Project,
        part: str | None,
        repair: Nothing = lambda: None,
        shown: str = "",
    ) -> Seen:
        """Run `command`, look at what it left, repair, run `make repro` and compare."""
        before = products(self.done.root)
        wanted = self.wanted[part] if part else before
        done = shell(project, command)
        after = products(project.root)
        half = [
            name for name in after if name != "dvc.lock" and after[name] not in (before.get(name), wanted.get(name))
        ]
        lines = [line.strip() for line in re.split(r"[\r\n]+", done.stdout) if line.strip()]
        repair()
        again = shell(project, REPRO)
        now = products(project.root)
        wrong = sorted(name for name in wanted.keys() | now.keys() if wanted.get(name) != now.get(name))
        repaired = "equal" if not wrong and again.returncode == 0 else f"exit {again.returncode}; {', '.join(wrong)}"
        if repaired != "equal":
            print(again.stdout[-1500:])
        traceback = any(line.startswith("Traceback") for line in lines)
        last = telling(lines).replace(f"{project.root}/", "")
        seen = Seen(fault, shown or command, done.returncode, last, traceback, half, repaired)
        print(seen, flush=True)
        return seen


def telling(lines: Sequence[str]) -> str:
    """The last line that says what happened: a stage's own error, not DVC's about it; what ran, not where to read."""
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    ours = [line for line in lines if not line.startswith("make:")]
    ours = ours[: ours.index("Read:")] if "Read:" in ours else ours
    return ours[-1] if ours else ""


def shell(project: Project, command: str) -> subprocess.CompletedProcess[str]:
    environment = project.environment | {"COLUMNS": "200", "TQDM_DISABLE": "1"}
    run = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(["bash", "-c", command], cwd=project.root, env=environment, check=False, **run)


def mount(*words: object) -> None:
    subprocess.run([*map(str, words)], check=True)


@contextmanager
def small_disk(folder: Path, free: int) -> Iterator[Nothing]:
    """A disk of its own for a folder and what is in it, with `free` kB left; yields what makes it large."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as beside:
        shutil.copytree(folder, Path(beside) / "kept", symlinks=True)
        mount("mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", folder)
        try:
            shutil.copytree(Path(beside) / "kept", folder, symlinks=True, dirs_exist_ok=True)
            used = sum(-(-path.stat().st_size // 4096) * 4 for path in folder.rglob("*") if path.is_file())
            mount("mount", "-o", f"remount,size={used + free}k", folder)
            yield lambda: mount("mount", "-o", "remount,size=1g", folder)
        finally:
            mount("umount", "-l", folder)


@contextmanager
def read_only(folder: Path) -> Iterator[Nothing]:
    """A folder that cannot be written to; yields what makes it writable again."""
    mount("mount", "--bind", folder, folder)
    mount("mount", "-o", "remount,ro,bind", folder)
    try:
        yield lambda: mount("mount", "-o", "remount,rw,bind", folder)
    finally:
        mount("umount", "-l", folder)


def flip(file: Path, place: int, *, keep_time: bool = False) -> None:
    """Another bit in one byte of a file, in place."""
    before, content = file.stat(), bytearray(file.read_bytes())
    content[place] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    if keep_time:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def full_disks(lab: Lab) -> Iterator[Seen]:
    for part, command, folder, free in (
        ("notebook", NOTEBOOK, ".scratch", 8),
        ("notebook", NOTEBOOK, "runs", 0),
        ("training", TRAINING, ".scratch", 300),
        ("training", TRAINING, "models", 8),
        ("edits", EDITS, "runs", 60),
        ("notebook", REPRO, ".", 60),
        ("training", REPRO, ".", 1500),
        ("edits", REPRO, ".", 120),
    ):
        project = lab.copy(part)
        where = "the workspace" if folder == "." else f"`{folder}/`"
        with small_disk(project.root / folder, free) as enlarge:
            yield lab.see(f"disk full ({where} has {free} kB left)", command, project, part, enlarge)


def read_only_folders(lab: Lab) -> Iterator[Seen]:
    for part, command in (("notebook", NOTEBOOK), ("training", TRAINING), ("edits", EDITS), ("notebook", REPRO)):
        project = lab.copy(part)
        with read_only(project.root / "runs") as allow:
            yield lab.see("read-only `runs/`", command, project, part, allow)
    project = lab.copy(None)
    with read_only(project.root / "runs") as allow:
        yield lab.see("read-only `runs/`, nothing due", REPRO, project, None, allow)


def flipped_bytes(lab: Lab) -> Iterator[Seen]:
    weights = "models/toy/weights.safetensors"
    for keep_time, fault in ((False, ""), (True, ", its time of change as before")):
        project = lab.copy(None)
        flip(project.root / weights, 5000, keep_time=keep_time)
        yield lab.see(f"flipped byte in `{weights}`{fault}", REPRO, project, None)
    for half, fault in ((0, "in the head of the"), (1, "in the")):
        project = lab.copy("training")
        environment = project.environment
        with subprocess.Popen(["bash", "-c", f"exec {TRAINING}"], cwd=project.root, env=environment) as child:
            checkpoint = project.root / ".scratch" / "toy" / "checkpoint.safetensors"
            while not checkpoint.is_file() and child.poll() is None:
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
        flip(checkpoint, 5 + half * checkpoint.stat().st_size // 2)
        remedy = partial(shutil.rmtree, project.root / ".scratch" / "toy", ignore_errors=True)
        yield lab.see(f"flipped byte {fault} checkpoint of a killed training", REPRO, project, "training", remedy)
    for half, fault in ((0, "in the head of the"), (1, "in the")):
        project = lab.copy("edits")
        file = next((project.root / "models" / "flux" / "transformer").glob("*.safetensors"))
        shell(project, EDITS)
        (project.root / "runs" / "edits" / "9" / "manifest" / "000000.json").unlink()
        remedy = partial(file.write_bytes, file.read_bytes())
        flip(file, 5 + half * file.stat().st_size // 2)
        fault = f"flipped byte {fault} transformer, in an editing run that is not finished"
        yield lab.see(fault, EDITS, project, "edits", remedy)
    clone = Project(lab.home / "clone")
    lab.done.git("clone", "--quiet", str(lab.done.root), str(clone.root))
    shutil.copytree(lab.done.root / "data", clone.root / "data")
    digest = md5((lab.done.root / "product.txt").read_bytes()).hexdigest()
    flip(clone.root / "store" / "files" / "md5" / digest[:2] / digest[2:], 5)
    yield lab.see("fresh clone, flipped byte in `store/`", REPRO, clone, None, lambda: clone.git("restore", "store"))


def two_at_once(lab: Lab) -> Iterator[Seen]:
    for part in DUE:
        project = lab.copy(part)
        both = f"{REPRO} >one.txt 2>&1 & {REPRO}; code=$?; wait $! || code=1; tail -n 3 one.txt; rm one.txt; exit $code"
        yield lab.see(f"two at once, {part} due", both, project, part, shown=REPRO)


def clocks(lab: Lab) -> Iterator[Seen]:
    for days, fault in ((1, "clock set back by a day (every file is of tomorrow)"), (-9000, "every file is of 2002")):
        for part in (None, "notebook", "training"):
            project = lab.copy(part)
            for path in project.root.rglob("*"):
                os.utime(path, (time.time() + days * DAY,) * 2, follow_symlinks=False)
            yield lab.see(f"{fault}; {part or 'nothing'} due", REPRO, project, part)


def stale_locks(lab: Lab) -> Iterator[Seen]:
    gone = subprocess.Popen(["true"])
    gone.wait()
    entry = {"pid": gone.pid, "cmd": "dvc repro"}
    for name, text, fault in (
        (".dvc/tmp/rwlock", lambda root: json.dumps({"write": {f"{root}/runs/two/table.csv": entry}, "read": {}}),
         "DVC's lock of a process that is gone"),
        (".dvc/tmp/rwlock", lambda root: '{"write": {"', "DVC's lock, half-written"),
        (".dvc/tmp/lock", lambda root: str(gone.pid), "DVC's other lock, left behind"),
        (".scratch/two.lock", lambda root: str(gone.pid), "the stage's own lock, left behind"),
        (".scratch/repro.lock", lambda root: str(gone.pid), "the lock of `repro`, left behind"),
    ):  # fmt: skip
        project = lab.copy("notebook")
        (project.root / name).parent.mkdir(exist_ok=True)
        (project.root / name).write_text(text(project.root))
        yield lab.see(f"{fault} (`{name}`)", REPRO, project, "notebook")


def report(rows: Sequence[Seen], remarks: str) -> str:
    """A Markdown table, a row per fault and command; then what was written by hand below the last table."""
    lines = [
        "# Faults",
        "",
        "`python -m bench.faults`: faults done to a small workspace in which a part of the pipeline is due. "
        "*Half-written*: products that are neither the old nor the new ones. *Afterwards*: products (dvc.lock among "
        "them) once the fault is gone and `make repro` has run, against those of an undisturbed run.",
        "",
        "| fault | command | exit | what is said last | traceback | half-written | afterwards |",
        "|---|---|---:|---|---|---|---|",
    ]
    for row in rows:
        last = row.last if len(row.last) <= SHOWN else f"{row.last[:SHOWN]}…"
        cells = [row.fault, f"`{row.command.split(' --')[0]}`", row.status, f"`{last.replace('|', '/')}`"]
        cells += ["yes" if row.traceback else "no", ", ".join(row.half) or "nothing", row.repaired]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    survived = sum(row.repaired == "equal" for row in rows)
    half, shown = sum(bool(row.half) for row in rows), sum(row.traceback for row in rows)
    lines += [
        "",
        f"{len(rows)} faults; {survived} survived, {half} left something half-written, {shown} showed a traceback.",
    ]
    return "\n".join(lines) + "\n" + remarks


def main(arguments: Sequence[str] | None = None) -> int:
    """Do every fault, print the table and write it. 1 if one was not survived."""
    parser = argparse.ArgumentParser(description="Full disks, flipped bytes, two runs at once: what is seen.")
    parser.add_argument("--out", default="bench/faults.md", help="file to write; what stands below `## Remarks` stays")
    parser.add_argument("--only", nargs="*", default=[], help="names of groups, for trying: full_disks, clocks, ...")
    given = parser.parse_args(arguments)
    if MARK not in os.environ:
        command = ["unshare", "--mount", sys.executable, "-m", "bench.faults", *(arguments or sys.argv[1:])]
        os.execvpe(command[0], command, os.environ | {MARK: "1"})
    groups = (full_disks, read_only_folders, flipped_bytes, two_at_once, clocks, stale_locks)
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        rows = [row for group in groups if not given.only or group.__name__ in given.only for row in group(lab)]
    out = resolve(given.out)
    old = out.read_text(encoding="utf-8") if out.is_file() else ""
    text = report(rows, "\n## Remarks" + old.split("## Remarks")[1] if "## Remarks" in old else "")
    print(text)
    out.write_text(text, encoding="utf-8")
    return 0 if all(row.repaired == "equal" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Running what is out of date: a look first, then `dvc repro`."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.core.paths import ROOT
from lib.stages.plan import look
from lib.stages.publish import PR_SET_PDEATHSIG, die_with_parent

STOPPED = 3  # exit status: something long would run, and nobody said LONG=1
REMEDY = "LONG=1 make repro (or LONG=1 python -m lib.stages repro) runs all of it"


def repro(root: Path = ROOT) -> int:
    """The verb `repro`. Status 0, or 3 if a stage of over 5 minutes would run without LONG=1, or DVC's own status.

    A stage that may follow a short one, or that follows one whose result is only fetched from the cache, is judged once
    that is done: looking at a notebook in JupyterLab makes only the stripping run, after which all is as it was.
    """
    die_with_parent()
    with _alone(root) as lock:
        return _repro(root, lock)


@contextmanager
def _alone(root: Path) -> Iterator[int]:
    """One run at a time: a second one waits for the first, which holds the lock for as long as it or its DVC lives."""
    (root / ".scratch").mkdir(exist_ok=True)
    with (root / ".scratch" / "repro.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another run is at work here; waiting for it to end.", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _repro(root: Path, lock: int) -> int:
    allowed = os.environ.get("LONG", "") not in ("", "0")
    ran: list[str] = []
    while steps := look(root):
        certain = [step for step in steps if step.certain]
        if not certain:
            break
        cached = {step.name for step in certain if step.cached}
        too_long = [step for step in certain if step.long and not (step.after and cached.issuperset(step.after))]
        if too_long and not allowed:
            print("A stage of over 5 minutes would run, so nothing more was started:")
            print(*(step.line() for step in too_long), sep="\n")
            print(REMEDY)
            return STOPPED
        first = [step.name for step in certain if not step.after and step.name not in ran]
        careful = bool(first) and not allowed and any(step.long for step in steps)
        print(*(step.line() for step in certain), sep="\n", flush=True)
        status = _dvc(["repro", "--single-item", *first] if careful else ["repro"], root, lock)
        if status:
            return status
        ran += first if careful else [step.name for step in certain]
        if not careful:
            break
    for notebook in sorted((root / "runs").rglob("executed.ipynb")):
        if notebook.stat().st_mode & 0o222:  # DVC forgets the mode when it checks a file out
            notebook.chmod(0o444)
    _print_end(ran, root)
    return 0


def _dvc(arguments: Iterable[str], root: Path, lock: int) -> int:
    """Run DVC as a child that holds `lock` and ends with this process. Its stages find this interpreter as `python`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    libc = ctypes.CDLL(None)
    die = (lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)) if sys.platform == "linux" else None
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = os.environ | {"PATH": path}
    # libc is loaded before the fork and prctl takes no lock, so the watching thread cannot be in the way
    with subprocess.Popen(command, cwd=root, env=environment, preexec_fn=die, pass_fds=[lock]) as child:  # noqa: PLW1509
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:  # the child got it too: let it tidy up
                continue


def _print_end(ran: list[str], root: Path) -> None:
    if ran:
        print("Ran:", ", ".join(ran))
    else:
        print("Nothing to do: every result is up to date.")
    notebooks = [path.relative_to(root).as_posix() for path in sorted((root / "runs").rglob("executed.ipynb"))]
    if notebooks:
        print("Read:", *notebooks, sep="\n  ")
        print("As web pages: make review (python -m lib.stages review), then open review/index.html")

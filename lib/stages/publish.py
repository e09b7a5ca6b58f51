"""What every stage needs, training or notebook: scratch that survives a kill, publishing by rename, guarded sources.

die_with_parent()
guard = guard_sources(values=lambda: load_section("autoencoder"))
with stage_scratch("autoencoder", fingerprint=guard.fingerprint) as scratch:
    ...                                          # resume from what lies in `scratch`, write only there
    guard.check()
    publish({scratch / "model": MODELS / "tiny-vae"})
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.core.errors import InputError, PalimpsestError
from lib.core.paths import ROOT

PR_SET_PDEATHSIG = 1  # linux/prctl.h
DRIVERS = {"dvc", "make", "gmake"}


@contextmanager
def stage_scratch(name: str, *, fingerprint: Mapping[str, Any], root: Path = ROOT, wait: float = 2.0) -> Iterator[Path]:
    """The folder .scratch/<name> under `root`, for one process at a time.

    Left alone after a kill or an error, so that the next run finds what was done; emptied first if `fingerprint` (JSON
    values: whatever the work depends on) is another one; removed when the block ends well. InputError naming the holder
    if another process still has it after `wait` seconds (a run that was just killed needs a moment to be gone).
    """
    folder = root / ".scratch" / name.replace("/", ".")  # flat: no stage's scratch lies inside another's
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("a+", encoding="utf-8") as lock:
        _take(lock, name, wait)
        manifest = folder / "manifest.json"
        wanted = json.dumps(dict(fingerprint), sort_keys=True, indent=1)
        if not manifest.is_file() or manifest.read_text(encoding="utf-8") != wanted:
            _remove(folder)
            folder.mkdir()
            _write(manifest, wanted)
        yield folder
        _remove(folder)


def publish(outputs: Mapping[Path, Path]) -> None:
    """Put each finished file or folder (key) in its final place (value): there it is complete or absent, never half.

    What lies there already is replaced. The scratch copies stay until `stage_scratch` ends, so that a kill between two
    outputs costs nothing. InputError, before anything is touched, if one of the outputs is missing. An error on the way
    (a full disk) leaves the output that it met as it was, and nothing beside it.
    """
    for source in outputs:
        if not source.exists():
            raise InputError(
                f"output {source.name}", found="nothing at its place in scratch", expected="a finished output"
            )
    for source, target in outputs.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.parent / f".{target.name}.publishing"
        try:
            _put(source, beside, target)
        except OSError:
            with suppress(OSError):  # a read-only disk refuses this too, and has nothing to remove
                _remove(beside)
            raise


def _put(source: Path, beside: Path, target: Path) -> None:
    """`source` at the place of `target`, by way of `beside`."""
    _remove(beside)
    if source.is_dir():
        shutil.copytree(source, beside, copy_function=_link)
    else:
        _link(source, beside)
    if not target.is_dir() or target.is_symlink():
        beside.replace(target)
        return
    old = target.parent / f".{target.name}.replaced"
    _remove(old)
    target.rename(old)
    try:
        beside.rename(target)
    except OSError:
        old.rename(target)
        raise
    _remove(old)


@dataclass(frozen=True)
class SourceGuard:
    """What the code and the parameters were when the stage began."""

    files: Mapping[str, str]
    named: frozenset[str]
    values: Callable[[], Any] | None
    values_then: str
    root: Path

    @property
    def fingerprint(self) -> dict[str, Any]:
        """For `stage_scratch`: the hashes of the files that were named and loaded so far, and the parameters."""
        used = self.named | self._loaded()
        return {"files": {name: self.files.get(name) for name in sorted(used)}, "values": self.values_then}

    def check(self) -> None:
        """Raise PalimpsestError if a file that was named or loaded, or the parameters, changed since the stage began.

        DVC hashes dependencies after the command has ended: without this, an edit during the run would tie new code to
        old results.
        """
        used = self.named | self._loaded()
        changed = [name for name in sorted(used) if _hash(self.root / name) != self.files.get(name)]
        if self.values is not None and _as_text(self.values()) != self.values_then:
            changed.append("the parameters")
        if changed:
            raise PalimpsestError(
                f"changed while the stage ran: {', '.join(changed)}; nothing was published, run it again"
            )

    def _loaded(self) -> frozenset[str]:
        files = [Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
        return frozenset(
            file.relative_to(self.root).as_posix() for file in files if file.is_relative_to(self.root / "lib")
        )


def guard_sources(
    files: Iterable[str | Path] = (), *, values: Callable[[], Any] | None = None, root: Path = ROOT
) -> SourceGuard:
    """Remember the code of lib, the `files` named besides (relative to `root`) and what `values()` returns (JSON).

    Only modules that are really loaded by the time of the check count, so an edit elsewhere in lib spoils nothing.
    """
    named = frozenset(Path(file).as_posix() for file in files)
    there = {file.relative_to(root).as_posix() for file in (root / "lib").rglob("*.py")}
    hashes = {name: _hash(root / name) for name in there | named}
    return SourceGuard(hashes, named, values, _as_text(values()) if values else "", root)


def die_with_parent(poll: float = 0.5) -> None:
    """End this process and its children as soon as the `make` or `dvc` that started it is gone, even by kill -9.

    Every process between this one and the outermost of them is watched. Started by hand, without either, nothing
    happens: then the process may outlive its terminal (nohup).
    """
    chain = _drivers_chain()
    if not chain:
        if os.environ.get("DVC_STAGE"):  # DVC sets it for what it starts: it died before this line was reached
            raise SystemExit("dvc, which started this stage, is gone")
        return
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(chain, poll), daemon=True, name="die-with-parent").start()


def _drivers_chain() -> list[Any]:
    """The ancestors of this process, nearest first, up to the outermost one that is make or dvc; else empty."""
    import psutil

    ancestors, last = [], 0
    for process in psutil.Process().parents():
        with suppress(psutil.Error):
            words = process.cmdline()[:3]
            ancestors.append(process)
            if DRIVERS & {Path(word).name for word in words}:
                last = len(ancestors)
    return ancestors[:last]


def _watch(chain: list[Any], poll: float) -> None:
    import psutil

    def alive(process: Any) -> bool:
        with suppress(psutil.Error):
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return False

    while all(alive(process) for process in chain):
        time.sleep(poll)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def _take(lock: Any, name: str, wait: float) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                lock.seek(0)
                found = f"process {lock.read().strip() or 'unknown'} at work on it"
                raise InputError(f"stage {name}", found=found, expected="one run at a time; wait or end it") from error
            time.sleep(0.1)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


def _link(source: str | Path, target: str | Path) -> None:
    """A second name for the same bytes where the file system allows it, a copy elsewhere."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _hash(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)

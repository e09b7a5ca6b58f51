"""One notebook as a stage: `python -m lib.stages.notebook <name>`, with or without DVC.

Runs the stripped twin runs/sources/<name>.ipynb and publishes runs/<name>/: the executed notebook (read-only, the same
bytes at each run), everything that it wrote to `out_dir()`, and timing.json, which is nobody's dependency.
"""

import argparse
import io
import json
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.core.errors import InputError, PalimpsestError
from lib.core.paths import ROOT
from lib.stages.config import load_section
from lib.stages.imports import closure, notebook_imports
from lib.stages.normalise import normalise, stderr_of
from lib.stages.outputs import check_metrics
from lib.stages.parameters import check_overrides, read_parameters
from lib.stages.publish import die_with_parent, guard_sources, publish, stage_scratch
from lib.stages.sources import as_text, read_notebook, strip
from lib.stages.trouble import in_one_line

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
PROGRESS_SECONDS = 20.0


class NotebookError(PalimpsestError):
    """A cell failed. The message is one line: notebook, cell, error."""


def run_notebook(
    name: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    into: Path | None = None,
    threads: int | None = None,
    root: Path = ROOT,
) -> Path:
    """Run notebook `name` with its section of params.yaml and then `overrides`; publish to runs/<name>/ or `into`.

    Everything passed in is checked before the kernel starts. InputError for bad parameters or a source that is not up
    to date; NotebookError if a cell fails: then nothing is published, and the failed notebook is kept in .scratch.
    """
    source, relative = _read_source(name, root)
    parameters = read_parameters(source, name)
    section = {**load_section(name, optional=True, root=root)}
    values = check_overrides(parameters, section | dict(overrides or {}), name)
    code = closure(["lib.stages.notebook", *notebook_imports(source, name, root)], root)
    guard = guard_sources([relative, *code], values=lambda: load_section(name, optional=True, root=root), root=root)
    threads = threads or int(os.environ.get("PALIMPSEST_THREADS", "2"))
    target = into or root / "runs" / name
    fingerprint = {"code": {path: guard.files[path] for path in sorted(guard.named)}, "values": values}
    with stage_scratch(name, fingerprint=fingerprint, root=root) as scratch:
        for old in scratch.glob("out-*"):
            shutil.rmtree(old)
        out = Path(tempfile.mkdtemp(prefix="out-", dir=scratch))
        started = time.perf_counter()
        executed = _execute(name, source, values, scratch=scratch, out=out, threads=threads, root=root)
        seconds = time.perf_counter() - started
        for position, text in stderr_of(executed):
            print(f"{name}, cell {position}, stderr:\n{text}", file=sys.stderr)
        _check_outputs(name, out)
        places = {out: _shown(target, root), root: "", Path(sys.prefix): "<python>", Path.home(): "~"}
        notebook = normalise(executed, places=places, parameters=values)
        (out / "executed.ipynb").write_text(as_text(notebook), encoding="utf-8")
        (out / "executed.ipynb").chmod(0o444)
        (out / "timing.json").write_text(json.dumps(_timing(executed, seconds), indent=1) + "\n", encoding="utf-8")
        guard.check()
        publish({path: target / path.name for path in sorted(out.iterdir())})
    return target


def _read_source(name: str, root: Path) -> tuple[dict[str, Any], Path]:
    relative = Path("runs", "sources", f"{name}.ipynb")
    original = root / "notebooks" / f"{name}.ipynb"
    remedy = "one made from it: python -m lib.stages.sources"
    source = strip(read_notebook(original, name)) if original.is_file() else None
    if source is None:
        return read_notebook(root / relative, name), relative
    if not (root / relative).is_file():
        raise InputError(f"source of notebook {name}", found=f"no {relative}", expected=remedy)
    if (root / relative).read_text(encoding="utf-8") != as_text(source):
        raise InputError(f"source of notebook {name}", found=f"{relative} older than the notebook", expected=remedy)
    return source, relative


def _execute(
    name: str, source: dict[str, Any], values: dict[str, Any], *, scratch: Path, out: Path, threads: int, root: Path
) -> dict[str, Any]:
    import nbformat
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook
    from traitlets.config import Config

    failed = scratch / "failed.ipynb"
    with (
        tempfile.TemporaryDirectory(prefix="palimpsest-") as sockets,
        _environment(scratch, out, sockets, threads, root),
    ):
        # Sockets in the file system: no ports to race for, and no kernel that others on this machine could reach.
        kernel = {"transport": "ipc", "ip": f"{sockets}/kernel", "connection_file": f"{sockets}/kernel.json"}
        try:
            executed = execute_notebook(
                nbformat.from_dict(source),
                str(failed).replace("{", "{{").replace("}", "}}"),
                parameters=values,
                kernel_name="python3",
                progress_bar=False,
                cwd=root,
                record_timing=False,
                on_cell_start=_progress(name),
                config=Config(KernelManager=kernel),
                stderr_file=io.StringIO(),
            )
        except PapermillExecutionError as error:
            raise _explain(name, error, failed, root) from None
        except (DeadKernelError, RuntimeError) as error:
            raise NotebookError(f"{name}: the kernel ended by itself ({error}); was there memory enough?") from error
    failed.unlink()
    return executed


def _explain(name: str, error: Any, failed: Path, root: Path) -> NotebookError:
    if error.ename != "InputError":
        print(COLOURS.sub("", "\n".join(error.traceback)), file=sys.stderr)
    print(f"the notebook as far as it came: {_shown(failed, root)}", file=sys.stderr)
    first = next((line.strip() for line in error.source.split("\n") if line.strip()), "")
    value = " ".join(COLOURS.sub("", error.evalue).split())
    return NotebookError(f"{name}: cell {error.exec_count} (`{first:.60}`): {error.ename}: {value}")


@contextmanager
def _environment(scratch: Path, out: Path, sockets: str, threads: int, root: Path) -> Iterator[None]:
    """The kernel of this interpreter, in an environment that does not depend on who runs it."""
    kernels = scratch / "jupyter"
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    (kernels / "kernels" / "python3").mkdir(parents=True, exist_ok=True)
    (kernels / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    (scratch / "work").mkdir(exist_ok=True)
    changed = dict.fromkeys(THREADS, str(threads)) | {
        "PALIMPSEST_OUT": str(out),
        "PALIMPSEST_SCRATCH": str(scratch / "work"),
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "TQDM_DISABLE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "JUPYTER_PATH": str(kernels),
        "JUPYTER_RUNTIME_DIR": sockets,
        "IPYTHONDIR": str(scratch / "ipython"),
        "MPLCONFIGDIR": str(root / ".scratch" / "matplotlib"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    before = dict(os.environ)
    os.environ.update(changed)
    os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _progress(name: str) -> Any:
    last = time.monotonic()

    def on_cell_start(cell: Any, cell_index: int, **_: Any) -> None:
        nonlocal last
        if time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            print(f"{name}: cell {cell_index}", flush=True)

    return on_cell_start


def _check_outputs(name: str, out: Path) -> None:
    path = out / "metrics.json"
    if not path.is_file():
        raise InputError(f"outputs of notebook {name}", found="no metrics.json", expected="a call of `write_metrics`")
    check_metrics(json.loads(path.read_text(encoding="utf-8")), f"metrics.json of notebook {name}")
    taken = {"executed.ipynb", "timing.json"} & {entry.name for entry in out.iterdir()}
    if taken:
        raise InputError(f"outputs of notebook {name}", found=f"{sorted(taken)}", expected="other names for its files")


def _timing(executed: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    cells = [cell["metadata"].get("papermill", {}).get("duration") for cell in executed["cells"]]
    return {
        "seconds": round(seconds, 3),
        "cells": [None if cell is None else round(cell, 3) for cell in cells],
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _setting(text: str) -> tuple[str, Any]:
    """`name=value` from the command line, the value read as params.yaml would read it."""
    from ruamel.yaml import YAML

    name, equals, value = text.partition("=")
    if not equals:
        raise InputError("--set", found=text, expected="name=value")
    return name, YAML(typ="safe").load(value)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.stages.notebook", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("name", help="path below notebooks/ without .ipynb: start, flowedit/method")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="instead of params.yaml")
    parser.add_argument("--into", type=Path, help="publish here instead of runs/<name>")
    given = parser.parse_args(arguments)
    die_with_parent()
    unfinished = f".scratch/{given.name.replace('/', '.')}"
    try:
        with in_one_line(f"notebook {given.name}, whose unfinished work is {unfinished}"):
            into = given.into.resolve() if given.into else None
            target = run_notebook(given.name, dict(_setting(text) for text in given.set), into=into)
    except PalimpsestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    print(f"{given.name}: {_shown(target / 'executed.ipynb', ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

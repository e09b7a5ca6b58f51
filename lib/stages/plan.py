"""Looking before leaping: what `dvc repro --pull` would run, why, and for how long."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.stages.config import load_section, load_yaml
from lib.stages.parameters import check_overrides, read_parameters
from lib.stages.sources import find_notebooks, read_notebook
from lib.stages.store import check_objects

LONG_MINUTES = 5.0
SHOWN = 3  # reasons printed per stage


@dataclass(frozen=True)
class Step:
    """A stage that would run. `minutes` is None where dvc.yaml does not say; `cached`: its result lies in DVC's cache.

    `after` names the stages that would run before it and on whose products it depends; a step with `certain=False`
    runs only if one of these products comes out different.
    """

    name: str
    minutes: float | None
    reasons: tuple[str, ...]
    after: tuple[str, ...] = ()
    certain: bool = True
    cached: bool = False

    @property
    def long(self) -> bool:
        return not self.cached and (self.minutes or 0) > LONG_MINUTES

    def line(self) -> str:
        if self.cached:
            minutes = "from DVC's cache"
        else:
            minutes = "minutes unknown" if self.minutes is None else f"{self.minutes:g} min"
        more = len(self.reasons) - SHOWN
        if self.certain:
            why = "; ".join(self.reasons[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
        else:
            why = f"if {' or '.join(self.after)} comes out different"
        return f"  {self.name:<28} {minutes:>16}   {why}"


def look(root: Path = ROOT) -> list[Step]:
    """Every stage that would run, in order. What is shipped and not here yet is pulled on the way.

    InputError if data/ differs from data.dvc: DVC would take the change over without a word. InputError too if what is
    to be pulled lies damaged in store/: DVC would only miss it, and run the stage again. And if params.yaml has for a
    notebook what its parameters do not allow: DVC removes a stage's products before it finds out.
    """
    import logging

    check_sections(root)
    _forget_dead_locks(root / ".dvc" / "tmp" / "rwlock")
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo
    from dvc.repo.reproduce import get_active_graph

    for logger in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(logger).setLevel(logging.ERROR)  # that unshipped outputs cannot be pulled is no news
    try:
        with chdir(root), Repo() as repo, lock_repo(repo):  # DVC names stages relative to the working directory
            graph = get_active_graph(repo.index.graph)
            order = _sorted(graph)
            stages = {stage.addressing: stage for stage in order if _would_run(repo, graph, stage)}
            for name, stage in stages.items():
                if stage.is_data_source:
                    folder = Path(stage.outs[0].fs_path).relative_to(root)
                    expected = f"what {name} says; `dvc checkout {name}` brings it back, `dvc add {folder}` accepts it"
                    raise InputError(
                        f"folder {folder}", found="changed files, or no way to pull them", expected=expected
                    )
            reasons = {name: _reasons(stage) for name, stage in stages.items()}
            cached = {name for name, stage in stages.items() if _cached(repo, stage)}
            above = {stage.addressing: {other.addressing for other in _ancestors(graph, stage)} for stage in order}
    except DvcException as error:
        raise InputError("the pipeline", found=_chain(error), expected="a dvc.yaml that DVC can run") from error
    minutes = _minutes(root)
    steps = []
    for name in (stage.addressing for stage in order):
        after = tuple(other for other in stages if other in above[name])
        if name in stages:
            steps.append(Step(name, minutes.get(name.partition("@")[0]), reasons[name], after, True, name in cached))
        elif after:
            steps.append(Step(name, minutes.get(name.partition("@")[0]), (), after, False))
    return [step for step in steps if step.certain or not step.name.endswith(".dvc")]


def check_sections(root: Path = ROOT) -> None:
    """InputError if a notebook's section of params.yaml has an unknown name or a value of the wrong type."""
    for name, path in find_notebooks(root).items():
        if section := load_section(name, optional=True, root=root):
            check_overrides(read_parameters(read_notebook(path, name), name), section, name)


def print_plan(root: Path = ROOT) -> int:
    """The verb `plan`."""
    steps = look(root)
    certain, possible = [step for step in steps if step.certain], [step for step in steps if not step.certain]
    if not certain:
        print("Nothing would run: every result is up to date.")
        return 0
    print("Would run:", *(step.line() for step in certain), sep="\n")
    print(f"  {'together':<28} {_total(certain)}")
    if possible:
        print("May follow:", *(step.line() for step in possible), sep="\n")
    return 0


def _reasons(stage: Any) -> tuple[str, ...]:
    if not any(out.hash_info for out in stage.outs):
        return ("never run",)
    reasons = []
    for entry in stage.status(check_updates=False).get(stage.addressing, []):
        if isinstance(entry, str):  # "changed command", "always changed"
            reasons.append(entry)
            continue
        for kind, changes in entry.items():
            for name, state in changes.items():
                state = ", ".join(f"{key} {what}" for key, what in state.items()) if isinstance(state, dict) else state
                state = "not there" if state == "deleted" else state  # or never made
                reasons.append(f"{name}: {state}" if kind == "changed deps" else f"its output {name}: {state}")
    return tuple(reasons) or ("its outputs are neither here nor shipped",)


def _forget_dead_locks(path: Path) -> None:
    """Remove DVC's record of who works on what if all in it are gone.

    DVC drops entries of processes that do not exist, but after a restart of the machine their numbers may be others',
    and one that was killed stays in the process table until its parent asks after it: in a container, for ever.
    """
    import psutil

    if not path.is_file():
        return
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        entries = [
            *record.get("write", {}).values(),
            *(one for many in record.get("read", {}).values() for one in many),
        ]
        holders = {entry["pid"] for entry in entries if entry}
    except ValueError:  # half-written by a killed process; DVC would refuse to go on
        holders = set()
    written = path.stat().st_mtime
    for pid in holders:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.create_time() <= written and process.status() != psutil.STATUS_ZOMBIE:
                return
    path.unlink(missing_ok=True)


def _would_run(repo: Any, graph: Any, stage: Any) -> bool:
    """As `dvc repro --pull` decides it, except that what would run before is taken to come out as it was.

    (DVC's own dry run fails on a fresh project, where what a stage depends on is not made yet.)
    """
    from dvc.exceptions import CheckoutError

    upstream = list(graph.successors(stage))
    if not stage.changed(False, upstream):
        return False
    if not stage.changed(True, upstream):
        try:
            repo.pull(stage.addressing)
            stage.checkout()
        except CheckoutError:
            check_objects(Path(repo.root_dir), [out.hash_info.value for out in stage.outs if out.hash_info])
            return True
        return not all(_is_there(Path(repo.root_dir), out) for out in stage.outs if not out.use_cache)
    return True


def _is_there(root: Path, out: Any) -> bool:
    """Whether a product that git keeps and DVC's cache does not is there; what a failed run has removed is brought back
    if the last commit has the one that dvc.lock speaks of.
    """
    path = Path(out.fs_path)
    if not path.exists():
        show = ["git", "show", f"HEAD:{path.relative_to(root).as_posix()}"]
        with suppress(OSError):  # no git
            found = subprocess.run(show, cwd=root, capture_output=True, check=False)
            if not found.returncode and md5(found.stdout).hexdigest() == out.hash_info.value:
                path.write_bytes(found.stdout)
    return path.exists()


def _cached(repo: Any, stage: Any) -> bool:
    """Whether DVC's run cache holds the result for the dependencies as they are now."""
    from dvc.dependency.base import DependencyDoesNotExistError
    from dvc.stage.cache import _can_hash

    try:
        stage.save_deps()  # in memory only
        entry = repo.stage_cache._load(stage) if _can_hash(stage) else None  # not with `persist`, or without deps
    except (DependencyDoesNotExistError, FileNotFoundError):
        return False
    return bool(entry) and repo.stage_cache._create_stage(entry, wdir=stage.wdir).outs_cached()


def _minutes(root: Path) -> dict[str, float]:
    """Expected minutes, by stage name, from `meta: {minutes: …}` in dvc.yaml: a number, or one by scale.

    A matrix shares its own.
    """
    found = {}
    scale = load_yaml(root / "params.yaml").get("scale")
    for name, stage in (load_yaml(root / "dvc.yaml").get("stages") or {}).items():
        body = stage.get("do", stage)
        minutes = (body.get("meta") or {}).get("minutes") if isinstance(body, Mapping) else None
        if isinstance(minutes, Mapping):
            minutes = minutes.get(scale)
        if minutes is not None:
            found[name] = float(minutes)
    return found


def _total(steps: Iterable[Step]) -> str:
    total = sum(step.minutes or 0 for step in steps if not step.cached)
    return f"{total:>12g} min"


def _sorted(graph: Any) -> list[Any]:
    """Upstream before downstream; in DVC's graph an edge points from a stage to what it needs. Ties by name."""
    import networkx as nx

    return list(nx.lexicographical_topological_sort(graph.reverse(), key=lambda stage: stage.addressing))


def _ancestors(graph: Any, stage: Any) -> set[Any]:
    import networkx as nx

    return nx.descendants(graph, stage)


def _chain(error: BaseException | None) -> str:
    parts = []
    while error is not None:
        parts.append(str(error))
        error = error.__cause__
    return ": ".join(parts)

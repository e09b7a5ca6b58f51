"""The dependencies that dvc.yaml declares, compared with what the code imports."""

import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.stages.config import load_yaml
from lib.stages.imports import closure, notebook_imports
from lib.stages.sources import find_notebooks, read_notebook, strip

ENTRY = re.compile(r"-m\s+(?P<module>lib(?:\.\w+)+)(?:[ \t]+(?P<argument>[\w./-]+))?")
NOTEBOOK = "lib.stages.notebook"  # its argument names a notebook
TRAINING = "lib.stages.train"  # its argument names a module of lib.learning


def dependencies(entry: str, root: Path = ROOT) -> list[str]:
    """Every file of lib that `entry` needs: a module ("lib.learning.flow") or the name of a notebook ("start")."""
    if entry.startswith("lib."):
        modules = [entry]
    else:
        modules = [NOTEBOOK, *_modules_of_notebook(entry, root)]
    return [path.as_posix() for path in closure(modules, root)]


def check_dvc(dvc_yaml: Path, root: Path = ROOT) -> list[str]:
    """What is wrong with the `deps` of each stage, one line each; an empty list if all agree.

    A stage must declare exactly the files of lib that its command imports, file by file, and a notebook's stage its
    source runs/sources/<name>.ipynb besides. Other dependencies (data, models) are not judged here.
    """
    problems = []
    for stage, command, declared in _stages(load_yaml(dvc_yaml)):
        entries = list(ENTRY.finditer(command))
        if not entries:
            problems.append(f"{stage}: no `python -m lib.…` in its command: {command}")
            continue
        needed: set[str] = set()
        for entry in entries:
            if entry["module"] == TRAINING:  # what carries a training (scratch, publishing) does not change its result
                needed |= set(dependencies(f"lib.learning.{entry['argument']}", root))
                continue
            needed |= set(dependencies(entry["module"], root))
            if entry["module"] == NOTEBOOK:
                needed |= {*dependencies(entry["argument"], root), f"runs/sources/{entry['argument']}.ipynb"}
        judged = {name for name in declared if name.split("/")[0] == "lib" or name.startswith("runs/sources")}
        problems += [f"{stage}: add {name}" for name in sorted(needed - judged)]
        problems += [f"{stage}: remove {name}" for name in sorted(judged - needed)]
    return problems


def _modules_of_notebook(name: str, root: Path) -> list[str]:
    notebooks = find_notebooks(root)
    if name not in notebooks:
        raise InputError(f"notebook {name}", found="no such notebook", expected=f"one of {', '.join(notebooks)}")
    return notebook_imports(strip(read_notebook(notebooks[name], name)), name, root)


def _stages(pipeline: Mapping[str, Any]) -> Iterator[tuple[str, str, set[str]]]:
    """(name, command, declared deps) of each stage, `matrix` and `foreach` written out."""
    for name, stage in (pipeline.get("stages") or {}).items():
        if "matrix" in stage:
            axes = stage["matrix"]
            cells = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
            variants = [{f"item.{axis}": value for axis, value in cell.items()} for cell in cells]
        elif "foreach" in stage:
            items, stage = stage["foreach"], stage["do"]
            if isinstance(items, Mapping):
                variants = [
                    {"key": key} | {f"item.{part}": value for part, value in item.items()}
                    for key, item in items.items()
                ]
            else:
                variants = [{"item": item} for item in items]
        else:
            variants = [{}]
        for variant in variants:
            label = "-".join(str(value) for value in variant.values())
            command = stage["cmd"] if isinstance(stage["cmd"], str) else "\n".join(stage["cmd"])
            deps = [next(iter(dep)) if isinstance(dep, Mapping) else dep for dep in stage.get("deps", [])]
            yield (
                f"{name}@{label}" if label else name,
                _fill(command, variant),
                {_fill(dep, variant).rstrip("/") for dep in deps},
            )


def _fill(text: str, variant: Mapping[str, Any]) -> str:
    for key, value in variant.items():
        text = text.replace(f"${{{key}}}", str(value))
    return text

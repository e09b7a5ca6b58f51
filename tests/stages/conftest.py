"""A small project of its own: the library's core and stages, a notebook, params.yaml; with DVC where a test asks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.core.paths import ROOT

PARAMETERS = 'count: int = 1\nrate: float = 0.5\nname: str = "a"\nflags: list[bool] = [True]'
WORK = """\
import warnings
from lib.core.paths import ROOT
from lib.stages.outputs import out_dir, write_metrics
print("one", object(), ROOT / "data" / "x.png", out_dir() / "y.png")
print("step 1\\rstep 2")
warnings.warn("this goes to stderr")
(out_dir() / "table.csv").write_text(f"count,rate\\n{count},{rate}\\n")
write_metrics({"arm": {"score": count + rate, "score_low": 0.123456}})
"""
PIPELINE = """\
stages:
  sources:
    cmd: python -m lib.stages.sources
    deps: [notebooks]
    outs: [runs/sources]
    meta: {minutes: 0.1}
  long:
    cmd: cp runs/sources/two.ipynb product.txt
    deps: [runs/sources/two.ipynb]
    outs: [product.txt]
    meta: {minutes: 30}
  two:
    cmd: python -m lib.stages.notebook two
    deps: [product.txt, runs/sources/two.ipynb]
    params: [scale, two]
    outs:
      - runs/two/executed.ipynb: {push: false}
      - runs/two/table.csv
    metrics:
      - runs/two/metrics.json: {cache: false}
    meta: {minutes: 1}
"""
GIT = ["git", "-c", "user.name=Someone", "-c", "user.email=someone@example.org"]


class Project:
    """A folder with a project in it, and the commands that a user has."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            **{key: value for key, value in os.environ.items() if key not in ("LONG", "DVC_STAGE", "DVC_ROOT")},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "DVC_SITE_CACHE_DIR": str(root / ".dvc" / "tmp" / "site"),
            "DVC_NO_ANALYTICS": "1",
        }

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`python -m <command>` in the project's folder."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def must(self, *command: str, **environment: str) -> str:
        done = self.run(*command, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def git(self, *arguments: str) -> str:
        return subprocess.run([*GIT, *arguments], cwd=self.root, check=True, capture_output=True, text=True).stdout

    def write_notebook(self, name: str, *cells: str, parameters: str = PARAMETERS) -> Path:
        """Notebook `name` with a cell of parameters and `cells` of code."""
        path = self.root / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        tagged = code_cell(parameters, tags=["parameters"])
        path.write_text(json.dumps(notebook(tagged, *map(code_cell, cells))), encoding="utf-8")
        return path


def code_cell(source: str, **metadata: object) -> dict:
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}


def notebook(*cells: dict) -> dict:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def begin(root: Path) -> Project:
    """A project in `root` whose notebook `two` runs in a few seconds."""
    parts = [
        "lib/__init__.py",
        "lib/core/__init__.py",
        "lib/core/errors.py",
        "lib/core/palette.py",
        "lib/core/paths.py",
    ]
    stages = sorted(path.name for path in (ROOT / "lib" / "stages").iterdir() if path.is_file())
    for file in [*parts, *(f"lib/stages/{name}" for name in stages)]:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, root / file)
    text = "# kept\nscale: smoke  # and this\ntwo:\n  count: {smoke: 2, default: 3, full: 4}\n  rate: 1e-1\n"
    (root / "params.yaml").write_text(text)
    made = Project(root)
    made.write_notebook("two", WORK)
    return made


def begin_pipeline(root: Path) -> Project:
    """The same with DVC, a store and a commit; nothing has run yet."""
    made = begin(root)
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    (root / "dvc.yaml").write_text(PIPELINE)
    made.git("init", "--quiet")
    made.must("dvc", "init", "--quiet")
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc" / "config")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message", "begin")
    return made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return begin(tmp_path / "a project")


@pytest.fixture
def pipeline(tmp_path: Path) -> Project:
    return begin_pipeline(tmp_path / "a project")


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages have all run, and that was shipped and committed. Copy it; leave it as it is."""
    made = begin_pipeline(tmp_path_factory.mktemp("results") / "a project")
    made.must("lib.stages", "repro", LONG="1")
    made.must("lib.stages", "ship")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message", "results")
    return made.root


@pytest.fixture
def done(results: Path, tmp_path: Path) -> Project:
    """A copy of that project."""
    return Project(shutil.copytree(results, tmp_path / "a project", symlinks=True))

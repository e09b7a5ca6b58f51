from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.stages.graph import check_dvc, dependencies
from lib.stages.imports import closure, notebook_imports

from .conftest import Project, code_cell, notebook

FILES = {
    "lib/__init__.py": '"""Docstring."""\n',
    "lib/a/__init__.py": '"""Docstring only: not a dependency."""\n',
    "lib/a/one.py": "import json\nfrom typing import TYPE_CHECKING\nfrom lib.a import two\nfrom .three import f\n"
    "if TYPE_CHECKING:\n    from lib.b.typed import T\n",
    "lib/a/two.py": "def g():\n    from lib.b.late import h\n    return h\n",
    "lib/a/three.py": "from ..b import name\nf = 1\n",
    "lib/a/unused.py": "",
    "lib/b/__init__.py": "name = 1\n",
    "lib/b/late.py": "import importlib\nimportlib.import_module('lib.b.named')\nimport lib.a.one\n",
    "lib/b/named.py": "",
    "lib/b/typed.py": "",
    "lib/b/broken.py": "import lib.nothing\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_closure_has_what_is_imported_and_nothing_else(root: Path) -> None:
    found = [path.as_posix() for path in closure(["lib.a.one"], root)]
    names = ["lib/a/one.py", "lib/a/three.py", "lib/a/two.py", "lib/b/__init__.py", "lib/b/late.py", "lib/b/named.py"]
    assert found == names


def test_a_module_that_is_not_there_is_an_error(root: Path) -> None:
    with pytest.raises(InputError, match=r"lib\.nothing.*imported by lib/b/broken\.py"):
        closure(["lib.b.broken"], root)


def test_a_notebook_names_modules_in_its_cells(root: Path) -> None:
    made = notebook(
        code_cell("%matplotlib inline\nfrom lib.a import three\n!ls"), code_cell("%%bash\nimport lib.a.unused")
    )
    assert "lib.a.three" in notebook_imports(made, "n", root)
    assert "lib.a.unused" not in notebook_imports(made, "n", root)
    with pytest.raises(InputError, match="notebook n, cell 0"):
        notebook_imports(notebook(code_cell("from lib import (")), "n", root)


def test_declared_dependencies_are_compared_file_by_file(project: Project) -> None:
    own = dependencies("lib.stages.sources", project.root)
    assert own == ["lib/core/errors.py", "lib/core/paths.py", "lib/stages/publish.py", "lib/stages/sources.py"]
    two = dependencies("two", project.root)
    assert "lib/stages/notebook.py" in two
    assert "lib/stages/plan.py" not in two
    path = project.root / "dvc.yaml"
    path.write_text(
        "stages:\n"
        f"  good: {{cmd: python -m lib.stages.sources, deps: [notebooks, {', '.join(own)}]}}\n"
        f"  less: {{cmd: python -m lib.stages.sources, deps: [notebooks, {', '.join(own[1:])}]}}\n"
        f"  more: {{cmd: python -m lib.stages.sources, deps: [lib/stages/plan.py, {', '.join(own)}]}}\n"
        "  folder: {cmd: python -m lib.stages.sources, deps: [lib/]}\n"
        "  other: {cmd: echo}\n"
        "  run:\n    matrix: {name: [two]}\n    cmd: python -m lib.stages.notebook ${item.name}\n"
        f"    deps: [{', '.join(two)}]\n"
    )
    assert check_dvc(path, project.root) == [
        f"less: add {own[0]}",
        "more: remove lib/stages/plan.py",
        *(f"folder: add {name}" for name in own),
        "folder: remove lib",
        "other: no `python -m lib.…` in its command: echo",
        "run@two: add runs/sources/two.ipynb",
    ]

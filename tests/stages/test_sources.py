import copy
import json
from pathlib import Path

import nbformat
import pytest

from lib.core.errors import InputError
from lib.stages.sources import as_text, read_notebook, strip, strip_all, with_outputs

from .conftest import Project, code_cell, notebook

PLAIN = notebook(
    {"cell_type": "markdown", "metadata": {}, "source": ["# Über\n", "$x^2$"]},
    code_cell("a: int = 1", tags=["parameters"]),
    code_cell("print(a)\n"),
)


def saved_by_jupyterlab() -> dict:
    """The same notebook after it was run and saved: outputs, counts, ids, metadata, another kernel, an empty cell."""
    saved = copy.deepcopy(PLAIN)
    for number, cell in enumerate(saved["cells"]):
        cell["id"] = f"{number}f3a9c"
        cell["metadata"] |= {"collapsed": False, "jupyter": {"outputs_hidden": False}, "editable": True}
        cell["source"] = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cell["execution_count"] = number + 7
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]
    saved["cells"].append(code_cell(""))
    kernel = {"display_name": "My kernel", "language": "python", "name": "mine"}
    saved["metadata"] = {"kernelspec": kernel, "language_info": {"name": "python", "version": "3.11.9"}, "widgets": {}}
    return saved


def test_running_and_saving_in_jupyterlab_leaves_the_product_as_it_is() -> None:
    assert as_text(strip(saved_by_jupyterlab())) == as_text(strip(PLAIN))


def test_stripping_twice_is_stripping_once() -> None:
    once = strip(saved_by_jupyterlab())
    assert strip(once) == once
    nbformat.validate(nbformat.from_dict(once))


def test_what_a_person_wrote_is_kept() -> None:
    stripped = strip(PLAIN)
    assert ["".join(cell["source"]) for cell in stripped["cells"]] == ["# Über\n$x^2$", "a: int = 1", "print(a)\n"]
    assert stripped["cells"][1]["metadata"] == {"tags": ["parameters"]}
    changed = copy.deepcopy(PLAIN)
    changed["cells"][2]["source"] = "print(a + 1)\n"
    assert as_text(strip(changed)) != as_text(stripped)


def test_every_notebook_gets_a_twin_and_old_twins_go(project: Project) -> None:
    project.write_notebook("paper/method", "pass")
    checkpoint = project.root / "notebooks" / ".ipynb_checkpoints" / "two-checkpoint.ipynb"
    checkpoint.parent.mkdir()
    checkpoint.write_text("{}")
    assert strip_all(project.root) == ["paper/method", "two"]
    (project.root / "notebooks" / "paper" / "method.ipynb").unlink()
    assert strip_all(project.root) == ["two"]
    twins = [path.relative_to(project.root).as_posix() for path in (project.root / "runs").rglob("*.ipynb")]
    assert twins == ["runs/sources/two.ipynb"]


def test_a_source_with_outputs_is_named(project: Project) -> None:
    assert with_outputs(project.root) == []
    (project.root / "notebooks" / "two.ipynb").write_text(json.dumps(saved_by_jupyterlab()))
    assert with_outputs(project.root) == ["two"]
    done = project.run("lib.stages", "check-notebooks")
    assert done.returncode == 1
    assert "notebooks/two.ipynb holds outputs" in done.stdout


@pytest.mark.parametrize("text", ["", "{", "[]", '{"nbformat": 3, "worksheets": []}', '{"nbformat": 4}'])
def test_what_is_no_notebook_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "n.ipynb").write_text(text)
    with pytest.raises(InputError, match="notebook n"):
        read_notebook(tmp_path / "n.ipynb", "n")

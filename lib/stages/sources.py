"""Source notebooks without all that JupyterLab adds when one is run and saved.

`python -m lib.stages.sources` writes runs/sources/<name>.ipynb for every notebook below notebooks/. Heavy stages depend
on these twins, so that looking at a notebook in JupyterLab leaves every result valid.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.stages.publish import publish, stage_scratch

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def find_notebooks(root: Path = ROOT) -> dict[str, Path]:
    """Name ("start", "flowedit/method") -> file, sorted by name; JupyterLab's checkpoints are left out."""
    folder = root / "notebooks"
    found = [
        path
        for path in folder.rglob("*.ipynb")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(found)}


def read_notebook(path: Path, name: str) -> dict[str, Any]:
    """The JSON of a version 4 notebook. InputError names it if it is missing or something else."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"notebook {name}", found=f"no file {path.name}", expected="a notebook") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"notebook {name}", found=f"broken JSON ({error})", expected="a notebook") from error
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4 or not isinstance(notebook.get("cells"), list):
        raise InputError(f"notebook {name}", found="JSON of another kind", expected="a notebook of format 4")
    for index, cell in enumerate(notebook["cells"]):
        if not _is_cell(cell):
            expected = "a cell_type, a source (a text or lines), metadata with tags that are a list"
            raise InputError(f"cell {index} of notebook {name}", found="a cell of another shape", expected=expected)
    return notebook


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, dict) or cell.get("cell_type") not in ("code", "markdown", "raw"):
        return False
    source, metadata = cell.get("source"), cell.get("metadata", {})
    lines = [source] if isinstance(source, str) else source
    texts = isinstance(lines, list) and all(isinstance(line, str) for line in lines)
    tags = metadata.get("tags", []) if isinstance(metadata, dict) else None
    return texts and isinstance(tags, list) and isinstance(cell.get("outputs", []), list)


def strip(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Only what a person wrote: cell kinds, sources, tags and attachments. Ids come from positions, empty cells go."""
    cells = []
    for cell in notebook["cells"]:
        source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        if not source.strip():  # running the last cell makes JupyterLab add an empty one
            continue
        tags = cell.get("metadata", {}).get("tags")
        kept: dict[str, Any] = {
            "cell_type": cell["cell_type"],
            "id": f"cell-{len(cells):03d}",
            "metadata": {"tags": tags} if tags else {},
            "source": source.splitlines(keepends=True),
        }
        if cell["cell_type"] == "code":
            kept |= {"execution_count": None, "outputs": []}
        elif cell.get("attachments"):
            kept["attachments"] = cell["attachments"]
        cells.append(kept)
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def as_text(notebook: Mapping[str, Any]) -> str:
    """One spelling of the JSON, the one that notebook tools use too."""
    return json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def strip_all(root: Path = ROOT) -> list[str]:
    """Write the twin of every notebook to runs/sources/, as one folder at once. Returns their names."""
    notebooks = find_notebooks(root)
    if not notebooks:
        raise InputError("notebooks/", found="no notebook", expected="one at least")
    with stage_scratch("sources", fingerprint={}, root=root) as scratch:
        done = scratch / "sources"
        shutil.rmtree(done, ignore_errors=True)
        for name, path in notebooks.items():
            twin = done / f"{name}.ipynb"
            twin.parent.mkdir(parents=True, exist_ok=True)
            twin.write_text(as_text(strip(read_notebook(path, name))), encoding="utf-8")
        publish({done: root / "runs" / "sources"})
    return list(notebooks)


def with_outputs(root: Path = ROOT) -> list[str]:
    """The names of source notebooks that hold outputs or execution counts: they must not be committed like that."""
    return [
        name
        for name, path in find_notebooks(root).items()
        if any(cell.get("outputs") or cell.get("execution_count") for cell in read_notebook(path, name)["cells"])
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.stages.sources", description=__doc__)
    parser.parse_args(arguments)
    try:
        names = strip_all()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"runs/sources: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

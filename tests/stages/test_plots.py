"""What `dvc plots show` draws: every plot of a stage has a title and a template whose fields its file has."""

import csv
import json
import re
from pathlib import Path

import pytest

from lib.core.paths import ROOT
from lib.stages.config import load_yaml

TEMPLATES = ROOT / ".dvc" / "plots"
STAGES = load_yaml(ROOT / "dvc.yaml")["stages"] if (ROOT / "dvc.yaml").is_file() else {}
PLOTS = {path: given for stage in STAGES.values() for plot in stage.get("plots", []) for path, given in plot.items()}
MADE = {"rev", "editor"}  # by DVC, by a transform of the template


def fields_of(template: object) -> set[str]:
    """All column names that a template refers to by `field` or in `datum.…`."""
    found: set[str] = set()
    if isinstance(template, dict):
        found |= {value for key, value in template.items() if key == "field" and isinstance(value, str)}
        for value in template.values():
            found |= fields_of(value)
    elif isinstance(template, list):
        for value in template:
            found |= fields_of(value)
    elif isinstance(template, str):
        found |= set(re.findall(r"datum\.(\w+)", template))
    return found


def test_there_are_plots() -> None:
    assert {"runs/tune/sweep.csv", "runs/flowedit/method/scores.csv"} <= set(PLOTS)


@pytest.mark.parametrize("path", PLOTS)
def test_a_plot_says_what_it_shows(path: str) -> None:
    assert set(PLOTS[path]) == {"template", "title", "x", "y", "x_label"}
    template = json.loads((TEMPLATES / f"{PLOTS[path]['template']}.json").read_text())
    assert template["data"]["values"] == "<DVC_METRIC_DATA>"
    file = Path(ROOT / path)
    if not file.is_file():
        pytest.skip(f"{path} is not here: make repro")
    with file.open() as opened:
        columns = set(next(csv.reader(opened)))
    own = {name for name in fields_of(template) if not name.startswith("<")} - MADE - {"best", "chosen"}
    assert own <= columns
    assert {PLOTS[path]["x"], PLOTS[path]["y"]} <= columns

"""Every notebook runs from first cell to last at smoke scale, with the shipped models, and leaves what it promises."""

import json

import pytest

from lib.bench.export import export_cases
from lib.bench.world import world_cases
from lib.core.paths import MODELS
from lib.stages.config import load_section
from lib.stages.notebook import run_notebook
from lib.stages.outputs import check_metrics
from lib.stages.sources import find_notebooks, strip_all, with_outputs

ELSEWHERE = {  # notebooks that are run on another benchmark too, and what keeps that short
    "flowedit/method": {"cases": 4, "steps": 2, "starts": [0.5, 1.0]},
    "syncsde/ablation": {"cases": 4, "steps": 2, "few_steps": 1, "n_avg": 2, "repeats": 2, "points": 50},
    "lore/method": {"cases": 1, "steps": 2, "starts": [0.5, 1.0], "iterations": 1, "curve_iterations": [0, 1]},
}


@pytest.fixture(scope="session")
def pie_bench(tmp_path_factory):
    """Twenty edits of the world in PIE-Bench's layout."""
    return str(export_cases(world_cases("test", 20), tmp_path_factory.mktemp("sets") / "pie"))


@pytest.mark.parametrize("name", sorted(find_notebooks()))
def test_notebook(name, pie_bench, tmp_path):
    assert (MODELS / "tiny-flux").is_dir(), "models/ is empty: python -m lib.stages fetch"
    strip_all()
    run_notebook(name, load_section(name, scale="smoke"), into=tmp_path / "out")
    check_metrics(json.loads((tmp_path / "out" / "metrics.json").read_text()))
    executed = json.loads((tmp_path / "out" / "executed.ipynb").read_text())
    outputs = [output for cell in executed["cells"] for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sorted((tmp_path / "out" / "figures").glob("*.png"))
    if name in ELSEWHERE:  # after the first, as a notebook is run once at a time
        elsewhere = {"benchmark": "pie-bench", "folder": pie_bench, "clip": "models/tiny-clip"}
        run_notebook(name, load_section(name, scale="smoke") | ELSEWHERE[name] | elsewhere, into=tmp_path / "else")
        own = json.loads((tmp_path / "else" / "metrics.json").read_text())["flowedit"]
        assert "clip_t" in own
        assert "attribute_accuracy" not in own


def test_sources_hold_no_outputs():
    assert with_outputs() == []

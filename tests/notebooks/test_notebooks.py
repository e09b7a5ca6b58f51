"""Every notebook runs from first cell to last at smoke scale, with the shipped models, and leaves what it promises."""

import json

import pytest

from lib.core.paths import MODELS
from lib.stages.config import load_section
from lib.stages.notebook import run_notebook
from lib.stages.outputs import check_metrics
from lib.stages.sources import find_notebooks, strip_all, with_outputs


@pytest.mark.parametrize("name", sorted(find_notebooks()))
def test_notebook(name, tmp_path):
    assert (MODELS / "tiny-flux").is_dir(), "models/ is empty: python -m lib.stages fetch"
    strip_all()
    run_notebook(name, load_section(name, scale="smoke"), into=tmp_path / "out")
    check_metrics(json.loads((tmp_path / "out" / "metrics.json").read_text()))
    executed = json.loads((tmp_path / "out" / "executed.ipynb").read_text())
    outputs = [output for cell in executed["cells"] for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sorted((tmp_path / "out" / "figures").glob("*.png"))


def test_sources_hold_no_outputs():
    assert with_outputs() == []

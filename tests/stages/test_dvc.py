"""The repository's own pipeline."""

import pytest

from lib.core.paths import ROOT
from lib.stages.config import load_section, load_yaml
from lib.stages.graph import check_dvc
from lib.stages.parameters import check_overrides, read_parameters
from lib.stages.sources import find_notebooks, read_notebook, with_outputs

HERE = (ROOT / "dvc.yaml").is_file()


@pytest.mark.skipif(not HERE, reason="no dvc.yaml yet")
def test_stages_declare_what_they_import() -> None:
    assert check_dvc(ROOT / "dvc.yaml") == []


@pytest.mark.skipif(not HERE, reason="no dvc.yaml yet")
def test_nothing_is_frozen_and_every_stage_has_its_minutes() -> None:
    stages = load_yaml(ROOT / "dvc.yaml")["stages"]
    bodies = {name: stage.get("do", stage) for name, stage in stages.items()}
    assert [name for name, body in bodies.items() if body.get("frozen")] == []
    assert [name for name, body in bodies.items() if "minutes" not in body.get("meta", {})] == []


def test_source_notebooks_hold_no_outputs() -> None:
    assert with_outputs() == []


@pytest.mark.parametrize("name", find_notebooks())
@pytest.mark.parametrize("scale", ["smoke", "default", "full"])
def test_params_fit_the_notebooks(name: str, scale: str) -> None:
    declared = read_parameters(read_notebook(find_notebooks()[name], name), name)
    section = load_section(name, scale=scale, optional=True)
    assert set(check_overrides(declared, section, name)) == set(section)

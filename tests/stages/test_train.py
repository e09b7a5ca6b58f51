"""Trainings as stages: settings, fingerprints, and a kill in between."""

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest

from lib.core.errors import InputError
from lib.learning.flow import FlowTraining
from lib.stages import train as stage
from lib.stages.config import load_section
from lib.stages.publish import stage_scratch


@pytest.mark.parametrize("name", stage.TRAININGS)
def test_params_fit_the_settings(name):
    module = __import__(f"lib.learning.{name}", fromlist=["SETTINGS"])
    settings = stage.settings_from(load_section(name), module.SETTINGS)
    assert isinstance(settings, module.SETTINGS)
    assert set(module.CONTINUABLE) <= set(vars(settings))


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"stepz": 3}, "setting stepz of FlowTraining: found no such setting"),
        ({"batch": "48"}, "found '48'; expected a int"),
    ],
)
def test_bad_settings(section, text):
    with pytest.raises(InputError, match=text):
        stage.settings_from(section, FlowTraining)


def test_an_unknown_training():
    with pytest.raises(InputError, match="one of autoencoder, parser, flow"):
        stage.train("florw")


@dataclass(frozen=True)
class Settings:
    steps: int = 3


def test_a_failed_training_publishes_nothing_and_keeps_its_scratch(tmp_path, monkeypatch):
    seen, section = [], {"steps": 2}

    def run(scratch, settings):
        seen.append((scratch / "half").exists())
        (scratch / "half").write_text("work")
        if len(seen) == 1:
            raise KeyboardInterrupt
        (scratch / "model").mkdir()
        (scratch / "model" / "weights").write_text("done")
        return {scratch / "model": tmp_path / "models" / "toy"}

    toy = SimpleNamespace(SETTINGS=Settings, CONTINUABLE=("steps",), inputs=dict, stage=run)
    monkeypatch.setattr(stage, "TRAININGS", ("toy",))
    monkeypatch.setattr(stage, "stage_scratch", partial(stage_scratch, root=tmp_path))
    monkeypatch.setattr(stage, "import_module", lambda name: toy)
    monkeypatch.setattr(stage, "load_section", lambda name: dict(section))
    with pytest.raises(KeyboardInterrupt):
        stage.train("toy")
    assert not (tmp_path / "models").exists()
    section["steps"] = 3  # a longer run continues a shorter one
    stage.train("toy")
    assert seen == [False, True]
    assert (tmp_path / "models" / "toy" / "weights").read_text() == "done"

"""Trainings as stages: settings, fingerprints, and a kill in between."""

import errno
import shutil
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from lib.core.errors import InputError
from lib.learning.flow import FlowTraining
from lib.learning.training import Run
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
    seen, section, code = [], {"steps": 2}, []

    def run(scratch, settings):
        seen.append((scratch / "half").exists())
        (scratch / "half").write_text("work")
        if len(seen) != 2:
            raise KeyboardInterrupt
        (scratch / "model").mkdir()
        (scratch / "model" / "weights").write_text("done")
        return {scratch / "model": tmp_path / "models" / "toy"}

    toy = SimpleNamespace(SETTINGS=Settings, CONTINUABLE=("steps",), inputs=dict, stage=run)
    monkeypatch.setattr(stage, "TRAININGS", ("toy",))
    monkeypatch.setattr(stage, "stage_scratch", partial(stage_scratch, root=tmp_path))
    monkeypatch.setattr(stage, "import_module", lambda name: toy)
    monkeypatch.setattr(stage, "load_section", lambda name: dict(section))
    monkeypatch.setattr(stage, "training_code", lambda name: code)
    with pytest.raises(KeyboardInterrupt):
        stage.train("toy")
    assert not (tmp_path / "models").exists()
    section["steps"] = 3  # a longer run continues a shorter one
    stage.train("toy")
    assert seen == [False, True]
    assert (tmp_path / "models" / "toy" / "weights").read_text() == "done"
    for _ in range(2):  # the second time with other code, which begins anew
        with pytest.raises(KeyboardInterrupt):
            stage.train("toy")
        code.append("lib/core/noise.py")
    assert seen[2:] == [False, False]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.png"), "file x.png: found No space left on device; expec"),
        (OSError(errno.EROFS, "Read-only file system"), "training toy, whose unfinished work is .scratch/toy "),
        (OSError(errno.EACCES, "Permission denied", "runs"), "file runs: found Permission denied; expected a disk"),
        (shutil.Error([("a/w", "models/w", "[Errno 28] No space left on device: 'a/w' -> 'models/w'")]),
         "error: file models/w: found No space left on device; expected a disk with room"),
        (SafetensorError("Error while deserializing header: invalid UTF-8"), "found damaged weights (Error while"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "found No space left on device; exp"),
        (InputError("a", found="b", expected="c"), "error: a: found b; expected c"),
    ],
)  # fmt: skip
def test_what_the_disk_did_is_said_in_one_line(monkeypatch, capsys, error, said):
    def train(name):
        raise error

    monkeypatch.setattr(stage, "train", train)
    assert stage.main(["toy"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "No such file"), RuntimeError("a fault of ours"), shutil.Error([("a", "b", "c")])]
)
def test_a_fault_of_ours_keeps_its_traceback(monkeypatch, error):
    def train(name):
        raise error

    monkeypatch.setattr(stage, "train", train)
    with pytest.raises(type(error)):
        stage.main(["toy"])


@pytest.mark.parametrize("place", [9, -3])  # of the head, of a tensor
def test_a_damaged_checkpoint_is_named(tmp_path, monkeypatch, capsys, place):
    def run(scratch, settings):
        model = torch.nn.Linear(2, 2)
        Run(scratch, model, []).save()
        checkpoint = scratch / "checkpoint.safetensors"
        content = bytearray(checkpoint.read_bytes())
        content[place] ^= 0xFF
        checkpoint.write_bytes(content)
        return Run(scratch, model, [])

    toy = SimpleNamespace(SETTINGS=Settings, CONTINUABLE=("steps",), inputs=dict, stage=run)
    monkeypatch.setattr(stage, "TRAININGS", ("toy",))
    monkeypatch.setattr(stage, "stage_scratch", partial(stage_scratch, root=tmp_path))
    monkeypatch.setattr(stage, "import_module", lambda name: toy)
    monkeypatch.setattr(stage, "load_section", lambda name: {})
    monkeypatch.setattr(stage, "training_code", lambda name: [])
    assert stage.main(["toy"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: checkpoint {tmp_path}/.scratch/toy/checkpoint.safetensors: found damaged weights (")
    assert said.endswith("; expected a whole file (removing it begins anew)\n")
    assert len(said.splitlines()) == 1


def test_the_code_of_a_training_is_what_it_runs_through():
    code = stage.training_code("flow")
    assert {"lib/learning/flow.py", "lib/learning/flux_model.py", "lib/learning/training.py"} <= set(code)
    assert not [file for file in code if "gates" in file or not file.startswith("lib/learning/")]

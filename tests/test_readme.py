"""What README.md shows works as it stands there."""

import re
import sys
from dataclasses import replace
from types import ModuleType

import torch

from lib.backbones.load import load_backbone
from lib.core.images import load_image, read_recipe, save_png
from lib.core.paths import ROOT
from lib.editors.registry import EDITORS, Editor
from lib.editors.run import run_editor
from lib.stages.graph import dependencies
from lib.stages.train import TRAININGS
from tests import tiny
from tests.editors.analytic import some_cases

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(marker: str) -> str:
    """The Python code under an HTML comment."""
    return re.search(rf"<!-- {marker} -->\n```python\n(.*?)```", README, re.DOTALL).group(1)


def test_the_three_liner_edits_a_picture_with_an_sd3_folder(sd3_folder, tmp_path, monkeypatch):
    code = block("three-liner")
    assert len([line for line in code.splitlines() if line.strip()]) <= 3
    assert "docs/cat.png" in code and (ROOT / "docs" / "cat.png").is_file()
    (tmp_path / "docs").mkdir()
    save_png(torch.rand(3, tiny.SIDE, tiny.SIDE), tmp_path / "docs" / "cat.png")
    monkeypatch.chdir(tmp_path)
    code = code.replace(" on the left of a plain purple background", "")  # its tokenizer reads 24 letters
    exec(code.replace("models/tiny-flux", str(sd3_folder)))
    assert load_image(tmp_path / "dog.png").shape == (3, tiny.SIDE, tiny.SIDE)
    assert read_recipe(tmp_path / "dog.png")["target_prompt"] == "a small blue dog"


def test_the_example_editor_runs(flux_folder, monkeypatch):
    code = block("example-editor")
    assert len([line for line in code.splitlines() if line.strip()]) < 40
    module = ModuleType("masked_sdedit")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(code, module.__dict__)
    row = re.search(r"The row: `(.*?)`\.", README).group(1)
    editor = eval(row, {"Editor": Editor, **module.__dict__})
    monkeypatch.setitem(EDITORS, editor.name, editor)
    side = tiny.SIDE
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[:, : side // 2] = True
    image = torch.rand(3, side, side)
    (case,) = some_cases(1)
    case = replace(case, image=image, mask=mask, target_image=None, source_prompt="a cat", target_prompt="a dog")
    (edited,) = run_editor(editor.name, load_backbone(flux_folder), [case], {"steps": 3, "start": 1.0})
    assert edited.nfe == 3


def test_no_training_depends_on_an_editor():
    for module in TRAININGS:
        files = dependencies(f"lib.learning.{module}")
        assert f"lib/learning/{module}.py" in files
        assert not [file for file in files if file.startswith(("lib/editors", "lib/backbones", "lib/metrics"))]

"""The panel does what its controls say, and is one line where nobody can press a button."""

from dataclasses import dataclass, fields

import pytest
import torch

from lib.backbones.base import Backbone
from lib.bench.cases import EditCase
from lib.core.errors import InputError
from lib.editors.base import Settings
from lib.editors.registry import EDITORS
from lib.studio.widgets import REMARK, Panel, control, editor_panel


@pytest.fixture(autouse=True)
def interactive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PALIMPSEST_OUT", raising=False)


@pytest.fixture
def panel(flux: Backbone) -> Panel:
    image = torch.full((3, 32, 32), 0.5)
    cases = [
        EditCase(id="a", image=image, source_prompt="a cat", target_prompt="a dog", target_image=image, edit_type=1),
        EditCase(id="b", image=image, target_prompt="the red cat"),
    ]
    made = editor_panel(flux, cases)
    assert made is not None
    return made


def test_a_stage_prints_one_line(
    flux: Backbone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PALIMPSEST_OUT", "anywhere")
    assert editor_panel(flux, []) is None
    assert capsys.readouterr().out == f"{REMARK}\n"


def test_no_case_is_said(flux: Backbone) -> None:
    with pytest.raises(InputError, match="panel: found no case"):
        editor_panel(flux, [])


@pytest.mark.parametrize("editor", EDITORS)
def test_every_setting_of_an_editor_has_a_control_at_the_papers_value(panel: Panel, editor: str) -> None:
    panel.editor.value = editor
    settings = EDITORS[editor].settings()
    assert {name: slider.value for name, slider in panel.sliders.items()} == {
        field.name: getattr(settings, field.name) for field in fields(settings)
    }
    assert panel.slots.children == tuple(panel.sliders.values())
    assert "the paper's" in panel.status.value


def test_the_button_edits_as_the_controls_say(panel: Panel) -> None:
    panel.editor.value = "flowedit"
    panel.sliders["steps"].value, panel.sliders["n_avg"].value = 4, 2
    panel.sliders["start"].value = 1.0
    panel.button.click()
    assert panel.status.value.startswith("16 transformer evaluations")
    assert bytes(panel.picture.value).startswith(b"\x89PNG")
    assert not panel.button.disabled


def test_another_case_brings_its_prompt_and_another_prompt_another_picture(panel: Panel) -> None:
    panel.editor.value = "sdedit"
    panel.case.value = 1
    assert panel.prompt.value == "the red cat"
    panel.sliders["steps"].value = 2
    panel.run()
    first = bytes(panel.picture.value)
    panel.run()
    assert panel.picture.value == first
    panel.prompt.value = "the blue dog"
    panel.run()
    assert panel.picture.value != first


@pytest.mark.parametrize(
    ("editor", "prompt", "said"),
    [("flowedit", "the red cat", "source prompt of case 'b'"), ("sdedit", " ", "empty prompt"), ("sdedit", "ж", "ж")],
)
def test_what_is_wrong_stands_in_the_status_line(panel: Panel, editor: str, prompt: str, said: str) -> None:
    panel.case.value, panel.editor.value, panel.prompt.value = 1, editor, prompt
    panel.run()
    assert said in panel.status.value
    assert panel.picture.value == b""
    assert not panel.button.disabled


@dataclass(frozen=True)
class Many(Settings):
    """One field of each kind."""

    steps: int = 80
    strange: float = 30.0
    few: int = 2
    flag: bool = True
    word: str = "a"
    several: tuple[int, ...] = (1, 2)


def test_a_control_fits_its_field() -> None:
    made = {field.name: control(field.name, Many, field.default) for field in fields(Many)}
    kinds = {name: type(widget).__name__ for name, widget in made.items()}
    assert kinds == {
        "steps": "IntSlider",
        "strange": "FloatSlider",
        "few": "IntSlider",
        "flag": "Checkbox",
        "word": "Text",
        "several": "Text",
    }
    assert made["steps"].max == 80  # a value beyond the usual range widens it
    assert (made["strange"].max, made["few"].max) == (60, 10)
    assert made["several"].disabled
    assert not made["word"].disabled

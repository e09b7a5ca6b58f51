"""A panel to play with in JupyterLab: choose a case and an editor, move its settings, press a button, see the edit."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

from lib.bench.cases import EditCase
from lib.core.errors import InputError, PalimpsestError
from lib.editors.registry import EDITORS, settings_for
from lib.editors.run import run_editor
from lib.metrics.score import Parser
from lib.metrics.tuning import settings_auto
from lib.studio.cases import with_prompt
from lib.studio.reading import about_words, show_edit
from lib.world.edits import EDIT_TYPES

if TYPE_CHECKING:
    from lib.backbones.base import Backbone

REMARK = "In JupyterLab a panel stands here: case, editor, settings and prompt to choose, and a button to edit."
RANGES: dict[str, tuple[float, float, float]] = {  # name of a setting -> lowest, highest, step of its slider
    "steps": (1, 50, 1),
    "start": (0.05, 1.0, 0.05),
    "tail": (0.0, 0.95, 0.05),
    "n_avg": (1, 8, 1),
    "guidance": (0.0, 10.0, 0.5),
    "source_guidance": (0.0, 10.0, 0.5),
    "target_guidance": (0.0, 10.0, 0.5),
}


def editor_panel(backbone: Backbone, cases: Sequence[EditCase], parser: Parser | None = None) -> Panel | None:
    """The panel, for a cell to end with. Where a notebook runs as a stage (PALIMPSEST_OUT is set): one printed line."""
    if os.environ.get("PALIMPSEST_OUT"):
        print(REMARK)
        return None
    return Panel(backbone, cases, parser)


class Panel:
    """The controls, and what they do. `run()` is what the button calls."""

    def __init__(self, backbone: Backbone, cases: Sequence[EditCase], parser: Parser | None = None) -> None:
        import ipywidgets as w

        if not cases:
            raise InputError("panel", found="no case", expected="at least one")
        self.backbone, self.cases, self.parser = backbone, list(cases), parser
        wide, style = w.Layout(width="440px"), {"description_width": "110px"}
        names = [(_name(i, case), i) for i, case in enumerate(self.cases)]
        self.case = w.Dropdown(options=names, value=0, description="case", layout=wide, style=style)
        self.editor = w.Dropdown(options=list(EDITORS), description="editor", layout=wide, style=style)
        self.prompt = w.Textarea(description="target prompt", rows=3, layout=wide, style=style)
        self.seed = w.IntText(value=0, description="seed", layout=wide, style=style)
        self.sliders: dict[str, Any] = {}
        self.slots = w.VBox([])
        self.button = w.Button(description="Edit", button_style="primary")
        self.status = w.Label()
        self.picture = w.Image(format="png")
        controls = [self.case, self.editor, self.prompt, self.seed, self.slots, self.button, self.status]
        self.box = w.HBox([w.VBox(controls), self.picture])
        self.case.observe(lambda _: self._use_case(), "value")
        self.editor.observe(lambda _: self._use_editor(), "value")
        self.button.on_click(lambda _: self.run())
        self._use_case()
        self._use_editor()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.box)

    def run(self) -> None:
        """Edit as the controls say and show it; what goes wrong with the input stands in the status line."""
        self.button.disabled = True
        self.status.value = "editing …"
        try:
            case = with_prompt(self.cases[self.case.value], self.prompt.value.strip())
            settings = {name: _value(slider) for name, slider in self.sliders.items()}
            edited = run_editor(
                self.editor.value, self.backbone, [case], settings, seed=self.seed.value, progress=False
            )[0]
            self.picture.value = _png(show_edit(case, edited, self.parser))
            self.status.value = f"{edited.nfe:g} transformer evaluations. {about_words(case.target_prompt)}"
        except PalimpsestError as error:
            self.status.value = str(error)
        finally:
            self.button.disabled = False

    def _use_case(self) -> None:
        self.prompt.value = self.cases[self.case.value].target_prompt

    def _use_editor(self) -> None:
        """One control per setting of the editor, at the values in use for this backbone."""
        chosen, origin = settings_auto(self.editor.value, self.backbone)
        settings = settings_for(self.editor.value, chosen)
        self.sliders = {
            field.name: control(field.name, type(settings), getattr(settings, field.name)) for field in fields(settings)
        }
        self.slots.children = tuple(self.sliders.values())
        self.status.value = f"settings: {origin}"


def control(name: str, kind: type, value: Any) -> Any:
    """The widget for the field `name` of the settings class `kind`: a slider, a box to tick, or a line of text.

    A number whose name is not in RANGES gets a slider to twice its value, to 10 at least.
    """
    import ipywidgets as w

    look = {
        "description": name.replace("_", " "),
        "layout": w.Layout(width="440px"),
        "style": {"description_width": "110px"},
    }
    hint = get_type_hints(kind)[name]
    if hint is bool:
        return w.Checkbox(value=value, **look)
    if hint not in (int, float):
        return w.Text(value=str(value), disabled=hint is not str, **look)
    low, high, step = RANGES.get(name, (min(0, value), max(10, 2 * value), 1 if hint is int else 0.1))
    low, high = min(low, value), max(high, value)  # a tuned value may lie outside
    if hint is int:
        return w.IntSlider(value=value, min=low, max=high, step=step, continuous_update=False, **look)
    return w.FloatSlider(value=value, min=low, max=high, step=step, continuous_update=False, **look)


def _value(slider: Any) -> Any:
    return round(slider.value, 6) if isinstance(slider.value, float) else slider.value


def _name(number: int, case: EditCase) -> str:
    kind = "" if case.edit_type is None else f"{EDIT_TYPES[case.edit_type]}: "
    return f"{number}  {kind}{case.instruction or case.target_prompt}"


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=figure.dpi)
    return stream.getvalue()

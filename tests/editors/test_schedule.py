"""Settings that count or place steps: every editor and anchor says at once which of them lies outside its schedule."""

from dataclasses import fields

import pytest

from lib.core.errors import InputError
from lib.editors.anchors import ANCHORS, run_anchor
from lib.editors.registry import EDITORS
from lib.editors.run import run_editor
from tests.editors.analytic import Mixture, some_cases

LEVEL = r"a noise level in \(0, 1\]"
STEPS = 6
# Of each setting that says when: values outside the schedule of STEPS steps, and what is expected instead.
OUTSIDE: dict[str, tuple[list[int | float], str]] = {
    "steps": ([0, -1], "1 or more"),
    "start": ([0.0, -0.1, 1.001, 4, 28], LEVEL),  # also as an index, which other code bases take
    "tail": ([-0.1, 1.0, 14], r"a noise level in \[0, `start`\)"),
    "inject": ([-1, STEPS + 1], f"0 to {STEPS}, the number of steps"),
    "alpha": ([-0.1, 1.001, 9], r"a number in \[0, 1\]"),
    "eta_start": ([-0.1, 1.001, 4], r"a number in \[0, 1\]"),
    "eta_stop": ([-0.1, 1.001, 8], r"a number in \[0, 1\]"),
    "n_avg": ([0, -1], "1 or more"),
    "iterations": ([-1], r"a number in \[0, inf\]"),
}
ROWS = {**EDITORS, **ANCHORS}
WRONG = [
    (name, setting, value)
    for name, row in ROWS.items()
    for setting, (values, _) in OUTSIDE.items()
    if setting in {field.name for field in fields(row.settings)}
    for value in values
]


@pytest.mark.parametrize(("name", "setting", "value"), WRONG)
def test_outside_the_schedule(name: str, setting: str, value: float):
    backbone, row = Mixture(), ROWS[name]
    run = run_editor if name in EDITORS else run_anchor
    sound = {"steps": STEPS, "inject": STEPS} if hasattr(row.settings, "inject") else {"steps": STEPS}
    with backbone.count() as counter, pytest.raises(InputError) as caught:
        run(name, backbone, some_cases(1), sound | {setting: value})
    kind = row.settings.__name__
    said = rf"setting '{setting}' of {kind}: found {value}(\.0)?; expected {OUTSIDE[setting][1]}"
    caught.match(f"^{said}$")
    assert (counter.calls, backbone.embedded) == (0, [])


@pytest.mark.parametrize("name", ROWS)
def test_every_count_is_listed(name: str):
    counts = {field.name for field in fields(ROWS[name].settings) if type(field.default) is int}
    assert counts <= OUTSIDE.keys()

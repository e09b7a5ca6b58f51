"""The table, its settings, and how little a new editor takes."""

from dataclasses import dataclass, fields
from itertools import pairwise

import pytest

from lib.core.errors import InputError
from lib.editors import registry
from lib.editors.anchors import ANCHORS, run_anchor
from lib.editors.base import EditResult, Settings
from lib.editors.flowedit import FlowEdit
from lib.editors.registry import EDITORS, Editor, editor_named, settings_for
from lib.editors.run import run_editor
from lib.editors.sdedit import SDEdit
from tests.editors.analytic import Mixture, some_cases


def test_unknown_names_list_the_known_ones():
    with pytest.raises(InputError, match=r"flowdit.*sdedit, ode-inversion, flowedit"):
        editor_named("flowdit")
    with pytest.raises(InputError, match=r"anchor.*source-copy.*ground-truth"):
        run_anchor("copy", Mixture(), some_cases(1))


@pytest.mark.parametrize("table", [EDITORS, ANCHORS])
def test_every_row_is_sound(table):
    for name, row in table.items():
        assert row.name == name
        assert row.run.__doc__
        assert all(field.default is not None for field in fields(row.settings))
        assert row.settings() == registry.settings_of(row)  # defaults pass their own check


def test_settings_from_nothing_a_mapping_or_the_dataclass():
    assert settings_for("flowedit") == FlowEdit()
    assert settings_for("flowedit", {"n_avg": 3, "start": 1}) == FlowEdit(n_avg=3, start=1.0)
    assert type(settings_for("flowedit", {"start": 1}).start) is float
    mine = FlowEdit(steps=5)
    assert settings_for("flowedit", mine) is mine


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"step": 3}, "unknown step"),
        ({"steps": 3.0}, "3.0 .float"),
        ({"steps": True}, "True .bool"),
        ({"start": "high"}, "'high' .str"),
        ({"start": None}, "None"),
        (SDEdit(), "a SDEdit"),
        (3, "a int"),
    ],
)
def test_wrong_settings_list_the_fields(settings, words):
    with pytest.raises(InputError, match=words) as error:
        settings_for("flowedit", settings)
    assert "n_avg: int = 1" in str(error.value)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sdedit", {"start": 0.0}),
        ("sdedit", {"start": 1.01}),
        ("sdedit", {"start": float("nan")}),
        ("sdedit", {"steps": 0}),
        ("sdedit", {"guidance": -0.1}),
        ("sdedit", {"guidance": float("inf")}),
        ("flowedit", {"n_avg": 0}),
        ("flowedit", {"tail": 0.95}),
        ("flowedit", {"tail": -0.1}),
        ("flowedit", {"start": 0.4, "tail": 0.5}),
        ("flowedit", {"target_guidance": -1.0}),
        ("ode-inversion", {"source_guidance": -1.0}),
    ],
)
def test_settings_out_of_range(name, settings):
    with pytest.raises(InputError, match=f"setting '{list(settings)[-1]}'"):
        settings_for(name, settings)


# A new editor, whole: what a user writes in a file of their own.
@dataclass(frozen=True)
class Halfway(Settings):
    """Renoise to half and come back unguided."""

    steps: int = 4


def halfway(backbone, batch, settings, *, noise, callback=None):
    """SDEdit at one half."""
    source = backbone.encode(batch.image)
    target = backbone.embed(batch.target_prompt)
    x = (source + noise.draw(0, source)) / 2
    for t, t_next in pairwise(backbone.times(settings.steps, 0.5, like=source)):
        x = x + (t_next - t) * backbone.velocity(x, t, target)
    return EditResult(backbone.decode(x), latents=x)


def halfway_nfe(backbone, settings, latents):
    return len(backbone.times(settings.steps, 0.5, like=latents)) - 1


def test_a_new_editor_is_one_row(monkeypatch):
    row = Editor("halfway", "none", halfway, Halfway, halfway_nfe, stochastic=True)
    monkeypatch.setitem(EDITORS, row.name, row)
    (found,) = run_editor("halfway", Mixture(), some_cases(1), {"steps": 3})
    (wanted,) = run_editor("sdedit", Mixture(), some_cases(1), {"steps": 3, "start": 0.5, "guidance": 1.0})
    assert found.image.equal(wanted.image)
    assert found.recipe["editor"] == "halfway"

"""The table of editors. A new one is a file beside this one and a row here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lib.core.errors import InputError
from lib.editors.base import EditResult, describe
from lib.editors.difference_flow import (
    DifferenceFlow,
    Member,
    cyclediffusion,
    difference_flow,
    difference_flow_nfe,
    edit_friendly,
    infedit,
    member_nfe,
)
from lib.editors.fireflow import FireFlow, fireflow_edit, fireflow_edit_nfe
from lib.editors.flowedit import FlowEdit, flowedit, flowedit_nfe
from lib.editors.kv_edit import KVEdit, kv_edit, kv_edit_nfe
from lib.editors.lore import LORE, lore, lore_nfe
from lib.editors.ode_inversion import ODEInversion, ode_inversion, ode_inversion_nfe
from lib.editors.rf_inversion import RFInversion, rf_inversion, rf_inversion_nfe
from lib.editors.rf_solver import RFSolverEdit, rf_solver_edit, rf_solver_edit_nfe
from lib.editors.sdedit import SDEdit, sdedit, sdedit_nfe
from lib.editors.sync_sde import SyncSDE, sync_sde, sync_sde_nfe
from lib.editors.uniedit import UniEdit, uniedit, uniedit_nfe


@dataclass(frozen=True)
class Editor:
    """A method and what it needs.

    `run(backbone, batch, settings, *, noise, callback=None)` gives an EditResult; `nfe(backbone, settings, latents)`
    the transformer evaluations per image that it must cost for latents of this size; `settings` is a frozen dataclass
    on `base.Settings`. The flags say whether it draws noise and what a case must bring.
    """

    name: str
    paper: str
    run: Callable[..., EditResult]
    settings: type
    nfe: Callable[[Any, Any, Any], float]
    stochastic: bool
    needs_mask: bool = False
    needs_source_prompt: bool = False
    needs_target_image: bool = False
    needs_gradients: bool = False
    needs_attention: bool = False  # reads or shares what attention holds: FLUX only, no classifier-free guidance


SOURCE = {"needs_source_prompt": True}
SHARES = {"needs_source_prompt": True, "needs_attention": True}
MASKED = {**SHARES, "needs_mask": True}

# fmt: off
EDITORS: dict[str, Editor] = {editor.name: editor for editor in (
    #      name               paper         run              settings        nfe                  stochastic
    Editor("sdedit",          "2108.01073", sdedit,          SDEdit,         sdedit_nfe,          True),
    Editor("ode-inversion",   "2412.08629", ode_inversion,   ODEInversion,   ode_inversion_nfe,   False, **SOURCE),
    Editor("flowedit",        "2412.08629", flowedit,        FlowEdit,       flowedit_nfe,        True,  **SOURCE),
    Editor("sync-sde",        "2509.24223", sync_sde,        SyncSDE,        sync_sde_nfe,        True,  **SOURCE),
    Editor("cyclediffusion",  "2210.05559", cyclediffusion,  Member,         member_nfe,          True,  **SOURCE),
    Editor("edit-friendly",   "2304.06140", edit_friendly,   Member,         member_nfe,          True,  **SOURCE),
    Editor("infedit",         "2312.04965", infedit,         Member,         member_nfe,          True,  **SOURCE),
    Editor("difference-flow", "2509.24223", difference_flow, DifferenceFlow, difference_flow_nfe, True,  **SOURCE),
    Editor("rf-inversion",    "2410.10792", rf_inversion,    RFInversion,    rf_inversion_nfe,    True),
    Editor("rf-solver",       "2411.04746", rf_solver_edit,  RFSolverEdit,   rf_solver_edit_nfe,  False, **SHARES),
    Editor("fireflow",        "2412.07517", fireflow_edit,   FireFlow,       fireflow_edit_nfe,   False, **SHARES),
    Editor("uniedit-flow",    "2504.13109", uniedit,         UniEdit,        uniedit_nfe,         False, **SOURCE),
    Editor("kv-edit",         "2502.17363", kv_edit,         KVEdit,         kv_edit_nfe,         False, **MASKED),
    Editor("lore",            "2508.03144", lore,            LORE,           lore_nfe,            True,  **MASKED,
           needs_gradients=True),
)}
# fmt: on


def editor_named(name: str) -> Editor:
    """The row of this name, or InputError listing the names there are."""
    return row_named(EDITORS, name, "editor")


def row_named(table: Mapping[str, Editor], name: str, thing: str) -> Editor:
    """The row of this name in a table of editors or anchors, or InputError listing the names there are."""
    if name not in table:
        raise InputError(thing, found=repr(name), expected=f"one of {', '.join(table)}")
    return table[name]


def settings_for(name: str, settings: Any = None) -> Any:
    """Settings of the editor of this name: None gives the paper's, a mapping changes the fields that it names.

    InputError, listing the fields, for an unknown field, a wrong type or the settings of another editor.
    """
    return settings_of(editor_named(name), settings)


def settings_of(editor: Editor, settings: Any = None) -> Any:
    """`settings_for` for a row of any table."""
    thing = f"settings of {editor.name!r}"
    expected = f"fields {describe(editor.settings) or 'none at all'}"
    if isinstance(settings, editor.settings):
        return settings
    if settings is None:
        return editor.settings()
    if not isinstance(settings, Mapping):
        raise InputError(
            thing, found=f"a {type(settings).__name__}", expected=f"{editor.settings.__name__} or {expected}"
        )
    unknown = [str(key) for key in settings if key not in {field.name for field in dataclasses.fields(editor.settings)}]
    if unknown:
        raise InputError(thing, found=f"unknown {', '.join(unknown)}", expected=expected)
    return editor.settings(**settings)

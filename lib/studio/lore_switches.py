"""The arms of LORE's ablation: one switch at a time, the same cases, the same noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lib.bench.local import LOCAL
from lib.editors.registry import settings_for
from lib.metrics.sweep import Arm, run_arm, run_arms
from lib.studio.lore_cases import recipe_for
from lib.world.edits import EDIT_TYPES

if TYPE_CHECKING:
    from lib.backbones.base import Backbone
    from lib.studio.evaluation import Evaluation

RECIPE = "lore@recipe=per-type"
STABLE = ("lore", "lore-no-optimisation")  # whose spread over seeds is asked for


def switches(many_iterations: int) -> dict[str, dict[str, Any]]:
    """Label of each arm -> what it changes in LORE's settings; LORE itself is the first."""
    return {
        "lore": {},
        "lore-no-optimisation": {"iterations": 0},
        "lore-no-renoise": {"renoise": 0.0},
        "lore-no-renoise-no-optimisation": {"renoise": 0.0, "iterations": 0},
        f"lore@iterations={many_iterations}": {"iterations": many_iterations},
        "lore@renoise=0.1": {"renoise": 0.1},
        "lore@values=none": {"values": "none"},
        "lore@values=all": {"values": "all"},
        "lore@values=image": {"values": "image"},
        "lore@soft_mask=false": {"soft_mask": False},
        "lore@padding=false": {"padding": False},
        "lore@late_values=false": {"late_values": False},
        "lore@preserve_variance=true": {"preserve_variance": True},
    }


def ablation_arms(
    backbone: Backbone,
    evaluation: Evaluation,
    own: Mapping[str, Any],
    *,
    many_iterations: int,
    seeds: Sequence[int],
    batch_size: int,
) -> list[Arm]:
    """Every switch and the recipes per type, edited and scored, with the first seed; the arms of STABLE with all seeds.

    `own`: LORE's settings in use, of which each arm changes its own.
    """
    arms, cases, options = [], evaluation.cases, {"clip": evaluation.clip, "batch_size": batch_size}
    for label, changed in switches(many_iterations).items():
        draws = seeds if label in STABLE else seeds[:1]
        plan = [("lore", {**own, **changed})]
        arms += run_arms(plan, backbone, cases, evaluation.parser, labels=[label], seeds=draws, **options)
    edited, rows = [], []
    for kind, recipe in recipes_in_use(own).items():
        of_kind = [case for case in cases if EDIT_TYPES[case.edit_type] == kind]
        if not of_kind:
            continue
        own_label = {"label": RECIPE, "seeds": seeds[:1], **options}
        part = run_arm("lore", backbone, of_kind, {**own, **recipe}, evaluation.parser, **own_label)
        edited, rows = [*edited, *part.edited], [*rows, *part.rows]
    return [*arms, Arm(RECIPE, "lore", edited, rows)]


def recipes_in_use(own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Type of edit -> the released recipe for it, in proportion to the steps of `own`."""
    return {EDIT_TYPES[kind]: recipe_for(kind, settings_for("lore", own)) for kind in LOCAL}

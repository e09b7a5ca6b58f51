"""Run editors at several settings on the same cases and keep what was made with its scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from lib.backbones.base import Backbone
from lib.bench.cases import EditCase
from lib.editors.anchors import ANCHORS, run_anchor
from lib.editors.registry import EDITORS, settings_for
from lib.editors.run import Edited, run_editor
from lib.metrics.extractors import ImageTextEncoder
from lib.metrics.score import Parser, score

COLUMNS = ["case", "arm", "seed", "metric", "value"]


@dataclass(frozen=True, eq=False)
class Arm:
    """One editor at one setting on all cases, for one or more seeds. `edited` are the results of the first seed."""

    label: str
    editor: str
    edited: list[Edited]
    rows: list[dict[str, Any]]  # tidy scores: case, arm, seed, metric, value

    @property
    def nfe(self) -> float:
        """Transformer evaluations per image."""
        return self.edited[0].nfe


def grid(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of the values per setting, the last axis fastest."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def label_of(editor: str, settings: Mapping[str, Any]) -> str:
    """ "flowedit start=0.8 target_guidance=3.5": an arm's name in tables."""
    return " ".join([editor, *(f"{name}={value:g}" for name, value in settings.items())])


def curve(editor: str, settings: Mapping[str, Any], knob: str, values: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Arms along one setting: the editor as it is set, then `editor@knob=value` for each value."""
    along = {f"{editor}@{knob}={value:g}": {**settings, knob: value} for value in sorted(values)}
    return {editor: dict(settings), **along}


def run_arm(
    editor: str,
    backbone: Backbone,
    cases: Sequence[EditCase],
    settings: Mapping[str, Any] | None,
    parser: Parser | None,
    *,
    clip: ImageTextEncoder | None = None,
    label: str | None = None,
    seeds: Sequence[int] = (0,),
    batch_size: int = 32,
) -> Arm:
    """One editor or anchor at one setting, scored by `parser` where cases know their attributes, by `clip` if given.

    Among the rows are `nfe` and `l1_to_source`, the mean |edited - source| over all pixels, 0 to 1. An editor that
    draws no noise is run once, and its rows stand under every seed.
    """
    label = label or label_of(editor, settings or {})
    run, known = (run_anchor, ANCHORS) if editor in ANCHORS else (run_editor, EDITORS)
    draws = seeds[:1] if editor in known and not known[editor].stochastic else seeds
    options = {"batch_size": batch_size, "progress": False}
    by_seed = [run(editor, backbone, cases, settings, seed=seed, **options) for seed in draws]
    rows: list[dict[str, Any]] = []
    for seed, edited in zip(draws, by_seed, strict=True):
        rows += score(edited, cases, parser, clip=clip, arm=label)
        for each, case in zip(edited, cases, strict=True):
            beside = {"nfe": each.nfe, "l1_to_source": (each.image - case.image).abs().mean().item()}
            named = {"case": case.id, "arm": label, "seed": seed}
            rows += [{**named, "metric": metric, "value": value} for metric, value in beside.items()]
    rows += [row | {"seed": seed} for seed in seeds[len(draws) :] for row in rows]
    return Arm(label, editor, by_seed[0], rows)


def run_arms(
    plan: Sequence[tuple[str, Mapping[str, Any] | None]],
    backbone: Backbone,
    cases: Sequence[EditCase],
    parser: Parser | None,
    *,
    clip: ImageTextEncoder | None = None,
    labels: Sequence[str] | None = None,
    seeds: Sequence[int] | Mapping[str, Sequence[int]] = (0,),
    batch_size: int = 32,
) -> list[Arm]:
    """`run_arm` for each (editor, settings) of a plan, with one progress bar (none in headless runs).

    `seeds` are those of every arm, or given by label. Two arms of one editor with equal settings, defaults
    counted in, are run once, with the seeds of the first, and have equal scores under both labels.
    """
    names = labels or [label_of(editor, settings or {}) for editor, settings in plan]
    bar = tqdm(list(zip(names, plan, strict=True)), desc="arms", unit="arm", disable=None)
    made: dict[str, Arm] = {}
    arms = []
    for label, (editor, settings) in bar:
        known = settings_for(editor, settings) if editor in EDITORS else sorted((settings or {}).items())
        key = f"{editor} {known}"
        if key not in made:
            draws = seeds[label] if isinstance(seeds, Mapping) else seeds
            options = {"clip": clip, "label": label, "seeds": draws, "batch_size": batch_size}
            made[key] = run_arm(editor, backbone, cases, settings, parser, **options)
        arms.append(replace(made[key], label=label, rows=[row | {"arm": label} for row in made[key].rows]))
    return arms


def table_of(arms: Sequence[Arm], cases: Sequence[EditCase]) -> pd.DataFrame:
    """Tidy scores of all arms with the edit type of each case as `stratum`."""
    table = pd.DataFrame([row for arm in arms for row in arm.rows], columns=COLUMNS)
    return table.assign(stratum=table["case"].map({case.id: case.edit_type for case in cases}))

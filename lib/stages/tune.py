"""The stage `tune`: python -m lib.stages.tune. Sweeps every editor's settings of params.yaml on the tuning split."""

import sys

import pandas as pd

from lib.backbones.load import load_backbone
from lib.bench.local import local_cases
from lib.bench.world import world_cases
from lib.core.errors import InputError, PalimpsestError
from lib.core.paths import RUNS
from lib.editors.registry import EDITORS
from lib.learning.parser import load_parser
from lib.metrics.sweep import grid, label_of, run_arms, table_of
from lib.metrics.tuning import best_arm, tuning_score, write_record
from lib.stages.config import load_params, load_section
from lib.stages.publish import die_with_parent, guard_sources, publish, stage_scratch


def tune() -> None:
    """Sweep, choose by the rule of `lib.metrics.tuning`, publish runs/tune/settings.json and runs/tune/sweep.csv.

    Editors that are given a mask are tuned on local edits, whose masks leave something outside.
    """
    section = load_section("tune")
    sweeps = {editor: grid(load_section(f"sweeps/{editor}")) for editor in load_params()["sweeps"]}
    if unknown := sorted(set(sweeps) - set(EDITORS)):
        raise InputError("sweeps in params.yaml", found=f"{unknown}", expected=f"editors of {sorted(EDITORS)}")
    budgets = {editor: len(settings) for editor, settings in sweeps.items()}
    if len(set(budgets.values())) != 1:
        raise InputError(
            "sweeps in params.yaml", found=f"settings per editor {budgets}", expected="the same number for each"
        )
    guard = guard_sources(values=load_params)
    backbone, parser = load_backbone(section["backbone"]), load_parser("models/parser")
    masked = [editor for editor in sweeps if EDITORS[editor].needs_mask]
    free = [editor for editor in sweeps if editor not in masked]
    with stage_scratch(
        "tune", fingerprint={"section": section, "sweeps": sweeps, "backbone": backbone.hash}
    ) as scratch:
        tables, counts = [], {}
        for editors, cases in (
            (free, world_cases("tune", section["cases"])),
            (masked, local_cases("tune", section["local"])),
        ):
            plan = [(editor, settings) for editor in editors for settings in sweeps[editor]]
            arms = run_arms(plan, backbone, cases, parser, seeds=section["seeds"])
            tables.append(tuning_score(table_of(arms, cases)))
            counts |= dict.fromkeys(editors, len(cases))
        scores, chosen = pd.concat(tables, ignore_index=True), {}
        for editor, each in sweeps.items():
            by_label = {label_of(editor, settings): settings for settings in each}
            chosen[editor] = by_label[best_arm(scores[scores["arm"].isin(by_label)])]
        write_record(scratch / "settings.json", backbone, chosen, *set(budgets.values()), counts)
        scores.to_csv(scratch / "sweep.csv", index=False, float_format="%.4g", lineterminator="\n")
        guard.check()
        publish({scratch / name: RUNS / "tune" / name for name in ("settings.json", "sweep.csv")})


if __name__ == "__main__":
    die_with_parent()
    try:
        tune()
    except PalimpsestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

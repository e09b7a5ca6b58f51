"""Choosing each editor's settings: one sweep budget for all, one rule, on the tuning split, recorded by backbone.

The rule: the setting with the largest mean over cases of accuracy x preservation, what was asked for times what had
to stay;
among equals the one with fewer transformer evaluations. The test split is never looked at.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lib.backbones.base import Backbone
from lib.core.errors import InputError
from lib.core.paths import RUNS

RECORD = RUNS / "tune" / "settings.json"


def tuning_score(table: pd.DataFrame) -> pd.DataFrame:
    """Columns arm, score, nfe from tidy scores: mean of accuracy x preservation over cases and seeds."""
    keys = ["arm", "case", "seed"]
    wide = table.set_index([*keys, "metric"])["value"].unstack(sort=False).reset_index()  # keeps what is NaN everywhere
    wide["score"] = wide["attribute_accuracy"] * wide["attribute_preservation"].fillna(1.0)
    return wide.groupby("arm", sort=False)[["score", "nfe"]].mean().reset_index()


def best_arm(scores: pd.DataFrame) -> str:
    """The arm that the rule picks."""
    return scores.sort_values(["score", "nfe"], ascending=[False, True], kind="stable")["arm"].iloc[0]


def write_record(
    path: Path, backbone: Backbone, chosen: Mapping[str, Mapping[str, Any]], budget: int, cases: Mapping[str, int]
) -> None:
    """The settings chosen per editor, with the backbone's name and hash and the number of cases that the choice was
    made on, per editor too.
    """
    record = {
        "backbone": backbone.name,
        "hash": backbone.hash,
        "settings_tried": budget,
        "cases": dict(cases),
        "editors": dict(chosen),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def settings_auto(editor: str, backbone: Backbone, record: Path = RECORD) -> tuple[dict[str, Any] | None, str]:
    """Settings for `settings: auto` and where they come from: ("tuned" on this very backbone) or None, the paper's.

    Raises:
        InputError: if the record is not readable.
    """
    if not record.is_file():
        return None, "the paper's (no tuning record)"
    try:
        stored = json.loads(record.read_text(encoding="utf-8"))
        tuned, fits = stored["editors"].get(editor), stored["hash"] == backbone.hash
        cases = stored["cases"].get(editor)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(
            f"tuning record {record.name}", found=repr(error), expected="what the stage `tune` writes"
        ) from error
    if tuned is None or not fits:
        return None, "the paper's (not tuned on this backbone)"
    return dict(tuned), f"tuned on {cases} tuning cases"

"""Sweeps and the rule that chooses settings."""

import json

import pandas as pd
import pytest

from lib.core.errors import InputError
from lib.editors.registry import settings_for
from lib.editors.run import run_editor
from lib.metrics.sweep import grid, label_of, run_arm, run_arms, table_of
from lib.metrics.tuning import best_arm, settings_auto, tuning_score, write_record
from lib.stages.config import load_params, load_section
from tests.editors.analytic import Mixture, some_cases


def rows(arm: str, accuracy: float, preservation: float, nfe: float) -> list[dict]:
    values = {"attribute_accuracy": accuracy, "attribute_preservation": preservation, "nfe": nfe}
    return [
        {"case": case, "arm": arm, "seed": 0, "metric": metric, "value": value}
        for case in ("a", "b")
        for metric, value in values.items()
    ]


def test_grid_is_every_combination_in_order():
    assert grid({"a": [1, 2], "b": [3]}) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]
    assert label_of("flowedit", {"start": 0.5, "steps": 14}) == "flowedit start=0.5 steps=14"


def test_the_rule_is_accuracy_times_preservation_then_fewer_evaluations():
    table = pd.DataFrame(rows("bold", 1.0, 0.4, 10) + rows("dear", 0.8, 0.8, 40) + rows("good", 0.8, 0.8, 20))
    scores = tuning_score(table).set_index("arm")
    assert scores["score"].to_dict() == pytest.approx({"bold": 0.4, "dear": 0.64, "good": 0.64})
    assert best_arm(scores.reset_index()) == "good"


def test_what_nothing_protects_counts_as_preserved():
    alone = pd.DataFrame(rows("only", 0.5, float("nan"), 1))
    assert tuning_score(alone)["score"].item() == 0.5
    open_case = [row | {"case": "c"} for row in rows("only", 0.5, float("nan"), 1)[:3]]
    table = pd.DataFrame(rows("only", 0.8, 0.5, 1) + open_case)
    assert tuning_score(table)["score"].item() == pytest.approx((0.4 + 0.4 + 0.5) / 3)


def test_an_arm_is_the_editor_scored_with_its_evaluations():
    cases, backbone = some_cases(3), Mixture()
    arm = run_arm("sdedit", backbone, cases, {"steps": 3, "start": 0.9}, None, seeds=(0, 1))
    plain = run_editor("sdedit", backbone, cases, {"steps": 3, "start": 0.9}, seed=0)
    assert all(one.image.equal(other.image) for one, other in zip(arm.edited, plain, strict=True))
    assert {row["seed"] for row in arm.rows} == {0, 1}
    assert [row["value"] for row in arm.rows if row["metric"] == "nfe"] == [arm.nfe] * 6


def test_an_editor_without_noise_is_run_once_for_all_seeds():
    cases, backbone = some_cases(2), Mixture()
    with backbone.count() as spent:
        arm = run_arm("ode-inversion", backbone, cases, {"steps": 3}, None, seeds=(4, 7))
    assert spent.per_image(len(cases)) == arm.nfe
    of_seed = {seed: [row | {"seed": 0} for row in arm.rows if row["seed"] == seed] for seed in (4, 7)}
    assert of_seed[4] == of_seed[7]
    assert len(arm.rows) == 2 * len(of_seed[4])


def test_an_arm_says_how_far_its_pictures_are_from_their_sources():
    cases = some_cases(2)
    edited = run_arm("sdedit", Mixture(), cases, {"steps": 2}, None)
    moved = [row["value"] for row in edited.rows if row["metric"] == "l1_to_source"]
    pairs = zip(edited.edited, cases, strict=True)
    assert moved == pytest.approx([float((one.image - case.image).abs().mean()) for one, case in pairs])
    assert min(moved) > 0
    copied = run_arm("source-copy", Mixture(), cases, None, None).rows
    assert max(row["value"] for row in copied if row["metric"] == "l1_to_source") < 0.5 / 255  # 8 bits


def test_a_table_holds_all_arms_with_the_edit_type():
    cases, plan = some_cases(2), [("sdedit", {"steps": 2}), ("source-copy", None)]
    table = table_of(run_arms(plan, Mixture(), cases, None, labels=["one", "copy"]), cases)
    assert set(table["arm"]) == {"one", "copy"}
    assert table.groupby("case")["stratum"].first().to_dict() == {case.id: case.edit_type for case in cases}


def test_arms_may_have_seeds_of_their_own_and_equal_arms_share_those_of_the_first():
    papers = {"guidance": settings_for("sdedit").guidance}  # a default that is named changes nothing
    cases, backbone, own = some_cases(2), Mixture(), {"steps": 2, "start": 0.9}
    plan = [("sdedit", own), ("sdedit", {**own, "start": 0.5}), ("sdedit", own | papers), ("source-copy", None)]
    seeds = {"used": (0, 1, 2), "along": (0,), "used again": (0,), "copy": (0, 1)}
    with backbone.count() as spent:
        arms = run_arms(plan, backbone, cases, None, labels=list(seeds), seeds=seeds)
    found = {arm.label: {row["seed"] for row in arm.rows} for arm in arms}
    assert found == {"used": {0, 1, 2}, "along": {0}, "used again": {0, 1, 2}, "copy": {0, 1}}
    assert spent.per_image(len(cases)) == 3 * arms[0].nfe + arms[1].nfe


def test_settings_auto_takes_the_record_of_this_backbone_only(tmp_path):
    record, backbone = tmp_path / "tune" / "settings.json", Mixture()
    assert settings_auto("sdedit", backbone, record)[0] is None
    write_record(record, backbone, {"sdedit": {"start": 0.6}}, budget=6, cases={"sdedit": 60})
    assert settings_auto("sdedit", backbone, record) == ({"start": 0.6}, "tuned on 60 tuning cases")
    assert settings_auto("flowedit", backbone, record)[0] is None
    stored = json.loads(record.read_text()) | {"hash": "another"}
    record.write_text(json.dumps(stored))
    assert settings_auto("sdedit", backbone, record)[0] is None
    record.write_text("{")
    with pytest.raises(InputError, match="tuning record"):
        settings_auto("sdedit", backbone, record)


@pytest.mark.parametrize(("scale", "tries"), [("smoke", 2), ("default", 9), ("full", 9)])
def test_every_editor_that_is_compared_has_the_same_number_of_tries(scale: str, tries: int) -> None:
    sweeps = {editor: grid(load_section(f"sweeps/{editor}", scale=scale)) for editor in load_params()["sweeps"]}
    assert {len(settings) for settings in sweeps.values()} == {tries}
    assert {"lore", "kv-edit"} <= set(sweeps)
    for editor, settings in sweeps.items():
        for each in settings:
            settings_for(editor, each)  # names and ranges are the editor's

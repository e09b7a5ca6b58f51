"""Benchmarks as notebooks take them: the world as it is, another one from its folder at the model's size, by CLIP."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib.backbones.base import Backbone
from lib.backbones.load import load_backbone
from lib.bench.cases import EditCase
from lib.bench.export import export_cases
from lib.bench.local import LOCAL, local_cases
from lib.bench.world import world_cases
from lib.core.errors import InputError
from lib.metrics.sweep import run_arms, table_of
from lib.studio.evaluation import evaluation_on, fitting, judged
from lib.studio.lore_cases import local_evaluation

CLIP = "models/tiny-clip"


@pytest.fixture(scope="module")
def model() -> Backbone:
    return load_backbone("models/tiny-flux")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twenty edits of the world in PIE-Bench's layout, 512 pixels a side."""
    return str(export_cases(world_cases("test", 20), tmp_path_factory.mktemp("sets") / "pie"))


def test_the_world_is_judged_by_its_parser(model: Backbone) -> None:
    evaluation = evaluation_on("world", "", model, cases=3, clip="nobody/asks")
    for mine, own in zip(evaluation.cases, world_cases("test", 3), strict=True):
        assert (mine.id, mine.target_prompt, mine.extras) == (own.id, own.target_prompt, own.extras)
        assert torch.equal(mine.image, own.image)
    assert evaluation.world
    assert evaluation.clip is None
    assert evaluation.alignment == "attribute_accuracy"
    assert evaluation.says(0.5) == "50% of the wanted attributes right"
    assert evaluation.anchors(["source-copy", "ground-truth"]) == ["source-copy", "ground-truth"]


def test_another_benchmark_is_judged_by_clip_at_the_size_of_the_model(model: Backbone, folder: str) -> None:
    evaluation = evaluation_on("pie-bench", folder, model, cases=6, clip=CLIP)
    drawn = {case.id: case for case in world_cases("test", 20)}
    assert len(evaluation.cases) == 6
    for case in evaluation.cases:
        assert case.image.shape == (3, 64, 64)
        assert torch.equal(case.mask, drawn[case.id].mask)
        assert (case.image - drawn[case.id].image).abs().mean() < 0.05  # a JPEG, enlarged and shrunk
    assert not evaluation.world
    assert evaluation.metrics == ["clip_t", "background_psnr", "background_ssim"]
    assert evaluation.axis == ("clip_t", "CLIP similarity (higher: more edited)")
    assert evaluation.anchors(["source-copy", "ground-truth"]) == ["source-copy"]
    plan = {"copy": ("source-copy", None), "edit": ("sdedit", {"steps": 1})}
    arms = run_arms(list(plan.values()), model, evaluation.cases, None, clip=evaluation.clip, labels=list(plan))
    table = table_of(arms, evaluation.cases)
    assert table.groupby("arm")["metric"].value_counts()["edit", "clip_t"] == 6
    assert table.loc[table["metric"] == "clip_t", "value"].between(-1, 1).all()


def test_local_edits_for_lore_come_from_any_benchmark(model: Backbone, folder: str) -> None:
    evaluation = local_evaluation("pie-bench", folder, model, split="test", cases=1, clip=CLIP)
    assert sorted(case.edit_type for case in evaluation.cases) == sorted(LOCAL)
    for case in evaluation.cases:
        assert case.extras["target_object"] in case.target_prompt
        assert "source_object" in case.extras
    own = local_evaluation("world", "", model, split="test", cases=1, clip="")
    assert [case.id for case in own.cases] == [case.id for case in local_cases("test", 1)]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"mask": None}, "mask of case"),
        ({"source_prompt": None}, "source prompt of"),
        ({"edit_type": None}, "edit type"),
    ],
)
def test_a_case_that_lacks_something_is_named(model: Backbone, broken: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(fitting([replace(world_cases("test", 1)[0], **broken)], model))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda model, folder: evaluation_on("pie", folder, model), "benchmark"),
        (lambda model, folder: evaluation_on("pie-bench", "", model), "folder of benchmark"),
        (lambda model, folder: evaluation_on("world", folder, model), "folder of benchmark"),
        (lambda model, folder: evaluation_on("pie-bench", folder, model, cases=999), "number of cases"),
        (
            lambda model, folder: evaluation_on("pie-bench", folder, model, cases=2, clip="models/none"),
            "folder models/none",
        ),
    ],
)
def test_what_is_not_there_is_named(model: Backbone, folder: str, ask: Callable, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(model, folder)


def test_lore_needs_a_local_edit(model: Backbone, tmp_path: Path) -> None:
    whole: list[EditCase] = [case for case in world_cases("test", 20) if case.edit_type == 9]
    folder = export_cases(whole, tmp_path / "pie")
    with pytest.raises(InputError, match="local edit"):
        local_evaluation("pie-bench", str(folder), model, split="test", cases=1, clip=CLIP)


def test_a_judge_is_opened_by_its_benchmark(model: Backbone) -> None:
    assert judged([], "world", "", model).clip is None
    assert judged([], "photos", CLIP, model).clip.name == "tiny-clip"

"""Negative controls on edits of the world: what no score may prefer, through the judges that are shipped."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from lib.bench.cases import collate
from lib.bench.world import world_cases
from lib.core.paths import ROOT
from lib.metrics.identity import derangement
from lib.metrics.judges import WORLD, open_extractors
from lib.metrics.tables import NAMESPACES, aggregate, score_batch
from lib.stats.bootstrap import paired_difference

COUNT = 60
pytestmark = pytest.mark.skipif(
    not all((ROOT / folder).is_dir() for folder in WORLD.values()),
    reason="models/ is empty: python -m lib.stages fetch",
)


@pytest.fixture(scope="module")
def rows():
    """Scores of the right answers, the sources as they are, the right answers of other cases; and of the right answers
    under the prompts of other cases."""
    cases, judges = world_cases("test", COUNT), open_extractors(WORLD)
    truth, order = torch.stack([case.target_image for case in cases]), derangement(COUNT)
    prompts = [(cases[i].source_prompt, cases[i].target_prompt) for i in order]
    strange = [
        replace(case, source_prompt=before, target_prompt=after)
        for case, (before, after) in zip(cases, prompts, strict=True)
    ]
    batch = collate(cases)
    arms = {"truth": truth, "copy": batch.image, "shuffled outputs": truth[order]}
    found = []
    for space in NAMESPACES:
        for arm, images in arms.items():
            found += score_batch(batch, images, space, judges, arm=arm)
        found += score_batch(collate(strange), truth, space, judges, arm="shuffled prompts")
    return found


@pytest.fixture(scope="module")
def values(rows):
    """metric, arm -> a value for each case."""
    return pd.DataFrame(rows).pivot(index="case", columns=["metric", "arm"], values="value")


def assert_above(values, metric, first, second):
    """The first arm's mean is above the second's, by more than the cases' spread explains."""
    a, b = values[metric, first].to_numpy(), values[metric, second].to_numpy()
    found = paired_difference(a, b)
    assert found.low > 0, (metric, first, second, found)


CAPTIONS = ("pie_official/clip_similarity_target_image", "strict/clip_t")
BACKGROUND = ("strict/background_psnr", "strict/background_ssim", "pie_official/ssim_unedit_part")


@pytest.mark.parametrize("metric", [*CAPTIONS, "strict/clip_i", "strict/target_psnr", "strict/identity_target"])
def test_the_right_answer_beats_the_source_and_the_source_another_cases_answer(values, metric):
    assert_above(values, metric, "truth", "copy")
    assert_above(values, metric, "copy", "shuffled outputs")


@pytest.mark.parametrize(
    "metric", [*CAPTIONS, "strict/clip_crop", "pie_official/clip_similarity_target_image_edit_part"]
)
def test_other_prompts_lower_the_score_of_the_right_answer(values, metric):
    assert_above(values, metric, "truth", "shuffled prompts")
    assert_above(values, metric, "truth", "shuffled outputs")
    assert_above(values, metric, "truth", "copy")


def test_the_direction_is_that_of_the_edit(values):
    directional = values["strict/clip_directional"]
    assert directional["copy"].isna().all()  # no change has no direction
    for other in ("shuffled outputs", "shuffled prompts"):
        assert_above(values, "strict/clip_directional", "truth", other)
    assert directional["truth"].mean() > 0.7


@pytest.mark.parametrize("metric", BACKGROUND)
def test_the_background_is_kept_by_the_answer_and_the_copy_alike(values, metric):
    kept = values[metric][["truth", "copy"]].dropna()
    assert len(kept) > COUNT / 2
    assert (kept["truth"] - kept["copy"]).abs().max() < 1e-9
    assert_above(values, metric, "copy", "shuffled outputs")


def test_doing_nothing_is_not_flagged_as_an_edit(values):
    for metric in ("strict/over_edit_share", "strict/background_mse", "pie_official/mse_unedit_part"):
        assert values[metric]["copy"].max() == values[metric]["truth"].max() == 0
        assert_above(values, metric, "shuffled outputs", "copy")
    distance = values["strict/feature_distance"]
    assert distance["copy"].abs().max() < 1e-6
    assert_above(values, "strict/feature_distance", "truth", "copy")
    assert_above(values, "strict/feature_distance", "shuffled outputs", "truth")


def test_the_sanity_column_is_equal_for_all_arms(values):
    column = values["pie_official/clip_similarity_source_image"]
    assert column["truth"].equals(column["copy"])
    assert column["truth"].equals(column["shuffled outputs"])
    assert_above(values, "pie_official/clip_similarity_source_image", "truth", "shuffled prompts")


def test_a_copy_is_counted_as_infinite_by_the_official_psnr_alone(rows):
    found = aggregate(rows).set_index(["arm", "metric"])
    official = found.loc["copy", "pie_official/psnr_unedit_part"]
    assert official["infinite"] == official["n"] > 0
    assert found["infinite"].drop("pie_official/psnr_unedit_part", level="metric").sum() == 0


def test_what_the_judge_cannot_read_has_no_rows(rows):
    assert "strict/clipscore_hessel" not in {row["metric"] for row in rows}
    assert {row["extractor"] for row in rows} == {"", "tiny-clip", "identity-b"}

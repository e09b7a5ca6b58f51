import numpy as np
import pandas as pd
import pytest
import torch

from lib.learning.parser import HEADS, Parser, to_unit
from lib.studio.world import (
    accuracy_table,
    blurred,
    calibration_error,
    confusions,
    losses_by,
    readings,
    reliability,
    right_answers,
    split_table,
    spread,
    spread_figure,
)
from lib.world.edits import sample_edits
from lib.world.render import render_all
from lib.world.scenes import sample_scenes


def edits_of(edit_type):
    return [edit for edit in sample_edits("test", 60) if edit.edit_type == edit_type]


def table(confidence, right):
    read = ["cat" if hit else "dog" for hit in right]
    found = pd.DataFrame({"scene": range(len(right)), "kind": "object", "wanted": "cat", "read": read})
    return found.assign(confidence=confidence, right=right)


def test_every_composition_and_identity_is_in_one_split():
    found = split_table()
    assert found["identities"].to_dict() == {"train": 18, "tune": 2, "test": 4}
    assert (found["object × tint × background"] > 0).all()


def test_right_answers_differ_from_the_target_only_where_the_edit_may_change():
    for edit in edits_of(1):
        wanted, answers = to_unit(render_all([edit.target])), right_answers(edit, 6)
        near = torch.nn.functional.max_pool2d(torch.from_numpy(edit.mask())[None, None].float(), 13, 1, 6)[0] > 0
        assert not ((answers - wanted).abs() * ~near).any()
        assert (answers != wanted).any()


def test_a_style_edit_has_one_right_answer_and_a_background_edit_many():
    (style, *_), (ground, *_) = edits_of(9), edits_of(8)
    assert len(right_answers(style, 4).unique(dim=0)) == 1
    assert len(right_answers(ground, 4).unique(dim=0)) == 4


def test_spread_compares_with_the_same_target():
    found = spread(edits_of(9)[:2] + edits_of(1)[:2], draws=3)
    assert found["another right answer"][:2].min() > found["the untouched source"].max()  # one answer: equal pictures
    assert len(spread_figure(found).axes[0].lines) == 8


def test_readings_are_those_of_the_parser():
    parser, scenes = Parser(8).eval(), [*sample_scenes("test", 3), *sample_scenes("test", 2, objects=2)]
    images = to_unit(render_all(scenes))
    found, logits = readings(parser, images, scenes), parser(images)
    assert len(found) == sum(len(scene.attributes()) for scene in scenes)
    background = found[found["kind"] == "background"]
    assert background["read"].tolist() == [HEADS["background"][k] for k in logits["background"].argmax(1)]
    assert background["confidence"].to_numpy() == pytest.approx(
        logits["background"].softmax(1).amax(1).detach().numpy()
    )
    assert (found["right"] == (found["wanted"] == found["read"])).all()
    assert accuracy_table({"one": found}).loc["background", "one"].endswith("%")


def test_calibration_error_of_a_known_table():
    assert calibration_error(table([0.75] * 4, [True, True, True, False])) == pytest.approx(0)
    assert calibration_error(table([0.95] * 4, [True, False, True, False])) == pytest.approx(0.45)
    mixed = table([0.95, 0.95, 0.25, 0.25], [True, True, False, False])
    assert calibration_error(mixed) == pytest.approx((0.05 + 0.25) / 2)
    assert len(reliability({"one": mixed}).axes[0].collections) == 1


def test_confusions_count_and_share():
    found = confusions(table([0.9] * 4, [True, False, False, True]))
    assert found[["wanted", "read", "times", "share"]].to_numpy().tolist() == [["cat", "dog", 2, 0.5]]


def test_blur_keeps_the_mean_of_a_flat_picture_and_losses_are_means():
    flat = torch.full((1, 3, 8, 8), 0.25)
    assert torch.allclose(blurred(flat, 2), flat)
    scenes = [*sample_scenes("test", 20)]
    found = losses_by(np.arange(20.0), scenes, ["pattern"])
    assert (found["mean"] * found["size"]).sum() == pytest.approx(190)

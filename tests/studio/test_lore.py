"""What the notebooks on LORE measure, on a random tiny model; the cases they measure it on, from the world itself."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lib.backbones.base import Backbone
from lib.bench.cases import EditCase, collate
from lib.bench.local import local_cases
from lib.core.errors import InputError
from lib.core.noise import Noise
from lib.editors.lore import LORE, RECIPES, lore
from lib.editors.solvers import follow, midpoint
from lib.stats.paired import Difference
from lib.studio.lore import (
    Watch,
    attention_rows,
    compute_ratio,
    constant_rows,
    distance_rows,
    loss_curve,
    seed_std_rows,
    solver_rows,
    taylor,
)
from lib.studio.lore_cases import recipe_for, with_columns
from lib.studio.lore_figures import attention_figure, differences_figure, gap_figure, tracks

FEW = LORE(steps=2, inject=1, iterations=2)


def case(name: str = "a", *, source: str = "a cat", old: str | None = "cat", kind: int = 1) -> EditCase:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(ord(name[0])))
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, :16, :16] = True
    return EditCase(
        id=name,
        image=image,
        source_prompt=source,
        target_prompt="a dog",
        mask=mask,
        edit_type=kind,
        extras={"target_object": "dog", "source_object": old},
    )


def test_scores_get_the_ledgers_columns() -> None:
    cases = local_cases("test", 3)
    table = with_columns(constant_rows([cases[1], cases[9]], "lore", "m", 2.0), cases)
    assert table["gap"].fillna("").tolist() == ["middle", ""]
    assert table["stratum"].tolist() == [1, 2]
    assert table["image"].tolist() == [cases[0].extras["image"], cases[9].id]
    assert table["value"].tolist() == [2.0, 2.0]


def test_recipes_are_the_released_ones_in_proportion() -> None:
    for kind, name in ((1, "replace"), (2, "add"), (3, "remove"), (6, "replace")):
        assert LORE(**recipe_for(kind, LORE())) == RECIPES[name]
    assert recipe_for(1, LORE(steps=5, inject=4)) == {"steps": 10, "inject": 8, "renoise": 0.1, "iterations": 5}


# Attention


def test_watched_noise_is_what_the_editor_starts_from(flux: Backbone) -> None:
    settings = replace(FEW, values="none")
    batch = collate([case("a"), case("b")])
    watch = Watch(flux, batch, settings, seed=3)
    edited = lore(flux, batch, settings, noise=Noise(batch.ids, 3)).latents
    with torch.no_grad():
        target = flux.embed(batch.target_prompt, settings.target_guidance)
        again = midpoint(follow(flux, target), watch.optimised(), watch.times)
    assert torch.allclose(edited, again, atol=1e-5)
    made = watch.noises()
    outside = (watch.inside == 0).expand_as(made.inverted)
    assert torch.equal(made.optimised[outside], made.inverted[outside])
    assert not torch.equal(made.fresh[~outside], made.renoised[~outside])


def test_the_source_word_under_its_own_prompt_is_the_same_measure(flux: Backbone) -> None:
    same = replace(case(source="a dog"), extras={"target_object": "dog", "source_object": "dog"})
    watch = Watch(flux, collate([same, case("b", old=None, source="background")]), FEW)
    inverted = watch.attention(watch.noises().inverted)
    own = watch.source_attention()
    assert own[0] == pytest.approx(inverted[0], abs=1e-6)
    assert np.isnan(own[1])


def test_attention_rows_hold_every_stage_of_every_case_and_seed(flux: Backbone) -> None:
    three = [case("a"), case("b"), case("c")]
    rows = attention_rows(flux, three, FEW, seeds=[0, 5], batch_size=2)
    assert not rows.duplicated(["case", "arm", "seed", "metric"]).any()
    assert rows.groupby(["arm", "metric"]).size().to_dict() == {
        ("fresh-noise", "in_mask_attention"): 6,
        ("inverted-noise", "in_mask_attention"): 6,
        ("lore", "in_mask_attention"): 6,
        ("lore", "latent_change"): 6,
        ("lore-no-optimisation", "in_mask_attention"): 6,
        ("source-word", "in_mask_attention"): 6,
    }
    moved = rows.loc[rows["metric"] == "latent_change", "value"]
    assert moved.between(1e-4, 1.01 * FEW.iterations * FEW.learning_rate).all()
    attention = rows[rows["metric"] == "in_mask_attention"]
    assert attention["value"].between(0, 1).all()
    by_seed = attention.pivot(index=["arm", "case"], columns="seed", values="value")
    differs = (by_seed[0] != by_seed[5]).groupby("arm").all()
    assert differs[differs].index.tolist() == ["fresh-noise", "lore", "lore-no-optimisation"]
    assert not (by_seed[0] != by_seed[5]).loc[["inverted-noise", "source-word"]].any()
    alone = attention_rows(flux, three, FEW, seeds=[5], batch_size=2)
    both = rows[rows["seed"] == 5].merge(alone, on=["case", "arm", "seed", "metric"])
    assert both["value_x"].to_numpy() == pytest.approx(both["value_y"].to_numpy(), abs=1e-6)


def test_the_loss_falls_from_that_of_renoised_noise(flux: Backbone) -> None:
    two = [case("a"), case("b")]
    curve = loss_curve(flux, two, FEW, [0, 3]).pivot(index="case", columns="iterations", values="loss")
    watch = Watch(flux, collate(two), FEW)
    assert curve[0].tolist() == pytest.approx([1 - value for value in watch.attention(watch.renoised())], abs=1e-6)
    assert (curve[3] < curve[0]).all()


def test_a_replacement_by_itself_is_at_no_distance(flux: Backbone) -> None:
    named = {"target_object": "cat", "source_object": "cat"}
    other = case("a")
    same = replace(case("b"), extras=named, target_image=case("b").image)
    inside, outside = case("d").image.clone(), case("d").image.clone()
    inside[:, :12, :12], outside[:, 20:, 20:] = 0, 0
    moved = [replace(case(name), image=case("d").image, extras=named) for name in ("d", "e")]
    moved = [replace(one, target_image=image) for one, image in zip(moved, (inside, outside), strict=True)]
    cases = [replace(other, target_image=1 - other.image), same, *moved, case("c", kind=2)]
    rows = distance_rows(flux, cases, "fresh-noise", seeds=[0, 1])
    assert rows["seed"].value_counts().to_dict() == {0: 8, 1: 8}
    found = rows[rows["seed"] == 1].pivot(index="case", columns="metric", values="value")
    assert found.index.tolist() == ["a", "b", "d", "e"]
    assert found.loc["b"].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert (found.loc["a"] > 1e-4).all()
    assert found.loc["d", "visual_distance"] > 1.5 * found.loc["e", "visual_distance"]


# Solvers, cost, spread


def test_the_taylor_step_is_the_midpoint_rule() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, generator=draw, dtype=torch.float64)
    matrix = torch.randn(4, 4, generator=draw, dtype=torch.float64)
    times = torch.tensor([1.0, 0.7, 0.3, 0.0], dtype=torch.float64)

    def field(y: torch.Tensor, t: torch.Tensor, interval: int, stage: str) -> torch.Tensor:
        return torch.sin(y @ matrix) * (1 + t)

    assert torch.allclose(taylor(field, x, times), midpoint(field, x, times), atol=1e-12)


def test_solvers_are_checked_on_every_case(flux: Backbone) -> None:
    rows = (
        solver_rows(flux, [case("a"), case("b"), case("c")], 2, batch_size=2)
        .set_index(["arm", "metric", "case"])
        .sort_index()
    )
    errors = rows.loc[("rf-solver", "identity_error"), "value"]
    assert len(errors) == 3
    assert (errors < 1e-4).all()
    for arm in ("fireflow", "ode-inversion"):
        assert rows.loc[(arm, "reconstruction_psnr"), "value"].between(0, 60).all()


def test_the_cost_is_that_of_the_brief(flux: Backbone) -> None:
    latents = flux.encode(case().image[None])
    assert compute_ratio(flux, latents, backward=1.0) == pytest.approx(100 / 60)
    assert compute_ratio(flux, latents) == pytest.approx(120 / 60)


def test_the_spread_over_seeds_is_per_case() -> None:
    values = [("a", 0, 0.0), ("a", 1, 1.0), ("b", 0, 0.5), ("b", 1, 0.5)]
    table = pd.DataFrame(values, columns=["case", "seed", "value"]).assign(arm="lore", metric="attribute_accuracy")
    rows = seed_std_rows(table, ["lore"])
    assert rows["value"].tolist() == pytest.approx([0.5**0.5, 0.0])
    assert rows["metric"].unique().tolist() == ["seed_std"]
    with pytest.raises(InputError, match="at least 2"):
        seed_std_rows(table[table["seed"] == 0], ["lore"])


# Figures


def test_both_tracks_have_a_panel_and_masked_anchors_only_one() -> None:
    arms = ["sdedit", "lore@renoise=0", "lore@renoise=0.9", "pixel-paste", "source-copy"]
    rows = [(arm, metric, 0.5, 0.4, 0.6) for arm in arms for metric in ("background_psnr", "attribute_accuracy")]
    summary = pd.DataFrame(rows, columns=["arm", "metric", "value", "low", "high"])
    table = pd.DataFrame(
        [(case, arm, 0, metric, value, 0) for arm, metric, *_ in rows for case, value in (("a", 0.4), ("b", 0.6))],
        columns=["case", "arm", "seed", "metric", "value", "stratum"],
    )
    figure = tracks(summary, table, {"sdedit": ["sdedit"]}, {"lore": arms[1:3]}, arms[3:])
    free, given = figure.axes
    named = [[text.get_text() for text in axes.texts] for axes in (free, given)]
    assert named == [["source-copy"], ["pixel-paste", "source-copy"]]
    assert [axes.get_legend().get_texts()[0].get_text() for axes in (free, given)] == ["sdedit", "lore"]


def test_attention_is_drawn_per_stage_and_per_iteration() -> None:
    arms = ("source-word", "fresh-noise", "inverted-noise", "lore-no-optimisation", "lore")
    rows = [(name, arm, 0, "in_mask_attention", 0.1) for arm in arms for name in "ab"]
    table = pd.DataFrame(rows, columns=["case", "arm", "seed", "metric", "value"])
    curve = pd.DataFrame([(n, k, 0.9) for n in "ab" for k in (0, 2)], columns=["case", "iterations", "loss"])
    left, right = attention_figure(table, curve).axes
    assert len(left.get_xticklabels()) == 5
    assert len(right.lines) == 3


def test_gaps_are_drawn_per_bin() -> None:
    names = ["a", "b", "c"]
    table = pd.DataFrame(
        {"case": names, "arm": "lore", "seed": 0, "metric": "attribute_accuracy", "value": [1.0, 0.5, 0.0]}
    )
    table = table.assign(gap=["near", "middle", "far"])
    series = pd.Series([0.1, 0.2, 0.3], index=names)
    left, right = gap_figure(table, ["lore"], series, series).axes
    assert left.lines[0].get_ydata().tolist() == [1.0, 0.5, 0.0]
    assert sorted(line.get_xdata()[0] for line in right.lines[:3]) == pytest.approx([0.1, 0.2, 0.3])


def test_differences_are_filled_where_they_leave_zero_out() -> None:
    found = {"m": {"told": Difference(1.0, 0.5, 1.5, 0.01, 9), "open": Difference(0.1, -0.5, 0.7, 0.6, 9)}}
    (axes,) = differences_figure(found, {"m": "measure"}, "LORE").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["told", "open"]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, True]

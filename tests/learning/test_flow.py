"""Flow matching's pieces, and the whole training at a handful of steps."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from lib.learning import flow
from lib.learning.flow import Corpus, FlowTraining, corpus, held_out_loss, touched_tokens, train
from lib.learning.flow_objective import guided, noise_levels, tokens
from lib.learning.flux_model import pack
from lib.learning.training import step_generator
from lib.world.language import caption
from lib.world.scenes import Scene, Thing, sample_scenes

# The blocks' norms keep their float32 weights under autocast, as they should.
pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight:UserWarning")

FEW = FlowTraining(singles=1, pairs=2, focused=3, distilled=5, single_scenes=10, pair_scenes=6, batch=4)
PROMPTS = ["a big red cat on the left of a plain blue background", "a small pizza on a dotted pink background"]


def test_noise_levels_stay_in_range_and_reach_its_ends():
    levels = noise_levels(20000, step_generator(0, 0))
    assert levels.shape == (20000,)
    assert 1e-3 <= levels.min() < 0.02
    assert 0.98 < levels.max() <= 1.0
    assert 0.5 < levels.median() < 0.65  # leans towards noise
    assert torch.equal(levels, noise_levels(20000, step_generator(0, 0)))


@pytest.fixture(scope="module")
def inputs():
    draw = torch.Generator().manual_seed(6)
    return torch.randn(2, 64, 64, generator=draw), torch.tensor([0.9, 0.2]), tokens(PROMPTS), tokens([""])


def test_guidance_one_is_the_conditional_velocity(tiny_flux, inputs):
    x, t, ids, null = inputs
    conditional = tiny_flux(x, t, *tiny_flux.embed(*ids), torch.ones(2))
    torch.testing.assert_close(guided(tiny_flux, *inputs, torch.ones(2)), conditional, rtol=1e-4, atol=1e-5)
    nothing = [each.expand(2, -1) for each in null]
    unconditional = tiny_flux(x, t, *tiny_flux.embed(*nothing), torch.ones(2))
    torch.testing.assert_close(guided(tiny_flux, *inputs, torch.zeros(2)), unconditional, rtol=1e-4, atol=1e-5)
    assert (conditional - unconditional).abs().max() > 1e-3


def test_guidance_is_linear_in_its_scale_and_each_row_has_its_own(tiny_flux, inputs):
    at = {w: guided(tiny_flux, *inputs, torch.full((2,), float(w))) for w in (1, 2, 7)}
    torch.testing.assert_close(at[7], at[1] + 6 * (at[2] - at[1]), rtol=1e-4, atol=1e-4)
    mixed = guided(tiny_flux, *inputs, torch.tensor([2.0, 7.0]))
    assert torch.equal(mixed, torch.stack([at[2][0], at[7][1]]))


@pytest.fixture(scope="module")
def data(tiny_vae, tmp_path_factory) -> Corpus:
    return corpus(tmp_path_factory.mktemp("corpus"), tiny_vae, FEW)


def test_the_corpus_is_the_training_scenes_in_order(data):
    scenes = [*sample_scenes("train", 10), *sample_scenes("train", 6, objects=2)]
    assert data.latents.shape == (16, 16, 16, 16)
    clip_ids, t5_ids = tokens([caption(scene) for scene in scenes])
    assert torch.equal(data.clip_ids[:, 0].long(), clip_ids)  # the first caption of each is complete
    assert torch.equal(data.t5_ids[:, 0].long(), t5_ids)
    assert not torch.equal(data.t5_ids[:, 0], data.t5_ids[:, 1])
    assert data.singles == 10


def test_the_corpus_is_made_once(tiny_vae, tmp_path, monkeypatch):
    made = corpus(tmp_path, tiny_vae, FEW)
    monkeypatch.setattr(flow, "render_all", None)
    again = corpus(tmp_path, tiny_vae, FEW)
    assert torch.equal(made.latents, again.latents)
    assert [file.name for file in tmp_path.iterdir()] == ["corpus.safetensors"]


def test_a_batch_mixes_as_told(data):
    def rows_of(x: torch.Tensor) -> list[int]:
        packed = pack(data.latents.float())
        return [int((packed == row).all(dim=(1, 2)).nonzero()) for row in x]

    x, clip_ids, t5_ids, _ = data.batch(40, step_generator(0, 1), pair_share=0.25, drop=0.0)
    rows = rows_of(x)
    assert [row >= 10 for row in rows] == [False] * 30 + [True] * 10
    for row, clip_row, t5_row in zip(rows, clip_ids, t5_ids, strict=True):
        said = [torch.equal(clip_row, c.long()) and torch.equal(t5_row, t.long()) for c, t in zip(
            data.clip_ids[row], data.t5_ids[row], strict=True)]  # fmt: skip
        assert any(said)  # both encoders hear the same caption, one of this scene's
    assert set(rows_of(data.batch(40, step_generator(0, 2), pair_share=0.0, drop=0.0)[0])) <= set(range(10))


def test_the_empty_prompt_takes_the_share_it_is_given(data):
    null_clip, null_t5 = tokens([""])
    for drop, low, high in ((0.0, 0, 0), (0.3, 0.2, 0.4), (1.0, 1, 1)):
        _, clip_ids, t5_ids, _ = data.batch(400, step_generator(0, 3), pair_share=0.4, drop=drop)
        empty = (clip_ids == null_clip).all(1)
        assert torch.equal(empty, (t5_ids == null_t5).all(1))
        assert low <= empty.float().mean() <= high


def test_the_weight_lies_on_objects_that_a_complete_caption_places(data):
    complete = {tuple(row.tolist()) for row in data.t5_ids[:, 0].long()}
    _, _, t5_ids, placed = data.batch(200, step_generator(0, 4), pair_share=0.4, drop=0.3)
    for ids, tokens_with_object in zip(t5_ids, placed, strict=True):
        if tuple(ids.tolist()) not in complete:
            assert not tokens_with_object.any()
    assert 0.2 < placed.any(1).float().mean() < 0.6  # half of the rows that have a prompt, about 0.35
    scene = Scene((Thing("cat", size="small", place="left"),), "red")
    grid = touched_tokens(scene).reshape(8, 8)
    assert grid[:, :4].any()
    assert not grid[:, 5:].any()


def test_a_corpus_without_pairs_gives_single_objects(data):
    alone = replace(data, latents=data.latents[:10], touched=data.touched[:10])
    assert len(alone.batch(8, step_generator(0, 5), pair_share=0.0, drop=0.0)[0]) == 8


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module", autouse=True)
def adamw_alone():
    """Muon has tests of its own; its bfloat16 products are slow on many CPUs."""

    def adamw(modules, *, muon_lr: float, adamw_lr: float) -> list[torch.optim.Optimizer]:
        weights = [weight for module in modules.values() for weight in module.parameters()]
        return [torch.optim.AdamW(weights, lr=adamw_lr)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "muon_and_adamw", adamw)
        yield


@pytest.fixture(scope="module")
def trained(tiny_vae, tmp_path_factory):
    """(student, teacher) of an undisturbed training."""
    student, teacher, seconds = train(tmp_path_factory.mktemp("undisturbed"), tiny_vae, FEW)
    assert seconds > 0
    return student, teacher


def test_training_trains(trained, tiny_vae):
    student, teacher = map(weights, trained)
    fresh = weights(flow.TinyFlux())
    assert student.keys() == teacher.keys() == fresh.keys()
    assert all(value.isfinite().all() for value in student.values())
    assert not equal(student, teacher)
    assert not any(parameter.requires_grad for parameter in trained[0].parameters())
    loss = held_out_loss(trained[0], tiny_vae, count=4)
    assert 0 < loss < 10
    assert loss == held_out_loss(trained[0], tiny_vae, count=4)


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch, training: Callable[[], object]) -> None:
    """Run a training, killed when it begins the step after `steps` more."""
    calls = 0

    def levels(count: int, draw: torch.Generator) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > steps:
            raise KeyboardInterrupt
        return noise_levels(count, draw)

    with monkeypatch.context() as patch:
        patch.setattr(flow, "noise_levels", levels)
        with pytest.raises(KeyboardInterrupt):
            training()


@pytest.mark.parametrize("phase", ["flow", "distillation"])
@pytest.mark.usefixtures("save_each_step")
def test_a_killed_training_ends_where_an_undisturbed_one_does(phase, trained, tiny_vae, tmp_path, monkeypatch):
    last = {"flow": 1, "distillation": 4}[phase]  # steps that are done before the kill
    stop_after(last, monkeypatch, lambda: train(tmp_path, tiny_vae, FEW))
    assert [*tmp_path.glob(f"{phase}*/checkpoint.safetensors")]
    student, teacher, _ = train(tmp_path, tiny_vae, FEW)
    assert equal(weights(teacher), weights(trained[1]))
    assert equal(weights(student), weights(trained[0]))


def test_a_longer_flow_is_distilled_anew(trained, tiny_vae, tmp_path):
    train(tmp_path, tiny_vae, FEW)
    longer = replace(FEW, focused=4, distilled=6)  # both may change without starting afresh
    student, teacher, _ = train(tmp_path, tiny_vae, longer)
    assert not equal(weights(teacher), weights(trained[1]))
    assert not equal(weights(student), weights(trained[0]))


AGAIN = replace(FEW, resumed=8, retaught=10)


@pytest.fixture(scope="module")
def resumed(tiny_vae, tmp_path_factory):
    """(student, teacher) of an undisturbed training in two sittings."""
    return train(tmp_path_factory.mktemp("two-sittings"), tiny_vae, AGAIN)[:2]


def test_a_second_sitting_begins_with_what_the_first_shipped(trained, resumed, tiny_vae, tmp_path, monkeypatch):
    train(tmp_path, tiny_vae, FEW)
    begun = []

    def flow_run(scratch, model, settings):
        begun.append((scratch.name, weights(model)))
        return unpatched(scratch, model, settings)

    unpatched = flow.flow_run
    monkeypatch.setattr(flow, "flow_run", flow_run)
    student, teacher, _ = train(tmp_path, tiny_vae, AGAIN)  # goes on where one sitting ended
    shipped = {name: value.to(torch.bfloat16).float() for name, value in weights(trained[0]).items()}
    assert [name.split("-")[0] for name, _ in begun] == ["flow", "flow"]
    assert equal(begun[1][1], shipped)
    assert equal(weights(teacher), weights(resumed[1]))
    assert equal(weights(student), weights(resumed[0]))
    assert not equal(weights(teacher), shipped)
    assert not equal(weights(student), weights(teacher))
    assert not any(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize("last", [1, 4], ids=["flow", "distillation"])
@pytest.mark.usefixtures("save_each_step")
def test_a_killed_second_sitting_ends_where_an_undisturbed_one_does(last, resumed, tiny_vae, tmp_path, monkeypatch):
    train(tmp_path, tiny_vae, FEW)
    stop_after(last, monkeypatch, lambda: train(tmp_path, tiny_vae, AGAIN))
    student, teacher, _ = train(tmp_path, tiny_vae, AGAIN)
    assert equal(weights(teacher), weights(resumed[1]))
    assert equal(weights(student), weights(resumed[0]))

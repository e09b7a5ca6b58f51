"""A run of a tiny module: what a kill, a resume and a longer run must not change."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lib.core.errors import InputError
from lib.learning import training
from lib.learning.flux_model import TinyFlux
from lib.learning.training import Run, muon_and_adamw, step_generator, stream_seed, warm_stable_decay

STEPS = 12


class Killed(Exception):
    """Stands for kill -9."""


def new_run(scratch: Path, **options) -> Run:
    """A module with a matrix for Muon, the rest for AdamW, and a buffer that is no float (of the batch norm)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    scratch.mkdir(exist_ok=True)
    modules = {"blocks": model[0], "rest": nn.ModuleList(model[1:])}
    return Run(scratch, model, muon_and_adamw(modules, muon_lr=0.05, adamw_lr=0.02), **options)


def train(scratch: Path, total: int = STEPS, *, die_at: int | None = None, schedule: int | None = None) -> Run:
    """Train to the end; every third step is saved."""
    run = new_run(scratch, ema_decay=0.8)
    for step in run.steps(total, "tiny", save_every=3):
        if step == die_at:
            raise Killed
        draw = step_generator(3, step)
        x, y = torch.randn(5, 6, generator=draw), torch.randn(5, 2, generator=draw)
        run.update((run.model(x) - y).square().mean(), warm_stable_decay(step, schedule or total, warm=3))
        run.note(step_was=step)
    return run


def everything(run: Run) -> dict[str, torch.Tensor]:
    """All that a run is: weights, average, optimiser states, by name."""
    found = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    found |= {f"ema.{name}": value for name, value in run.ema.items()}
    for i, optimizer in enumerate(run.optimizers):
        for j, state in optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{i}.{j}.{name}": torch.as_tensor(value) for name, value in state.items()}
    return {name: value.clone() for name, value in found.items()} | {"step": torch.tensor(run.step)}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        assert torch.equal(value, other[name]), name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return everything(train(tmp_path_factory.mktemp("undisturbed")))


def test_a_killed_run_ends_where_an_undisturbed_one_does(tmp_path, undisturbed):
    for die_at in (2, 7, 11):  # before the first checkpoint, between two, before the last step
        with pytest.raises(Killed):
            train(tmp_path, die_at=die_at)
    assert new_run(tmp_path).step == 9
    assert_same(everything(train(tmp_path)), undisturbed)


def test_a_half_written_checkpoint_is_passed_over(tmp_path, undisturbed):
    (tmp_path / "checkpoint.part").write_bytes(b"half a file")
    with pytest.raises(Killed):
        train(tmp_path, die_at=1)
    assert new_run(tmp_path).step == 0
    with pytest.raises(Killed):
        train(tmp_path, die_at=8)
    (tmp_path / "checkpoint.part").write_bytes(b"half a file")
    assert_same(everything(train(tmp_path)), undisturbed)
    assert not (tmp_path / "checkpoint.part").exists()


@pytest.mark.parametrize("dies", ["save_file", "replace"])
def test_a_kill_while_saving_leaves_the_checkpoint_before_it(tmp_path, undisturbed, monkeypatch, dies):
    with pytest.raises(Killed):
        train(tmp_path, die_at=4)

    def dying(first: object, second: Path, *_: object) -> None:
        (second if dies == "save_file" else first).write_bytes(b"half a file")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training if dies == "save_file" else training.os, dies, dying)
        with pytest.raises(Killed):
            train(tmp_path)
    assert new_run(tmp_path).step == 3
    assert_same(everything(train(tmp_path)), undisturbed)


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_a_flipped_byte_in_a_checkpoint_is_seen(tmp_path, undisturbed):
    with pytest.raises(Killed):
        train(tmp_path, die_at=8)
    file = tmp_path / "checkpoint.safetensors"
    whole = file.read_bytes()
    head = int.from_bytes(whole[:8], "little")
    about, name, shape = (whole.index(part) for part in (rb"\"step\": 6", b'"ema/0.weight"', b'"shape":[8'))
    inside = (head + 8, head + 8 + (len(whole) - head) // 2, len(whole) - 1)
    for place in (0, 9, about + 10, name + 5, shape + 9, *inside):  # of the head: its length, names, the step
        flip(file, place)
        with pytest.raises(InputError, match=r"checkpoint\.safetensors: found damaged weights \(.*removing it begins"):
            new_run(tmp_path)
        flip(file, place)
    assert_same(everything(train(tmp_path)), undisturbed)


def test_a_checkpoint_without_a_hash_is_refused_and_one_removed_begins_anew(tmp_path, undisturbed):
    run = train(tmp_path, 3)
    save_file(load_file(run.file), run.file, {"run": '{"step": 3, "seconds": 0.0}'})
    with pytest.raises(InputError, match=r"found damaged weights .*sha256"):
        new_run(tmp_path)
    run.file.unlink()
    assert_same(everything(train(tmp_path)), undisturbed)


def test_a_finished_run_does_nothing_more(tmp_path, undisturbed):
    run = train(tmp_path)
    stamp, seconds = run.file.stat().st_mtime_ns, run.seconds
    again = train(tmp_path)
    assert_same(everything(again), undisturbed)
    assert (again.file.stat().st_mtime_ns, again.seconds) == (stamp, seconds)
    assert seconds > 0


def test_a_longer_run_continues_a_shorter_one_that_has_not_begun_to_decay(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path / "short", 12, die_at=7)  # saved at step 6; the decay begins at step 9
    assert_same(everything(train(tmp_path / "short", 24)), everything(train(tmp_path / "long", 24)))


def test_the_schedule_does_not_depend_on_the_total_before_the_decay():
    for step in range(700):
        assert warm_stable_decay(step, 1000) == warm_stable_decay(step, 5000) == min(1, (step + 1) / 200)
    assert warm_stable_decay(710, 1000) < warm_stable_decay(710, 5000) == 1
    tail = [warm_stable_decay(step, 1000) for step in range(700, 1000)]
    assert tail == pytest.approx([(1000 - step) / 300 for step in range(700, 1000)])
    assert all(0 < warm_stable_decay(step, 1) <= 1 for step in [0])


def test_steps_follow_the_learning_rate(tmp_path):
    run = new_run(tmp_path)
    x = torch.randn(5, 6, generator=step_generator(0, 0))
    for factor in (0.25, 1.0):
        run.update(run.model(x).square().mean(), factor)
        rates = [group["lr"] for optimizer in run.optimizers for group in optimizer.param_groups]
        assert rates == [0.05 * factor, 0.02 * factor]


def test_gradients_are_clipped(tmp_path):
    run = new_run(tmp_path)
    run.update(1e6 * run.model(torch.ones(5, 6)).square().mean(), 1.0, clip=0.5)
    norm = torch.stack([p.grad.norm() for p in run.model.parameters()]).norm()
    assert norm == pytest.approx(0.5, rel=1e-4)


def test_a_checkpoint_brings_back_the_states_of_muon_and_adamw(tmp_path):
    run = train(tmp_path, 3)
    kinds = [type(optimizer) for optimizer in run.optimizers]
    assert kinds == [torch.optim.Muon, torch.optim.AdamW]
    names = [{name for state in o.state_dict()["state"].values() for name in state} for o in run.optimizers]
    assert names == [{"momentum_buffer"}, {"step", "exp_avg", "exp_avg_sq"}]
    again = new_run(tmp_path, ema_decay=0.8)
    assert_same(everything(again), everything(run))
    assert [o.state_dict()["param_groups"][0].keys() for o in again.optimizers] == [
        o.state_dict()["param_groups"][0].keys() for o in run.optimizers
    ]


def test_the_moving_average_is_that_of_a_plain_loop(tmp_path):
    run = new_run(tmp_path, ema_decay=0.6)
    names = [name for name, value in run.ema.items() if value.is_floating_point()]
    average = {name: run.model.state_dict()[name].clone() for name in names}
    for step in range(25):
        run.update(run.model(torch.randn(5, 6, generator=step_generator(1, step))).square().mean(), 1.0)
        decay = min(0.6, (step + 1) / (step + 11))
        for name in names:
            average[name] = torch.lerp(average[name], run.model.state_dict()[name], 1 - decay)
    assert {"1.running_mean", "3.bias"} <= set(names)
    for name in names:
        assert torch.equal(run.ema[name], average[name]), name
        assert not torch.equal(run.ema[name], run.model.state_dict()[name]), name


def test_the_model_is_averaged_for_a_block_only(tmp_path):
    run = train(tmp_path)
    own = {name: value.clone() for name, value in run.model.state_dict().items()}
    with pytest.raises(Killed), run.averaged() as model:
        assert all(torch.equal(value, run.ema[name]) for name, value in model.state_dict().items())
        assert not torch.equal(model.state_dict()["0.weight"], own["0.weight"])
        raise Killed
    assert all(torch.equal(value, own[name]) for name, value in run.model.state_dict().items())


def test_the_log_has_a_line_per_note(tmp_path):
    train(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": step + 1, "step_was": step} for step in range(STEPS)]


def test_each_step_has_a_stream_of_its_own():
    first = [torch.rand((), generator=step_generator(0, step)).item() for step in range(1000)]
    assert first == [torch.rand((), generator=step_generator(0, step)).item() for step in range(1000)]
    assert len(set(first)) > 990


def test_each_seed_has_streams_of_its_own():
    def first(seed: int, step: int) -> float:
        return torch.rand((), generator=step_generator(seed, step)).item()

    assert len({first(seed, step) for seed in range(10) for step in range(10)}) == 100
    assert len({stream_seed(seed, 7, stream) for seed in range(1, 10) for stream in ("", "scenes", "other")}) == 27
    assert all(0 <= stream_seed(seed, step) < 2**32 for seed in (-1, 1, 2**40) for step in range(10))
    assert stream_seed(1, 0, "scenes") == 2944012891  # the same on every machine


@pytest.mark.parametrize("stream", ["", "distillation", "identity-a"])
def test_seed_0_has_the_streams_that_the_shipped_weights_were_trained_with(stream):
    for step in (0, 1, 500, 14999):
        draw = step_generator(0, step, stream)
        assert draw.initial_seed() == stream_seed(0, step, stream) == step
        was = torch.Generator().manual_seed((2 << 40) + step)  # as every seed had once
        assert torch.equal(torch.randn(40, generator=draw), torch.randn(40, generator=was))


def test_every_weight_of_tiny_flux_has_one_optimiser():
    model = TinyFlux()
    muon, adamw = muon_and_adamw(model.modules_by_optimiser(), muon_lr=1.0, adamw_lr=1.0)
    held = [id(p) for o in (muon, adamw) for group in o.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters()}
    matrices = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in matrices}
    assert all(p.ndim == 2 for group in muon.param_groups for p in group["params"])
    assert "transformer.single_transformer_blocks.0.attn.to_q.weight" in names
    assert not any("embed_tokens" in name or "shared" in name or "x_embedder" in name for name in names)

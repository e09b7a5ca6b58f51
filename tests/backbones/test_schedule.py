"""Noise levels, and whole sampling loops against the pipelines' own."""

from itertools import pairwise

import pytest
import torch

from lib.backbones.base import Backbone
from lib.backbones.load import load_backbone
from lib.core.errors import InputError
from tests import tiny

SQUARE_1024 = torch.empty(1, 16, 128, 128, device="meta")  # 4096 tokens


@pytest.fixture(scope="module")
def sd3_double(sd3_folder) -> Backbone:
    return load_backbone(sd3_folder, device="cpu", double_shift=True)


def test_flux_levels_at_1024_pixels(flux: Backbone):
    times = flux.times(28, like=SQUARE_1024)
    assert (times.shape, times.dtype, times.device.type) == ((29,), torch.float32, "cpu")
    assert times[:5].tolist() == pytest.approx([1, 0.9884, 0.9762, 0.9634, 0.9499], abs=5e-5)
    assert times[-3:].tolist() == pytest.approx([0.1955, 0.1047, 0], abs=5e-5)


def test_flux_levels_depend_on_the_image_size(flux: Backbone):
    small = flux.times(28, like=torch.empty(1, 4, 16, 16))  # 64 tokens
    assert small[4].item() == pytest.approx(0.905, abs=5e-4)
    shift = torch.tensor(0.5 + (64 - 256) * 0.65 / 3840).exp()
    plain = torch.linspace(1, 1 / 28, 28)
    assert torch.allclose(small[:-1], shift / (shift + 1 / plain - 1), atol=1e-6)


def test_flux_needs_the_image_size(flux: Backbone):
    with pytest.raises(InputError, match="no image size"):
        flux.times(4)


def test_sd3_levels(sd3: Backbone, sd3_double: Backbone):
    once, twice = sd3.times(50), sd3_double.times(50)
    assert len(once) == len(twice) == 51
    assert twice[17].item() == pytest.approx(0.8501, abs=5e-5)
    assert twice[-2].item() == pytest.approx(0.0089, abs=5e-5)
    assert once[-2].item() == pytest.approx(0.0030, abs=5e-5)
    plain = torch.linspace(1, 0.001, 50)
    assert torch.allclose(once[:-1], 3 * plain / (1 + 2 * plain), atol=1e-6)


def test_double_shift_is_for_sd3_alone(flux_folder):
    with pytest.raises(InputError, match="double_shift"):
        load_backbone(flux_folder, device="cpu", double_shift=True)


def test_times_are_cut_at_the_start(backbone: Backbone):
    like = torch.empty(1, 4, 8, 8)
    whole = backbone.times(10, like=like)
    assert torch.all(whole.diff() < 0)
    between = backbone.times(10, start=0.7, like=like)
    assert between[0].item() == pytest.approx(0.7, abs=1e-7)
    assert torch.equal(between[1:], whole[whole < 0.7])
    on_a_level = backbone.times(10, start=whole[3].item(), like=like)
    assert torch.equal(on_a_level, whole[3:])
    below_all = backbone.times(10, start=1e-4, like=like)
    assert below_all.tolist() == pytest.approx([1e-4, 0])
    assert backbone.times(1, like=like).tolist() == [1, 0]


@pytest.mark.parametrize(("steps", "start"), [(0, 1.0), (4, 0.0), (4, 1.5), (4, float("nan"))])
def test_impossible_schedules(backbone: Backbone, steps: int, start: float):
    with pytest.raises(InputError, match=r"(steps|start): found"):
        backbone.times(steps, start, like=torch.empty(1, 4, 8, 8))


def test_asking_for_times_leaves_the_pipelines_scheduler_alone(flux: Backbone):
    before = flux.pipe.scheduler.sigmas.clone()
    flux.times(7, like=SQUARE_1024)
    assert torch.equal(flux.pipe.scheduler.sigmas, before)


def sample(backbone: Backbone, x: torch.Tensor, prompts: list[str], guidance: float, steps: int) -> torch.Tensor:
    cond = backbone.embed(prompts, guidance)
    for t, t_next in pairwise(backbone.times(steps, like=x)):
        x = x + (t_next - t) * backbone.velocity(x, t, cond)
    return x


@torch.no_grad()
@pytest.mark.parametrize(("name", "guidance"), [("flux", 3.5), ("flux_cfg", 1.0), ("flux_cfg", 3.5)])
def test_flux_samples_as_its_pipeline_does(name: str, guidance: float, request: pytest.FixtureRequest):
    backbone = request.getfixturevalue(name)
    prompts, x = ["a red cat", "a dog"], torch.randn(2, 4, 8, 16)
    true_cfg = {"guidance_scale": guidance}
    if backbone.guidance_mode == "classifier-free":
        true_cfg = {"guidance_scale": 1.0, "true_cfg_scale": guidance, "negative_prompt": ["", ""]}
    pipe = backbone.pipe
    pipe.set_progress_bar_config(disable=True)
    packed = pipe(
        prompts,
        height=tiny.SIDE,
        width=2 * tiny.SIDE,
        num_inference_steps=6,
        max_sequence_length=tiny.TEXT_TOKENS,
        latents=pipe._pack_latents(x, 2, 4, 8, 16),
        output_type="latent",
        **true_cfg,
    ).images
    theirs = pipe._unpack_latents(packed, tiny.SIDE, 2 * tiny.SIDE, pipe.vae_scale_factor)
    assert torch.allclose(sample(backbone, x, prompts, guidance, steps=6), theirs, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_sd3_samples_as_its_pipeline_does(sd3_double: Backbone, guidance: float):
    prompts, x = ["a red cat", "a dog"], torch.randn(2, 4, 8, 16)
    pipe = sd3_double.pipe
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompts,
        height=tiny.SIDE,
        width=2 * tiny.SIDE,
        num_inference_steps=6,
        guidance_scale=guidance,
        max_sequence_length=tiny.TEXT_TOKENS,
        latents=x,
        output_type="latent",
    ).images
    assert torch.allclose(sample(sd3_double, x, prompts, guidance, steps=6), theirs, atol=1e-4)

"""The family's presets against the released loops of sync-SDE and FlowEdit, draw for draw."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.bench.cases import collate
from lib.core.noise import InjectedNoise
from lib.editors.difference_flow import PRESETS, difference_flow
from tests.editors.analytic import Mixture, some_cases
from tests.parity import syncsde_release

STEPS, INDEX = 28, 4  # the released defaults


def released(loop, backbone, batch, draws, guidances, index):
    """The loop's result [B, C, h, w] for the whole batch, in float64 but for the model itself."""
    prompts = {"source": batch.source_prompt, "target": batch.target_prompt}
    conds = {which: backbone.embed(prompts[which], w) for which, w in zip(prompts, guidances, strict=True)}

    def velocity(x, sigma, which):
        return backbone.velocity(torch.from_numpy(x).float(), float(sigma), conds[which]).double().numpy()

    sigmas = backbone.times(STEPS).double().numpy()
    x0 = backbone.encode(batch.image).double().numpy()
    return loop(velocity, x0, sigmas, draws.double().numpy(), index)


def compared(name, loop, *, guidance_mode="distilled", index=INDEX, loop_index=INDEX, **guidances):
    """Ours by the preset of this name and theirs, on the same draws; and the source."""
    backbone = Mixture(std=4.0, guidance_mode=guidance_mode)
    batch = collate(some_cases(3, size=4))
    draws = torch.randn(STEPS, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    start = backbone.times(STEPS)[index].item()  # the preset's .950 to four digits, here to the last
    settings = replace(PRESETS[name], start=start, **guidances)
    noise = InjectedNoise({i - index: draws[i] for i in range(index, STEPS)})
    found = difference_flow(backbone, batch, settings, noise=noise).latents
    both = settings.source_guidance, settings.target_guidance
    wanted = torch.from_numpy(released(loop, backbone, batch, draws, both, loop_index)).float()
    return found, wanted, backbone.encode(batch.image)


def test_index_4_is_the_start_of_both_presets():
    start = Mixture().times(STEPS)[INDEX].item()
    assert start == pytest.approx(PRESETS["sync-sde-released"].start, abs=1e-3)
    assert start == pytest.approx(PRESETS["flowedit"].start, abs=1e-3)


@pytest.mark.parametrize("guidance_mode", ["distilled", "classifier-free"])
@pytest.mark.parametrize(
    ("index", "guidances"), [(4, {}), (4, {"source_guidance": 1.5, "target_guidance": 3.0}), (10, {}), (1, {})]
)
def test_the_released_sync_sde(index, guidances, guidance_mode):
    found, wanted, x0 = compared(
        "sync-sde-released",
        syncsde_release.sync_sde,
        guidance_mode=guidance_mode,
        index=index,
        loop_index=index,
        **guidances,
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-3)
    assert (wanted - x0).abs().max() > 1  # there was something to compare


@pytest.mark.parametrize("guidance_mode", ["distilled", "classifier-free"])
@pytest.mark.parametrize("n_max", [24, 18])
def test_the_released_flowedit(n_max, guidance_mode):
    index = STEPS - n_max
    found, wanted, x0 = compared(
        "flowedit", syncsde_release.flowedit, guidance_mode=guidance_mode, index=index, loop_index=n_max
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-3)
    assert (wanted - x0).abs().max() > 1


@pytest.mark.parametrize("preset", ["sync-sde", "sync-sde-resample"])
def test_neither_the_exact_step_nor_fresh_noise_is_the_released_loop(preset):
    found, wanted, _ = compared(preset, syncsde_release.sync_sde)
    assert (found - wanted).abs().max() > 0.1


def test_the_released_variance_is_too_small_near_the_noise():
    """Standard deviation of the path against the exact a = t / (1 - t), by level: worst where t is near 1 or 0."""
    sigmas = Mixture().times(STEPS).double().numpy()
    units = np.eye(STEPS)
    path = syncsde_release.brownian_midpoint(sigmas, units)
    found = np.array([np.linalg.norm(b) for b in path])[1:] / (sigmas[1:-1] / (1 - sigmas[1:-1]))
    assert found[[0, 1, 3, 26]] == pytest.approx([0.90, 0.966, 0.989, 0.970], abs=5e-3)  # levels 1, 2, 4, 27
    assert np.all((found[4:24] > 0.9915) & (found[4:24] < 0.9975))

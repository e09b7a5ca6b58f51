"""sync-SDE: the law of its path, its step against ancestral sampling with shared noise, and where it must end."""

from itertools import pairwise

import pytest
import torch

from lib.bench.cases import EditCase, collate
from lib.core.errors import InputError
from lib.core.noise import InjectedNoise, Noise
from lib.editors.difference_flow import DifferenceFlow, difference_flow
from lib.editors.registry import Editor
from lib.editors.run import run_row
from lib.editors.sync_sde import SyncSDE, brownian, sync_sde, sync_sde_nfe
from tests.editors.analytic import Mixture, some_cases

ROW = Editor("sync-sde", "2509.24223", sync_sde, SyncSDE, sync_sde_nfe, stochastic=True, needs_source_prompt=True)


def weights(times):
    """What each unit draw weighs in the path's noise at each level [n, n]: the path is linear in its draws."""
    n = len(times) - 1
    draws = InjectedNoise({i: torch.eye(n)[i].reshape(n, 1, 1, 1) for i in range(n)})
    return torch.stack(brownian(torch.zeros(n, 1, 1, 1), times, draws))[..., 0, 0, 0].double()


@pytest.mark.parametrize("start", [1.0, 0.95, 0.4])
def test_the_path_has_the_law_of_the_forward_sde(start):
    """Standard deviation t at every level, and correlation a_j / a_i between levels t_j < t_i."""
    times = Mixture().times(28, start)
    covariance = weights(times) @ weights(times).T
    t = times[:-1].double()
    torch.testing.assert_close(covariance.diag().sqrt(), t, rtol=1e-5, atol=0)
    a = t / (1 - t)  # infinite at t = 1: nothing of the image, and no correlation with it
    wanted = torch.minimum(a[:, None], a) / torch.maximum(a[:, None], a)
    wanted[a.isinf(), a.isinf()] = 1
    torch.testing.assert_close(covariance / (t[:, None] * t), wanted, rtol=0, atol=1e-5)


def test_many_paths_have_that_law_too():
    times = Mixture().times(28, 1.0)
    x0 = torch.full([4000, 1, 1, 1], 3.0)
    generator = torch.Generator().manual_seed(0)
    draws = InjectedNoise({i: torch.randn(x0.shape, generator=generator) for i in range(28)})
    path = torch.stack(brownian(x0, times, draws))[..., 0, 0, 0]
    noise = path - (1 - times[:-1, None]) * 3
    ratios = noise.std(1) / times[:-1]
    assert ratios.sub(1).abs().max() < 0.05  # 4.5 standard errors
    t = times[[4, 12]]
    a_low, a_high = sorted((t / (1 - t)).tolist())
    assert torch.corrcoef(noise[[4, 12]])[0, 1].item() == pytest.approx(a_low / a_high, abs=0.05)


def ancestral(backbone, case, draws, settings):
    """CycleDiffusion's reading: infer the noise that leads the source down its path, then lead the target by it."""
    times = backbone.times(settings.steps, settings.start).double()
    src = backbone.embed([case.source_prompt], settings.source_guidance)
    tar = backbone.embed([case.target_prompt], settings.target_guidance)
    x0 = backbone.encode(case.image[None]).double()
    a = times / (1 - times)
    brown, xs = torch.zeros_like(x0), [x0]
    for i in reversed(range(len(times) - 1)):
        brown = brown + draws[i] * (a[i] ** 2 - a[i + 1] ** 2).sqrt()
        xs.insert(0, (1 - times[i]) * (x0 + brown))
    y = xs[0]
    for i, (t, t_next) in enumerate(pairwise(times)):
        r = (a[i + 1] / a[i]) ** 2

        def mean(x, cond, t=t, t_next=t_next, r=r):  # E[x_next | x_t, x0], with the predicted x0
            x0hat = x - t * backbone.velocity(x.float(), t.float(), cond)
            return (1 - t_next) * (1 - r) * x0hat + (t_next / t) ** 2 * (1 - t) / (1 - t_next) * x

        inferred = xs[i + 1] - mean(xs[i], src)
        y = mean(y, tar) + inferred
    return y


@pytest.mark.parametrize("guidance_mode", ["distilled", "classifier-free"])
@pytest.mark.parametrize(
    "settings", [SyncSDE(), SyncSDE(steps=10, start=0.8, source_guidance=1.5, target_guidance=2.5)]
)
def test_is_ancestral_sampling_with_the_sources_noise(settings, guidance_mode):
    backbone = Mixture(guidance_mode=guidance_mode, std=4.0)
    batch = collate(some_cases(3, size=4))
    draws = torch.randn(28, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = sync_sde(backbone, batch, settings, noise=InjectedNoise(dict(enumerate(draws))))
    for i, case in enumerate(batch.cases):
        wanted = ancestral(backbone, case, draws[:, i : i + 1], settings).float()
        torch.testing.assert_close(found.latents[i : i + 1], wanted, rtol=1e-4, atol=2e-3)
        assert (wanted - backbone.encode(case.image[None])).abs().max() > 1  # there was something to compare


@pytest.mark.parametrize("steps", [1, 2, 28])
def test_one_gaussian_is_carried_onto_another_from_pure_noise(steps):
    """With one mode each the answer is x0 - mean_a + mean_b, at any number of steps."""
    backbone = Mixture({"a": [[4.0, -2.0, 0.0]], "b": [[-3.0, 5.0, 1.0]]}, std=2.0)
    batch = collate([EditCase(c.id, c.image, "b", "a") for c in some_cases(3)])
    found = sync_sde(backbone, batch, SyncSDE(steps=steps, start=1.0), noise=Noise(batch.ids, 0)).latents
    shift = torch.tensor([-7.0, 7.0, 1.0])[:, None, None]
    torch.testing.assert_close(found, backbone.encode(batch.image) + shift, rtol=0, atol=1e-3)


def test_a_last_step_gives_the_difference_of_the_predictions():
    backbone, batch = Mixture(std=4.0), collate(some_cases(3))
    settings, noise = SyncSDE(steps=1, start=0.6), Noise(batch.ids, 0)
    found = sync_sde(backbone, batch, settings, noise=noise).latents
    x0, t = backbone.encode(batch.image), torch.tensor(0.6)
    x = (1 - t) * x0 + t * noise.draw(0, x0)
    source, target = backbone.embed(batch.source_prompt), backbone.embed(batch.target_prompt)
    predicted = [x - t * backbone.velocity(x, t, cond) for cond in (source, target)]
    torch.testing.assert_close(found, x0 + predicted[1] - predicted[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("start", [0.3, 0.95, 0.999, 1.0])
def test_finite_from_any_start_and_called_back_at_every_level(start):
    backbone, batch = Mixture(), collate(some_cases(2))
    seen = []
    noise = Noise(batch.ids, 0)
    settings = SyncSDE(start=start)
    result = sync_sde(backbone, batch, settings, noise=noise, callback=lambda t, z: seen.append((t, z)))
    assert [t for t, _ in seen] == backbone.times(28, start)[1:].tolist()
    assert all(z.isfinite().all() for _, z in seen)
    assert torch.equal(seen[-1][1], result.latents)


@pytest.mark.parametrize("guidance_mode", ["distilled", "classifier-free"])
@pytest.mark.parametrize("start", [0.6, 0.95, 1.0])
def test_is_the_preset_of_the_family_to_the_bit(start, guidance_mode):
    backbone, batch = Mixture(guidance_mode=guidance_mode), collate(some_cases(3))
    values = {"steps": 12, "start": start, "source_guidance": 1.5, "target_guidance": 3.0}
    found, wanted = [], []
    follow = {"noise": Noise(batch.ids, 5)}
    sync_sde(backbone, batch, SyncSDE(**values), **follow, callback=lambda t, z: found.append(z))
    difference_flow(backbone, batch, DifferenceFlow(**values), **follow, callback=lambda t, z: wanted.append(z))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_runs_as_an_editor_in_any_order_and_company():
    backbone, cases = Mixture(), some_cases(5, size=4)
    together = run_row(ROW, backbone, cases, seed=3)
    assert together[0].nfe == 2 * 24  # 24 steps from index 4 of 28
    backwards = run_row(ROW, backbone, cases[::-1], seed=3)
    for one, other in zip(together, backwards[::-1], strict=True):
        assert torch.equal(one.image, other.image)
    alone = run_row(ROW, backbone, cases[2:3], seed=3)
    torch.testing.assert_close(alone[0].image, together[2].image, rtol=0, atol=1 / 255 + 1e-4)
    other = run_row(ROW, backbone, cases[2:3], seed=4)
    assert not torch.equal(alone[0].image, other[0].image)


@pytest.mark.parametrize("start", [0.0, -0.1, 1.01])
def test_starts_outside_the_schedule(start):
    with pytest.raises(InputError, match=r"setting 'start' of SyncSDE: found .*\(0, 1\]"):
        SyncSDE(start=start)


def test_needs_a_source_prompt():
    (case,) = some_cases(1)
    bare = EditCase(case.id, case.image, case.target_prompt)
    with pytest.raises(InputError, match=r"source prompt of case 'case-000': found none"):
        run_row(ROW, Mixture(), [bare])

"""SDEdit: the sampler that it becomes at start 1, the copy that it becomes near 0."""

import torch

from lib.bench.cases import collate
from lib.core.noise import InjectedNoise, Noise
from lib.editors.anchors import TextToImage, text_to_image
from lib.editors.sdedit import SDEdit, sdedit
from tests.editors.analytic import Mixture, exact_velocity, some_cases


def test_from_pure_noise_it_is_text_to_image():
    backbone, batch = Mixture(), collate(some_cases(3))
    noise = Noise(batch.ids, 5)
    edited = sdedit(backbone, batch, SDEdit(steps=7, start=1.0, guidance=2.0), noise=noise)
    drawn = text_to_image(backbone, batch, TextToImage(steps=7, guidance=2.0), noise=noise)
    assert torch.equal(edited.latents, drawn.latents)
    lower = sdedit(backbone, batch, SDEdit(steps=7, start=0.9, guidance=2.0), noise=noise)
    assert not torch.allclose(lower.latents, drawn.latents, atol=0.1)


def test_one_step_by_hand():
    backbone, batch = Mixture({"cat": [[1.0, 2.0, 3.0]]}), collate(some_cases(1))
    batch = collate([type(batch.cases[0])("one", batch.image[0], "cat")])
    eps = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = sdedit(backbone, batch, SDEdit(steps=1, start=0.25, guidance=1.0), noise=InjectedNoise({0: eps}))
    x = 0.75 * backbone.encode(batch.image) + 0.25 * eps
    wanted = x - 0.25 * exact_velocity(x, torch.tensor(0.25), torch.tensor([[[1.0, 2.0, 3.0]]]), 1.0)
    torch.testing.assert_close(found.latents, wanted)


def test_a_higher_start_strays_further_from_the_source():
    backbone, batch = Mixture(), collate(some_cases(4))
    source = backbone.encode(batch.image)
    moved = [
        (sdedit(backbone, batch, SDEdit(start=start), noise=Noise(batch.ids, 0)).latents - source).square().mean()
        for start in (1e-3, 0.25, 0.9)
    ]
    assert moved[0] < 0.1 < moved[1] < moved[2]


def test_guidance_and_prompt_matter():
    backbone, batch = Mixture(), collate(some_cases(2))
    noise = Noise(batch.ids, 0)
    one, two = (sdedit(backbone, batch, SDEdit(guidance=g), noise=noise).latents for g in (1.0, 3.0))
    assert not torch.allclose(one, two, atol=0.1)

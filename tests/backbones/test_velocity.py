"""What an editor asks of a backbone: latents, prompts, velocities, counting."""

import numpy as np
import pytest
import torch

from lib.backbones.base import Backbone
from lib.backbones.load import load_backbone
from lib.core.errors import InputError
from tests import tiny

PROMPTS = ["a red cat", "the dog on a blue cat", "a dog"]


def latents(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(1))


# Images


def test_latents_have_the_convention_of_the_pipeline(backbone: Backbone):
    image = torch.rand(2, 3, tiny.SIDE, 2 * tiny.SIDE)
    x = backbone.encode(image)
    assert (x.shape, x.dtype) == ((2, 4, 8, 16), torch.float32)
    vae = backbone.pipe.vae
    with torch.no_grad():
        moments = vae.encode(2 * image - 1).latent_dist
        assert torch.allclose(x, (moments.mean - 0.12) * 0.36, atol=1e-6)
        decoded = backbone.decode(x)
        plain = vae.decode(moments.mean).sample / 2 + 0.5
    assert (decoded.shape, decoded.dtype) == (image.shape, torch.float32)
    assert torch.allclose(decoded, plain.clamp(0, 1), atol=1e-5)


def test_decoded_images_stay_in_range(backbone: Backbone):
    decoded = backbone.decode(100 * latents())
    assert decoded.min() == 0
    assert decoded.max() == 1


def test_images_that_break_the_contract_are_refused(backbone: Backbone):
    with pytest.raises(InputError, match="found 32 x 36; expected multiples of 8 pixels"):
        backbone.encode(torch.rand(1, 3, 32, 36))
    with pytest.raises(InputError, match="values from 0 to 255"):
        backbone.encode(torch.tensor([0.0, 255.0]).repeat(1, 3, 32, 16))


def test_sd3_refuses_what_its_positions_do_not_reach(sd3: Backbone):
    assert sd3.encode(torch.rand(1, 3, 96, 32)).shape == (1, 4, 24, 8)
    with pytest.raises(InputError, match="found 104 x 32; expected at most 96 x 96"):
        sd3.encode(torch.rand(1, 3, 104, 32))


def test_nothing_looks_through_the_pipeline_at_every_evaluation(flux_folder, monkeypatch):
    backbone = load_backbone(flux_folder, device="cpu")
    cond, looked = backbone.embed(PROMPTS, 3.5), []
    device = type(backbone.pipe)._execution_device
    watched = property(lambda pipe: looked.append(pipe) or device.fget(pipe))
    monkeypatch.setattr(type(backbone.pipe), "_execution_device", watched)
    for t in (0.9, 0.5, 0.1):
        backbone.velocity(latents(), t, cond)
    assert len(looked) <= 1


# Prompts


def test_each_distinct_prompt_is_embedded_once(flux_folder, monkeypatch):
    backbone = load_backbone(flux_folder, device="cpu", guidance_mode="classifier-free")
    asked = []
    embed_prompt = backbone._embed_prompt
    monkeypatch.setattr(backbone, "_embed_prompt", lambda prompt: asked.append(prompt) or embed_prompt(prompt))
    cond = backbone.embed(["a cat", "a dog", "a cat"], guidance=3.0)
    backbone.embed(["a dog", ""])
    assert asked == ["a cat", "a dog", ""]
    assert torch.equal(cond.prompt_embeds[0], cond.prompt_embeds[2])
    assert not torch.equal(cond.prompt_embeds[0], cond.prompt_embeds[1])
    assert not torch.equal(cond.pooled[0], cond.pooled[1])


def test_a_sweep_over_many_prompts_embeds_none_of_them_twice(flux_folder, monkeypatch):
    backbone = load_backbone(flux_folder, device="cpu")
    asked, rows = [], (torch.ones(1, 8, 32), torch.ones(1, 32))
    monkeypatch.setattr(backbone, "check_prompt", lambda prompt: None)
    monkeypatch.setattr(backbone, "_embed_prompt", lambda prompt: asked.append(prompt) or rows)
    prompts = [f"a {i // 20} cat {i % 20}" for i in range(400)]
    for _ in range(2):
        for half in (prompts[:200], prompts[200:]):
            backbone.embed(half)
    assert asked == prompts
    backbone.forget_prompts()
    backbone.embed(prompts[:3])
    assert asked[400:] == prompts[:3]


def test_embeddings_are_the_pipelines_own(flux: Backbone, sd3: Backbone):
    with torch.no_grad():
        sequence, pooled, _ = flux.pipe.encode_prompt(PROMPTS, None, max_sequence_length=tiny.TEXT_TOKENS)
        cond = flux.embed(PROMPTS)
        assert cond.prompt_embeds.shape == (3, tiny.TEXT_TOKENS, 32)
        assert torch.allclose(cond.prompt_embeds, sequence, atol=1e-5)
        assert torch.allclose(cond.pooled, pooled, atol=1e-5)
        sequence, _, pooled, _ = sd3.pipe.encode_prompt(
            PROMPTS, None, None, do_classifier_free_guidance=False, max_sequence_length=tiny.TEXT_TOKENS
        )
        cond = sd3.embed(PROMPTS)
        assert cond.prompt_embeds.shape == (3, tiny.CLIP_TOKENS + tiny.TEXT_TOKENS, 64)
        assert torch.allclose(cond.prompt_embeds, sequence, atol=1e-5)
        assert torch.allclose(cond.pooled, pooled, atol=1e-5)


def test_a_prompt_that_is_too_long(backbone: Backbone):
    backbone.embed([" ".join(["cat"] * (tiny.TEXT_TOKENS - 1))])
    with pytest.raises(InputError, match=r"^prompt 'cat cat .*\.\.\.': found 25 tokens; expected at most 24$"):
        backbone.embed([" ".join(["cat"] * tiny.TEXT_TOKENS)])


def test_a_prompt_with_unknown_characters(backbone: Backbone):
    with pytest.raises(InputError, match=r"^prompt 'a \{cat\} über 狗': found \{ \} ü 狗 in it; expected"):
        backbone.embed(["a dog", "a {cat} über 狗"])


def test_what_is_no_list_of_texts(backbone: Backbone):
    for prompts in ("a cat", []):
        with pytest.raises(InputError, match=r"prompts: found .*; expected a list with one text per image"):
            backbone.embed(prompts)
    with pytest.raises(InputError, match="prompt: found None; expected a text"):
        backbone.embed(["a cat", None])


# Velocities


def test_flux_velocity_is_the_transformers(flux: Backbone):
    """Packing, ids, time and guidance written out by hand."""
    x, cond = latents(), flux.embed(PROMPTS, guidance=2.5)
    tokens = torch.empty(3, 16, 16)
    ids = torch.zeros(16, 3)
    for row in range(4):
        for column in range(4):
            patch = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            tokens[:, 4 * row + column] = patch.reshape(3, 16)
            ids[4 * row + column] = torch.tensor([0, row, column])
    with torch.no_grad():
        out = flux.pipe.transformer(
            hidden_states=tokens,
            timestep=torch.full((3,), 0.7),
            guidance=torch.full((3,), 2.5),
            encoder_hidden_states=cond.prompt_embeds,
            pooled_projections=cond.pooled,
            txt_ids=torch.zeros(tiny.TEXT_TOKENS, 3),
            img_ids=ids,
        ).sample
        v = flux.velocity(x, 0.7, cond)
    assert (v.shape, v.dtype) == (x.shape, torch.float32)
    assert torch.allclose(v[:, :, 6:8, 2:4], out[:, 13].reshape(3, 4, 2, 2), atol=1e-6)
    assert torch.allclose(v[:, :, 0:2, 4:6], out[:, 2].reshape(3, 4, 2, 2), atol=1e-6)


def test_flux_tells_height_from_width(flux: Backbone):
    x = torch.randn(1, 4, 4, 12, generator=torch.Generator().manual_seed(0))
    cond = flux.embed(["a cat"])
    with torch.no_grad():
        wide, high = flux.velocity(x, 0.5, cond), flux.velocity(x.mT.contiguous(), 0.5, cond)
    assert wide.shape == x.shape
    assert (wide.mT - high).abs().max() > 1e-3


def test_sd3_velocity_is_the_transformers(sd3: Backbone):
    x, cond = latents(), sd3.embed(PROMPTS)
    with torch.no_grad():
        out = sd3.pipe.transformer(
            hidden_states=x,
            timestep=torch.full((3,), 700.0),
            encoder_hidden_states=cond.prompt_embeds,
            pooled_projections=cond.pooled,
        ).sample
        assert torch.allclose(sd3.velocity(x, 0.7, cond), out, atol=1e-5)


def test_a_batch_is_its_singles(backbone: Backbone):
    x, cond = latents(), backbone.embed(PROMPTS, guidance=3.0)
    with torch.no_grad():
        batch = backbone.velocity(x, 0.6, cond)
        singles = [backbone.velocity(x[i : i + 1], 0.6, backbone.embed([PROMPTS[i]], 3.0)) for i in range(3)]
    assert torch.allclose(batch, torch.cat(singles), atol=1e-5)
    assert (batch[0] - batch[1]).abs().max() > 1e-4


def test_time_may_be_a_number_or_a_tensor(backbone: Backbone):
    x, cond = latents(), backbone.embed(PROMPTS)
    with torch.no_grad():
        assert torch.equal(backbone.velocity(x, 0.5, cond), backbone.velocity(x, torch.tensor(0.5), cond))
        assert not torch.allclose(backbone.velocity(x, 0.5, cond), backbone.velocity(x, 0.6, cond))


def test_rows_must_match(backbone: Backbone):
    with pytest.raises(InputError, match="conditioning: found 1 prompts; expected 3, one per image"):
        backbone.velocity(latents(), 0.5, backbone.embed(["a cat"]))


# Guidance and counting


@pytest.mark.parametrize("name", ["flux_cfg", "sd3"])
def test_classifier_free_guidance_is_linear(name: str, request: pytest.FixtureRequest):
    backbone = request.getfixturevalue(name)
    assert backbone.guidance_mode == "classifier-free"
    x = latents()
    with torch.no_grad():
        v = {w: backbone.velocity(x, 0.5, backbone.embed(PROMPTS, w)) for w in (1.0, 3.0, 5.0)}
        empty = backbone.velocity(x, 0.5, backbone.embed(["", "", ""]))
    assert torch.allclose(v[5.0] - v[3.0], v[3.0] - v[1.0], atol=1e-5)
    assert torch.allclose(v[3.0], empty + 3 * (v[1.0] - empty), atol=1e-5)
    assert (v[3.0] - v[1.0]).abs().max() > 1e-4


def test_distilled_guidance_is_an_input(flux: Backbone, flux_cfg: Backbone):
    assert flux.guidance_mode == "distilled"
    x = latents()
    with torch.no_grad():
        plain, guided = (flux.velocity(x, 0.5, flux.embed(PROMPTS, w)) for w in (1.0, 4.0))
        free = flux_cfg.velocity(x, 0.5, flux_cfg.embed(PROMPTS))
    assert flux.embed(PROMPTS, 4.0).negative is None
    assert (plain - guided).abs().max() > 1e-4
    assert torch.equal(plain, free)  # 1 is the plain conditional velocity in either mode


@pytest.mark.parametrize(("name", "guidance", "per_image"), [("flux", 5, 1), ("flux_cfg", 5, 2), ("flux_cfg", 1, 1)])
def test_evaluations_are_counted(name: str, guidance: float, per_image: int, request: pytest.FixtureRequest):
    backbone = request.getfixturevalue(name)
    x, cond = latents(), backbone.embed(PROMPTS, guidance)
    backbone.velocity(x, 0.5, cond)
    with backbone.count() as outer:
        backbone.velocity(x, 0.5, cond)
        with backbone.count() as inner:
            backbone.velocity(x, 0.4, cond)
    backbone.velocity(x, 0.5, cond)
    assert (inner.calls, inner.rows, inner.per_image(3)) == (1, 3 * per_image, per_image)
    assert (outer.calls, outer.rows, outer.per_image(3)) == (2, 6 * per_image, 2 * per_image)


def test_counting_ends_with_its_block_even_on_errors(flux: Backbone):
    with pytest.raises(ZeroDivisionError), flux.count() as counter:
        raise ZeroDivisionError
    flux.velocity(latents(), 0.5, flux.embed(PROMPTS))
    assert counter.calls == 0


def test_a_model_without_guidance_embedding(tmp_path):
    folder = tiny.build_flux(tmp_path / "schnell", guidance_embeds=False)
    backbone = load_backbone(folder, device="cpu")
    assert backbone.guidance_mode == "classifier-free"
    assert torch.isfinite(backbone.velocity(latents(), 0.5, backbone.embed(PROMPTS, 2.0))).all()
    with pytest.raises(InputError, match="found no guidance embedding in it"):
        load_backbone(folder, device="cpu", guidance_mode="distilled")


# Gradients


def test_gradients_reach_the_latents_and_nothing_else(backbone: Backbone):
    with torch.inference_mode():  # another editor may have asked for the same prompt before
        backbone.embed(["on the red dog"], guidance=3.0)
    x = latents(1).requires_grad_()
    cond = backbone.embed(["on the red dog"], guidance=3.0)
    backbone.decode(x - 0.5 * backbone.velocity(x, 0.5, cond)).mean().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().max() > 0
    assert not cond.prompt_embeds.requires_grad
    assert not cond.prompt_embeds.is_inference()  # such a tensor could train nothing
    assert not backbone.encode(torch.rand(1, 3, 32, 32).requires_grad_()).requires_grad
    assert all(p.grad is None and not p.requires_grad for p in backbone.pipe.transformer.parameters())


def test_everything_works_in_inference_mode(backbone: Backbone):
    with torch.inference_mode():
        x = backbone.encode(torch.from_numpy(np.full((1, 3, 32, 32), 0.5, np.float32)))
        image = backbone.decode(x + backbone.velocity(x, 0.5, backbone.embed(["the blue dog"])))
    assert torch.isfinite(image).all()

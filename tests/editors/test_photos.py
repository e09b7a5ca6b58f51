"""A real photograph, 800 x 592, through editors on a random FLUX of the real geometry: what a size can break.

The autoencoder shrinks by 8 and has 16 channels, tokens are 2 x 2 of its pixels, heads are 128 wide and see 512 tokens
of text, as in FLUX.1; but blocks are few and thin, and weights are random.
"""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

from lib.backbones.attention import latent_mask, token_mask
from lib.backbones.flux import FluxBackbone
from lib.bench.cases import collate
from lib.bench.photos import photo_cases
from lib.editors.lore import object_spans
from lib.editors.registry import editor_named, settings_for
from lib.editors.run import run_batch
from tests.tiny import t5_tokenizer

WIDTH, HEIGHT = 800, 592
TOP = 208  # the first row of the crop, which holds all of the mask
LEAST = {
    "lore": {"steps": 1, "inject": 1, "iterations": 1},
    "rf-solver": {"steps": 1, "inject": 1},
    "flowedit": {"steps": 2},
    "kv-edit": {"steps": 2},
}


@pytest.fixture(scope="module")
def real(flux):
    """FLUX.1's geometry with the text encoders of `tests.tiny`."""
    torch.manual_seed(2)
    transformer = FluxTransformer2DModel(
        num_layers=1,
        num_single_layers=2,
        num_attention_heads=1,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    t5 = t5_tokenizer()
    t5.model_max_length = 512
    parts = {
        "transformer": transformer.eval().requires_grad_(False),
        "vae": vae.eval().requires_grad_(False),
        "tokenizer_2": t5,
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
    }
    return FluxBackbone(FluxPipeline(**{**flux.pipe.components, **parts}), name="random FLUX")


@pytest.fixture(scope="module")
def car():
    case = photo_cases()[0]
    assert case.id == "photos-car"
    rows = slice(TOP, TOP + HEIGHT)
    case = replace(case, image=case.image[:, rows].contiguous(), mask=case.mask[:, rows].contiguous())
    assert case.image.shape == (3, HEIGHT, WIDTH)
    return case


@pytest.fixture(scope="module")
def before(real, car):
    """Latents of the photograph and where they may change."""
    with torch.inference_mode():
        source = real.encode(car.image[None])
        return source, latent_mask(real, token_mask(real, car.mask[None], source), source).bool()


def test_the_geometry_is_the_real_one(real, car, before):
    source, inside = before
    assert (real.multiple, real.text_tokens) == (16, 512)
    assert source.shape == (1, 16, HEIGHT // 8, WIDTH // 8)
    tokens = inside[0, 0, ::2, ::2]
    assert tokens.shape == (37, 50)
    for i, j in ((0, 0), (36, 25), (20, 25), (20, 2), (14, 40)):
        block = car.mask[0, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16]
        assert tokens[i, j] == (block.float().mean() >= 0.5)
    assert 0.2 < tokens.float().mean() < 0.6


def test_the_photograph_names_the_object_that_lore_raises(car):
    """By its extras, not by the words that are new in the target prompt."""
    case = replace(car, source_prompt="")
    assert [case.target_prompt[begin:end] for begin, end in object_spans(case)] == ["race car"]


@pytest.mark.parametrize("name", LEAST)
def test_a_photograph_goes_through(real, car, before, name):
    source, inside = before
    settings = settings_for(name, LEAST[name])
    result = run_batch(editor_named(name), real, collate([car]), settings, seed=car.extras["seed"])
    assert result.image.shape == (1, 3, HEIGHT, WIDTH)
    assert result.image.isfinite().all()
    assert result.image.min() >= 0
    assert result.image.max() <= 1
    assert result.latents.shape == source.shape
    moved = (result.latents - source).abs().amax(1, keepdim=True)
    assert moved[inside].min() > 0
    if name == "kv-edit":  # alone promises it
        assert moved[~inside].max() == 0
    else:
        assert moved[~inside].max() > 0

"""The tiny FLUX of `tests.tiny` with more blocks: 2 double and 3 single ones, so that layers differ in kind."""

from dataclasses import replace
from types import SimpleNamespace

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.models.transformers import transformer_flux
from torch import nn

from lib.backbones.flux import FluxBackbone
from tests.editors.analytic import some_cases
from tests.tiny import SIDE

DOUBLE, SINGLE = 2, 3
LAYERS = DOUBLE + SINGLE


def deepen(flux, **more):
    """A FluxBackbone with the parts of `flux` and a deeper random transformer; `more` changes its configuration."""
    torch.manual_seed(1)
    config = {**flux.pipe.transformer.config, "num_layers": DOUBLE, "num_single_layers": SINGLE, **more}
    transformer = FluxTransformer2DModel(**{k: v for k, v in config.items() if not k.startswith("_")})
    pipe = FluxPipeline(**{**flux.pipe.components, "transformer": transformer.eval().requires_grad_(False)})
    return FluxBackbone(pipe, name="deep-flux")


def masked_cases(n):
    """Cases whose target prompts have a word more than their source prompts."""
    words = (("a cat", "a red cat"), ("the dog", "the blue dog"), ("a cat on the dog", "a cat on the red dog"))
    cases = []
    for i, case in enumerate(some_cases(n, size=SIDE)):
        source, target = words[i % 3]
        mask = torch.zeros_like(case.mask)
        mask[:, 8 : 24 - 4 * (i % 3), 4 * (i % 3) : 18] = True  # not on the grid of tokens, which are 8 pixels wide
        cases.append(replace(case, source_prompt=source, target_prompt=target, mask=mask))
    return cases


def full_maps(monkeypatch, backbone, x, t, cond, words, real=None):
    """Every layer's map from the stock processors, by way of all the logits."""
    maps, text = [], words.shape[1]
    stock = transformer_flux.dispatch_attention_fn

    def spy(q, k, v, **options):
        logits = torch.einsum("blhd,bmhd->bhlm", q, k) / q.shape[-1] ** 0.5
        columns = logits[:, :, text:, :text]
        if real is not None:
            columns = columns.masked_fill(~real[:, None, None], float("-inf"))
        maps.append((columns.softmax(-1).mean(1) * words[:, None]).sum(-1))
        return stock(q, k, v, **options)

    with monkeypatch.context() as patch:
        patch.setattr(transformer_flux, "dispatch_attention_fn", spy)
        backbone.velocity(x, t, cond)
    return maps


def of_depth(double, single):
    """A stand-in for a backbone whose FLUX transformer has this many blocks, all empty."""
    transformer = object.__new__(FluxTransformer2DModel)
    nn.Module.__init__(transformer)
    transformer.transformer_blocks, transformer.single_transformer_blocks = (
        nn.ModuleList(nn.Identity() for _ in range(n)) for n in (double, single)
    )
    return SimpleNamespace(name="flux", pipe=SimpleNamespace(transformer=transformer))

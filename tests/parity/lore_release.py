"""LORE's released procedure for one image, written plainly from its description, as something to compare with.

It shares nothing with `lib.editors.lore` but the backbone: values are caught and replaced by torch's hooks on the value
projections, keyed by the float time at the interval's noisier end; maps come from all the joint logits of every layer,
made in every pass; the whole model runs twice per iteration; Adam is written out.
"""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.transformers import transformer_flux
from PIL import Image


def lore_release(backbone, case, settings, eps, tokens, loss_layers, value_blocks):
    """Latents [1, C, h, w] at t = 0. `eps` is the re-noising draw, `tokens` are the object's positions.

    `settings` has the release's names: S, K, s, E, lr, g_inv, g_edit. `value_blocks` are single blocks.
    """
    transformer = backbone.pipe.transformer
    text = backbone.text_tokens
    state = {"cache": None, "read": False, "key": None, "maps": None}
    stock = transformer_flux.dispatch_attention_fn

    def attend(q, k, v, **options):
        if state["maps"] is not None:
            logits = torch.einsum("blhd,bmhd->bhlm", q, k) / math.sqrt(q.shape[-1])
            attention = logits[:, :, :, :text].softmax(-1).mean(1)[0]  # every row, the text's too
            state["maps"].append(attention[text:])
        return stock(q, k, v, **options)

    def values(block):
        def hook(module, inputs, output):
            if state["key"] is None:
                return None
            key = (*state["key"], block)
            if not state["read"]:
                state["cache"][key] = output.clone()
                return None
            keep = torch.cat([torch.ones(text), m])[None, :, None]
            return keep * output + (1 - keep) * state["cache"][key]

        return hook

    x0 = backbone.encode(case.image[None])
    height, width = x0.shape[2] // 2, x0.shape[3] // 2
    grey = Image.fromarray(case.mask[0].numpy().astype(np.uint8) * 255).resize((width, height), Image.LANCZOS)
    m = torch.tensor(np.asarray(grey) / 255, dtype=torch.float32).flatten()  # [N]
    wide = m.reshape(height, width).kron(torch.ones(2, 2))[None, None]
    source = backbone.embed([case.source_prompt], settings["g_inv"])
    target = backbone.embed([case.target_prompt], settings["g_edit"])
    levels = backbone.times(settings["S"], like=x0).tolist()

    handles = [
        transformer.single_transformer_blocks[b].attn.to_v.register_forward_hook(values(b)) for b in value_blocks
    ]
    transformer_flux.dispatch_attention_fn = attend
    try:
        state["cache"] = {}
        with torch.no_grad():
            z = sweep(backbone, x0, levels[::-1], source, state, settings["K"])
            z = (1 - wide) * z + wide * ((1 - settings["s"]) * z + settings["s"] * eps)
        mean, square = torch.zeros_like(z), torch.zeros_like(z)
        for step in range(1, settings["E"] + 1):
            z = z.detach().requires_grad_()
            state["maps"] = first = []
            v = backbone.velocity(z, levels[0], target)
            state["maps"] = second = []
            middle = (levels[0] + levels[1]) / 2
            backbone.velocity(z + (levels[1] - levels[0]) / 2 * v, middle, target)
            state["maps"] = None
            losses = []
            for layer in loss_layers:
                a = ((first[layer] + second[layer]) / 2)[:, tokens].mean(1)
                grid = (a * m).reshape(1, 1, height, width)
                losses.append(1 - F.conv2d(F.pad(grid, (1, 1, 1, 1)), smooth()).max())
            (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), z)
            gradient = gradient * wide
            mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            corrected = mean / (1 - 0.9**step), square / (1 - 0.999**step)
            z = z.detach() - settings["lr"] * corrected[0] / (corrected[1].sqrt() + 1e-8)
        state["read"] = True
        with torch.no_grad():
            return sweep(backbone, z, levels, target, state, settings["K"])
    finally:
        transformer_flux.dispatch_attention_fn = stock
        for handle in handles:
            handle.remove()


def sweep(backbone, x, levels, cond, state, shared):
    """The Taylor form of the midpoint rule along the levels, keys set where values are shared."""
    noisiest = sorted(levels, reverse=True)[:shared]
    for a, b in itertools.pairwise(levels):
        h, time = b - a, max(a, b)
        state["key"] = (time, "first") if time in noisiest else None
        v1 = backbone.velocity(x, a, cond)
        state["key"] = (time, "mid") if time in noisiest else None
        v2 = backbone.velocity(x + h / 2 * v1, a + h / 2, cond)
        x = x + h * v1 + 0.5 * h**2 * (v2 - v1) / (h / 2)
    state["key"] = None
    return x


def smooth():
    """The Gaussian of sigma 0.5 on 3 x 3 points."""
    kernel = torch.tensor([[math.exp(-2.0 * (r * r + c * c)) for c in (-1, 0, 1)] for r in (-1, 0, 1)])
    return (kernel / kernel.sum())[None, None]

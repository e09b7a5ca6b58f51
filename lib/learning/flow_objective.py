"""Flow matching's pieces: tokens of prompts, noise levels of training, classifier-free guidance of the model in
training.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.learning.flux_model import TinyFlux, clip_tokenizer, t5_tokenizer


def tokens(prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(CLIP ids, T5 ids) of prompts, padded to the full length as FluxPipeline does."""
    return tuple(
        tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt").input_ids
        for tokenizer in (clip_tokenizer(), t5_tokenizer())
    )


def noise_levels(count: int, draw: torch.Generator) -> Tensor:
    """Training noise levels: logit-normal (SD3, 2403.03206), one in ten uniform so that the ends are seen."""
    normal = torch.sigmoid(torch.randn(count, generator=draw) + 0.3)
    uniform = torch.rand(count, generator=draw)
    return torch.where(torch.rand(count, generator=draw) < 0.1, uniform, normal).clamp(1e-3, 1.0)


@torch.no_grad()
def guided(
    model: TinyFlux, x: Tensor, t: Tensor, ids: tuple[Tensor, Tensor], null: tuple[Tensor, Tensor], scale: Tensor
) -> Tensor:
    """Classifier-free guidance v_u + w (v_c - v_u) of the plain model (guidance 1), one call of twice the batch;
    float32.
    """
    sequence, pooled = (
        torch.cat([n.expand(len(x), *n.shape[1:]), c])
        for n, c in zip(model.embed(*null), model.embed(*ids), strict=True)
    )
    both = model(x.repeat(2, 1, 1), t.repeat(2), sequence, pooled, torch.ones(2 * len(x)))
    unconditional, conditional = both.float().chunk(2)
    return unconditional + scale[:, None, None] * (conditional - unconditional)

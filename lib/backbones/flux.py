"""FLUX.1 over `diffusers.FluxPipeline`: packed tokens, a schedule shifted by the image size, a guidance embedding."""

from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from einops import rearrange
from torch import Tensor

from lib.backbones.base import Backbone, Conditioning


class FluxBackbone(Backbone):
    """FLUX.1-dev and -schnell, and any small configuration of their classes."""

    patch = 2

    @property
    def text_tokens(self) -> int:
        return min(self.pipe.tokenizer_2.model_max_length, 512)  # 512 is what FLUX.1-dev was trained with

    def t5_tokenizer(self) -> Any:
        return self.pipe.tokenizer_2

    def _embed_prompt(self, prompt: str) -> tuple[Tensor, Tensor]:
        return self.pipe.encode_prompt(prompt, None, device=self.device, max_sequence_length=self.text_tokens)[:2]

    def _transform(self, x: Tensor, t: Tensor, cond: Conditioning, guidance: float) -> Tensor:
        batch, _, height, width = x.shape
        rows, columns = height // self.patch, width // self.patch
        embedded = self.pipe.transformer.config.guidance_embeds
        tokens = self.pipe.transformer(
            hidden_states=rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=self.patch, q=self.patch),
            timestep=t,  # in [0, 1]; the transformer itself multiplies by 1000
            guidance=torch.full([batch], guidance, device=x.device) if embedded else None,
            encoder_hidden_states=cond.prompt_embeds,
            pooled_projections=cond.pooled,
            txt_ids=torch.zeros(cond.prompt_embeds.shape[1], 3, device=x.device, dtype=x.dtype),
            img_ids=FluxPipeline._prepare_latent_image_ids(batch, rows, columns, x.device, x.dtype),
            return_dict=False,
        )[0]
        return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=rows, p=self.patch, q=self.patch)

    def _schedule(self, steps: int, like: torch.Size | None) -> Tensor:
        config = self.pipe.scheduler.config
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)  # a fresh one: the pipeline's keeps its state
        shift = None
        if config.use_dynamic_shifting:
            sizes = config.base_image_seq_len, config.max_image_seq_len
            shift = calculate_shift(self._tokens(like), *sizes, config.base_shift, config.max_shift)
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=shift)
        return scheduler.sigmas[:-1]

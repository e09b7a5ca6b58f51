"""Stable Diffusion 3 and 3.5 over `diffusers.StableDiffusion3Pipeline`: a static shift, classifier-free guidance."""

from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift
from torch import Tensor

from lib.backbones.base import Backbone, Conditioning
from lib.core.errors import InputError


class SD3Backbone(Backbone):
    """SD3-medium and SD3.5, and any small configuration of their classes.

    `double_shift`: as diffusers, whose default schedule takes its end points after the shift and shifts them again
    (diffusers issue 13243); FlowEdit's published SD3 numbers include it. Without it, levels are shifted once.
    """

    def __init__(self, pipe: Any, *, double_shift: bool = False, **identity: Any) -> None:
        super().__init__(pipe, **identity)
        self.double_shift = double_shift

    @property
    def patch(self) -> int:
        return self.pipe.transformer.config.patch_size

    @property
    def text_tokens(self) -> int:
        longest = 256  # the pipeline's own; SD3's tokenizer reports 512
        return longest if self.pipe.tokenizer_3 is None else min(self.pipe.tokenizer_3.model_max_length, longest)

    def encode(self, image: Tensor) -> Tensor:
        largest = self.pipe.transformer.config.pos_embed_max_size * self.multiple
        if max(image.shape[-2:]) > largest:
            found = f"{image.shape[-2]} x {image.shape[-1]}"
            raise InputError(f"image size for {self.name}", found=found, expected=f"at most {largest} x {largest}")
        return super().encode(image)

    def t5_tokenizer(self) -> Any | None:
        return self.pipe.tokenizer_3

    def _clip_tokenizer(self) -> Any | None:
        return self.pipe.tokenizer  # 77 tokens, its end tokens included

    def _embed_prompt(self, prompt: str) -> tuple[Tensor, Tensor]:
        prompt_embeds, _, pooled, _ = self.pipe.encode_prompt(
            prompt,
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.text_tokens,
        )
        return prompt_embeds, pooled

    def _transform(self, x: Tensor, t: Tensor, cond: Conditioning, guidance: float) -> Tensor:
        return self.pipe.transformer(
            hidden_states=x,
            timestep=1000 * t,
            encoder_hidden_states=cond.prompt_embeds,
            pooled_projections=cond.pooled,
            return_dict=False,
        )[0]

    def _schedule(self, steps: int, like: torch.Size | None) -> Tensor:
        config = self.pipe.scheduler.config
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)  # a fresh one: the pipeline's keeps its state
        shift = None
        if config.use_dynamic_shifting:
            sizes = config.base_image_seq_len, config.max_image_seq_len
            shift = calculate_shift(self._tokens(like), *sizes, config.base_shift, config.max_shift)
        if self.double_shift:
            scheduler.set_timesteps(steps, mu=shift)
        else:
            scheduler.set_timesteps(sigmas=np.linspace(1, 1 / config.num_train_timesteps, steps), mu=shift)
        return scheduler.sigmas[:-1]

"""A backbone whose velocity is exact: every pixel is drawn from a Gaussian mixture over channels that the prompt names.

With two channels and images of one pixel it edits points of the plane: there the right answer of every method is known.
Images are [B, 3, H, W]; latents are their first `channels` channels, stretched to [-scale / 2, scale / 2], so that
encoding and decoding lose nothing. Everything else (the cut of the schedule, guidance, counting, the prompt cache) is
the real base class.
"""

import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from types import SimpleNamespace

import torch
from torch import Tensor

from lib.backbones.base import Backbone, Conditioning


class Mixture(Backbone):
    """`modes` maps a prompt to its equally likely means [K, channels], in units of the latents; a prompt that it does
    not name gets two modes of its own. `std` is the standard deviation of every mode. The noise levels are those of
    FLUX under the `shift` mu: 1.15 as at 1024 x 1024 pixels, 0 for even steps.
    """

    patch = 1
    text_tokens = 77
    multiple = 1
    device = torch.device("cpu")
    dtype = torch.float32
    hash = "analytic"

    def __init__(
        self,
        modes: Mapping[str, Sequence[Sequence[float]]] | None = None,
        *,
        std: float = 1.0,
        scale: float = 60.0,
        channels: int = 3,
        shift: float = 1.15,
        guidance_mode: str = "distilled",
    ) -> None:
        transformer = SimpleNamespace(config={"guidance_embeds": guidance_mode == "distilled"})
        super().__init__(SimpleNamespace(transformer=transformer), name="mixture", guidance_mode=guidance_mode)
        self.modes, self.std, self.scale, self.channels, self.shift = modes or {}, std, scale, channels, shift
        self.embedded: list[str] = []  # prompts, each time one is embedded for real

    def encode(self, image: Tensor) -> Tensor:
        return (image[:, : self.channels] - 0.5) * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        image = latents / self.scale + 0.5
        grey = image.new_full((len(image), 3 - self.channels, *image.shape[2:]), 0.5)
        return torch.cat([image, grey], dim=1).clamp(0, 1)

    def t5_tokenizer(self) -> None:
        return None

    def _embed_prompt(self, prompt: str) -> tuple[Tensor, Tensor]:
        self.embedded.append(prompt)
        if prompt in self.modes:
            means = torch.as_tensor(self.modes[prompt], dtype=torch.float32)
        else:  # any text: two modes of its own
            generator = torch.Generator().manual_seed(int(sha256(prompt.encode()).hexdigest()[:8], 16))
            means = 10 * torch.randn(2, self.channels, generator=generator)
        return means[None], means[:1]

    def _transform(self, x: Tensor, t: Tensor, cond: Conditioning, guidance: float) -> Tensor:
        v = exact_velocity(x, t[0], cond.prompt_embeds, self.std)
        if self.guidance_mode == "classifier-free" or guidance == 1:
            return v
        nothing = self.embed([""] * len(x)).prompt_embeds
        plain = exact_velocity(x, t[0], nothing, self.std)
        return plain + guidance * (v - plain)

    def _schedule(self, steps: int, like: torch.Size | None) -> Tensor:
        levels = torch.linspace(1, 1 / steps, steps)
        return math.exp(self.shift) / (math.exp(self.shift) + 1 / levels - 1)


def exact_velocity(x: Tensor, t: float | Tensor, means: Tensor, std: float) -> Tensor:
    """E[eps - x0 | x_t = x] for x [B, C, h, w] and equally likely modes [B, K, C] of this standard deviation."""
    variance = (1 - t) ** 2 * std**2 + t**2
    offset = x[:, None] - (1 - t) * means[..., None, None]  # [B, K, C, h, w]
    weight = torch.softmax(-offset.square().sum(2, keepdim=True) / (2 * variance), dim=1)
    x0 = means[..., None, None] + (1 - t) * std**2 * offset / variance
    eps = t * offset / variance
    return (weight * (eps - x0)).sum(1)

"""What an editor may ask of a flow model.

Convention everywhere: x_t = (1 - t) x0 + t eps, velocity = eps - x0, t = 1 is noise, t = 0 the image. Latents are
float32 [B, C, h, w]; only what enters the transformer is in the model's dtype.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.backbones.kept import Kept
from lib.core.errors import InputError
from lib.core.images import check_images
from lib.core.recipe import hash_folder

GUIDANCE_MODES = ("distilled", "classifier-free")
LEVEL_GAP = 1e-3  # a level this close under `start` is `start`: .95 means the .9499 of FLUX at 1024 x 1024
PROMPT_BYTES = 2**29  # of embeddings kept: 128 prompts of FLUX.1-dev, 512 tokens in bfloat16, or all of a tiny model


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Prompts as the transformer reads them, and how strongly to follow them. Row i belongs to image i."""

    prompt_embeds: Tensor  # [B, L, D]
    pooled: Tensor  # [B, P]
    guidance: float = 1.0  # 1 is the plain conditional velocity
    negative: "Conditioning | None" = None  # the empty prompt, where guidance is classifier-free

    def __len__(self) -> int:
        return len(self.prompt_embeds)


@dataclass(eq=False)
class Counter:
    """Transformer evaluations since `Backbone.count()` was entered."""

    calls: int = 0
    rows: int = 0  # one per image and call; classifier-free guidance takes two

    def per_image(self, batch: int) -> float:
        """Evaluations per edited image, of which there are `batch`."""
        return self.rows / batch


class Backbone(ABC):
    """A text-to-image flow model over a diffusers pipeline; `lib.backbones.load.load_backbone` makes one.

    Gradients pass through `velocity` and `decode`; `encode` and `embed` never record any.
    """

    patch: int  # latent pixels per transformer token, along one side
    text_tokens: int  # tokens of the T5 text, special ones included

    def __init__(
        self,
        pipe: Any,
        *,
        name: str,
        folder: Path | None = None,
        revision: str | None = None,
        guidance_mode: str = "auto",
    ) -> None:
        self.pipe = pipe
        self.name = name
        self.guidance_mode = self._choose_guidance(guidance_mode)
        self._folder, self._revision = folder, revision
        self._counters: list[Counter] = []
        self._prompts: Kept[tuple[Tensor, Tensor]] = Kept(PROMPT_BYTES)

    # What differs between models

    @abstractmethod
    def t5_tokenizer(self) -> Any | None:
        """The tokenizer that limits a prompt's length and alphabet; None if the folder leaves the T5 encoder out."""

    def _clip_tokenizer(self) -> Any | None:
        """The tokenizer that limits a prompt's length where there is no T5; None if nothing does."""
        return None

    @abstractmethod
    def _embed_prompt(self, prompt: str) -> tuple[Tensor, Tensor]:
        """`prompt_embeds` [1, L, D] and `pooled` [1, P] of one prompt."""

    @abstractmethod
    def _transform(self, x: Tensor, t: Tensor, cond: Conditioning, guidance: float) -> Tensor:
        """One transformer call: latents [B, C, h, w] in the model's dtype, t [B] float32 -> velocity [B, C, h, w]."""

    @abstractmethod
    def _schedule(self, steps: int, like: torch.Size | None) -> Tensor:
        """The model's own noise levels [steps], descending from 1, for latents of shape `like` (see `_tokens`)."""

    # What editors use

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] -> latents [B, C, h, w] float32, the mode of the VAE's posterior.

        InputError if an image breaks the contract or a side is no multiple of `multiple` pixels.
        """
        check_images(image)
        height, width = image.shape[2:]
        if height % self.multiple or width % self.multiple:
            expected = f"multiples of {self.multiple} pixels (lib.core.images.fit_to cuts them)"
            raise InputError(f"image size for {self.name}", found=f"{height} x {width}", expected=expected)
        vae = self.pipe.vae
        latents = vae.encode((2 * image - 1).to(self.device, vae.dtype)).latent_dist.mode().float()
        return (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] -> images [B, 3, H, W] float32, clipped to [0, 1]."""
        vae = self.pipe.vae
        latents = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        return (vae.decode(latents.to(self.device, vae.dtype)).sample.float() / 2 + 0.5).clamp(0, 1)

    def embed(self, prompts: Sequence[str], guidance: float = 1.0) -> Conditioning:
        """Embed one prompt per image. The empty prompt is the unconditional one.

        Each distinct prompt is embedded once and by itself, so that its embedding does not depend on its neighbours.
        InputError if a prompt is none that `check_prompt` lets pass.
        """
        if isinstance(prompts, str) or not prompts:
            raise InputError("prompts", found=repr(prompts[:40]), expected="a list with one text per image")
        prompt_embeds, pooled = self._rows(prompts)
        if self.guidance_mode == "distilled" or guidance == 1:
            return Conditioning(prompt_embeds, pooled, float(guidance))
        negative = Conditioning(*self._rows([""] * len(prompts)))
        return Conditioning(prompt_embeds, pooled, float(guidance), negative)

    def velocity(self, x: Tensor, t: float | Tensor, cond: Conditioning) -> Tensor:
        """The velocity eps - x0 at latents `x` [B, C, h, w] and noise level `t` in [0, 1] (one for all), float32.

        With classifier-free guidance w, v = v_neg + w (v_pos - v_neg), both from one call of 2 B rows.
        """
        if len(cond) != len(x):
            raise InputError("conditioning", found=f"{len(cond)} prompts", expected=f"{len(x)}, one per image")
        if cond.negative is None:
            guidance = cond.guidance if self.guidance_mode == "distilled" else 1.0
            return self._evaluate(x, t, cond, guidance)
        both = Conditioning(
            torch.cat([cond.negative.prompt_embeds, cond.prompt_embeds]),
            torch.cat([cond.negative.pooled, cond.pooled]),
        )
        v_negative, v_positive = self._evaluate(torch.cat([x, x]), t, both, 1.0).chunk(2)
        return v_negative + cond.guidance * (v_positive - v_negative)

    def times(self, steps: int, start: float = 1.0, *, like: Tensor | None = None) -> Tensor:
        """The schedule of `steps` steps, cut at noise level `start`: `start`, every scheduled level below it (by
        LEVEL_GAP), then 0.

        Descending float32 [n + 1] on the CPU. FLUX shifts its schedule by the size of the image, so that the same
        index is another noise level at another size: the size of the latents `like` [..., h, w]. SD3 needs no size.
        """
        if steps < 1:
            raise InputError("steps", found=steps, expected="1 or more")
        if not 0 < start <= 1:
            raise InputError("start", found=start, expected="a noise level in (0, 1]")
        levels = self._schedule(steps, None if like is None else like.shape)
        return torch.cat([torch.tensor([float(start)]), levels[levels < start - LEVEL_GAP], torch.zeros(1)])

    @contextmanager
    def count(self) -> Iterator[Counter]:
        """Count transformer evaluations inside the block. Blocks may nest; each counts all that happens inside it."""
        counter = Counter()
        self._counters.append(counter)
        try:
            yield counter
        finally:
            self._counters.remove(counter)

    # What identifies it

    # Found once, since both look through every module of the pipeline: a third of the time of a small evaluation.

    @cached_property
    def device(self) -> torch.device:
        """Where the pipeline computes. It stays there: to move one, load it anew."""
        return self.pipe._execution_device

    @cached_property
    def dtype(self) -> torch.dtype:
        """The transformer's; it stays that as well."""
        return self.pipe.transformer.dtype

    @property
    def multiple(self) -> int:
        """Image sides must be multiples of this many pixels."""
        return self.pipe.vae_scale_factor * self.patch

    @cached_property
    def hash(self) -> str:
        """16 hex characters: of the folder's content, or of name and revision on the hub; "unsaved" if in neither."""
        if self._revision is not None:
            return sha256(f"{self.name}@{self._revision}".encode()).hexdigest()[:16]
        return "unsaved" if self._folder is None else hash_folder(self._folder)

    # Inside

    def _tokens(self, like: torch.Size | None) -> int:
        if like is None:
            raise InputError("schedule", found="no image size", expected="times(steps, start, like=latents)")
        return (like[-2] // self.patch) * (like[-1] // self.patch)

    def _evaluate(self, x: Tensor, t: float | Tensor, cond: Conditioning, guidance: float) -> Tensor:
        levels = torch.as_tensor(t, dtype=torch.float32).to(self.device).expand(len(x))
        for counter in self._counters:
            counter.calls += 1
            counter.rows += len(x)
        return self._transform(x.to(self.device, self.dtype), levels, cond, guidance).float()

    def _rows(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        rows = [self._embed_once(prompt) for prompt in prompts]
        prompt_embeds, pooled = zip(*rows, strict=True)
        # Copies, also of a single row: a tensor made in inference mode and kept here could enter no training.
        return torch.cat(prompt_embeds), torch.cat(pooled)

    def _embed_once(self, prompt: str) -> tuple[Tensor, Tensor]:
        found = self._prompts.get(prompt) if isinstance(prompt, str) else None
        if found is None:
            self.check_prompt(prompt)
            with torch.no_grad():
                found = self._embed_prompt(prompt)
            self._prompts.put(prompt, found, sum(part.nbytes for part in found))
        return found

    def forget_prompts(self) -> None:
        """Drop the embeddings that are kept, after the text encoders have changed."""
        self._prompts.clear()

    def check_prompt(self, prompt: str) -> None:
        """InputError if a prompt is no text, too long for the T5 tokenizer, or holds characters unknown to it.

        Where the folder leaves T5 out, CLIP reads the prompt alone: then it must not be too long for that tokenizer,
        which knows every character.
        """
        if not isinstance(prompt, str):
            raise InputError("prompt", found=repr(prompt), expected="a text")
        thing = f"prompt {prompt[:40] + '...' if len(prompt) > 40 else prompt!r}"
        tokenizer = self.t5_tokenizer()
        if tokenizer is None:
            clip = self._clip_tokenizer()
            if clip is not None:
                _check_length(thing, clip(prompt, verbose=False).input_ids, clip.model_max_length)
            return
        tokens = tokenizer(prompt, return_offsets_mapping=True, verbose=False)
        unknown = [
            prompt[slice(*span)]
            for token, span in zip(tokens.input_ids, tokens.offset_mapping, strict=True)
            if token == tokenizer.unk_token_id
        ]
        if unknown:
            characters = " ".join(sorted(set("".join(unknown)) - {" "}))
            raise InputError(thing, found=f"{characters} in it", expected="characters that the T5 tokenizer knows")
        _check_length(thing, tokens.input_ids, self.text_tokens)

    def _choose_guidance(self, mode: str) -> str:
        distilled = bool(self.pipe.transformer.config.get("guidance_embeds", False))
        if mode == "auto":
            return "distilled" if distilled else "classifier-free"
        if mode not in GUIDANCE_MODES:
            raise InputError("guidance_mode", found=repr(mode), expected=f"auto or one of {', '.join(GUIDANCE_MODES)}")
        if mode == "distilled" and not distilled:
            raise InputError(f"guidance_mode of {self.name}", found="no guidance embedding in it", expected="one")
        return mode


def _check_length(thing: str, tokens: Sequence[int], longest: int) -> None:
    if len(tokens) > longest:
        raise InputError(thing, found=f"{len(tokens)} tokens", expected=f"at most {longest}")

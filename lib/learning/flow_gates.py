"""How good a trained `tiny-flux` is: text to image through FluxPipeline itself on held-out scenes, judged by the
parser.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, FluxPipeline
from torch import Tensor

from lib.learning.autoencoder import encode_all
from lib.learning.flow_objective import guided, noise_levels, tokens
from lib.learning.flux_model import T5_LENGTH, TinyFlux, as_pipeline, pack
from lib.learning.gates import Gate
from lib.learning.parser import Parser, accuracies
from lib.learning.training import step_generator
from lib.world.language import caption
from lib.world.render import render_all
from lib.world.scenes import Scene, sample_scenes

JUDGED = ("object", "tint", "place", "background", "pattern")  # attributes with a gate


def text_to_image(
    pipeline: FluxPipeline,
    prompts: Sequence[str],
    *,
    guidance: float,
    steps: int = 28,
    true_cfg: bool = False,
    batch: int = 50,
) -> Tensor:
    """Pictures [N, 3, 64, 64] in [0, 1] of prompts; noise keyed by the prompt's index."""
    pictures = []
    for first in range(0, len(prompts), batch):
        part = list(prompts[first : first + batch])
        pictures.append(
            pipeline(
                part,
                negative_prompt=[""] * len(part) if true_cfg else None,
                true_cfg_scale=guidance if true_cfg else 1.0,
                guidance_scale=1.0 if true_cfg else guidance,
                num_inference_steps=steps,
                height=64,
                width=64,
                max_sequence_length=T5_LENGTH,
                generator=[step_generator(0, first + i) for i in range(len(part))],
                output_type="pt",
            ).images
        )
    return torch.cat(pictures)


@torch.no_grad()
def distillation_error(
    student: TinyFlux, teacher: TinyFlux, scenes: Sequence[Scene], latents: Tensor, scale: float
) -> float:
    """|v(w) - g| / |g| of the student against the teacher's guided velocity g = v_u + w (v_c - v_u).

    Latents are [N, 16, 16, 16], those of the scenes.
    """
    ids = tokens([caption(scene) for scene in scenes])
    draw, x0 = step_generator(0, 0), pack(latents)
    t, noise = noise_levels(len(x0), draw), torch.randn(x0.shape, generator=draw)
    x = x0 + t[:, None, None] * (noise - x0)
    scales = torch.full((len(x0),), scale)
    wanted = guided(teacher, x, t, ids, tokens([""]), scales)
    found = student(x, t, *student.embed(*ids), scales)
    return float((found - wanted).norm() / wanted.norm())


@dataclass(frozen=True)
class Levels:
    """The gates of `tiny-flux`: accuracy by the parser of pictures made from held-out captions (ship, goal)."""

    object: tuple[float, float] = (0.75, 0.90)
    others: tuple[float, float] = (0.90, 0.95)  # tint, place, background, pattern


def object_accuracy(parser: Parser, images: Tensor, scenes: Sequence[Scene]) -> float:
    """Share of the scenes' objects that the parser finds in their slot; empty slots count for nothing."""
    reads = zip(scenes, parser.read(images), strict=True)
    hits = [read[f"object.{i}"] == thing.noun for scene, read in reads for i, thing in enumerate(scene.things)]
    return sum(hits) / len(hits)


def measure(
    student: TinyFlux, teacher: TinyFlux, vae: AutoencoderKL, parser: Parser, *, count: int = 300, guidance: float = 3.5
) -> dict[str, float]:
    """Accuracies of pictures drawn from held-out captions, and the distillation's relative errors by scale.

    `single_*` (one object) and `pair_*` at distilled guidance, `cfg_*` (one object) at classifier-free guidance.
    """
    pipeline = as_pipeline(student, vae)
    pipeline.set_progress_bar_config(disable=True)
    found: dict[str, float] = {}
    for kind, objects, number in (("single", 1, count), ("cfg", 1, count // 2), ("pair", 2, count // 2)):
        scenes = [*sample_scenes("test", number, objects=objects, seed=21)]
        prompts = [caption(scene) for scene in scenes]
        images = text_to_image(pipeline, prompts, guidance=guidance, true_cfg=kind == "cfg")
        found |= {f"{kind}_{name}": value for name, value in accuracies(parser, images, scenes).items()}
        found[f"{kind}_object"] = object_accuracy(parser, images, scenes)
    scenes = [*sample_scenes("test", 100, seed=22)]
    latents = encode_all(vae, torch.from_numpy(render_all(scenes)).permute(0, 3, 1, 2)).float()
    errors = {
        scale: distillation_error(student, teacher, scenes, latents, scale) for scale in (1.0, 2.0, 3.5, 5.5, 8.0)
    }
    return found | {f"distillation_error_at_{scale:g}": error for scale, error in errors.items()}


def gates(found: dict[str, float], levels: Levels) -> list[Gate]:
    """The gated attributes of one-object scenes."""
    pairs = {name: levels.object if name == "object" else levels.others for name in JUDGED}
    return [Gate(f"{name} accuracy", found[f"single_{name}"], *pairs[name]) for name in JUDGED]

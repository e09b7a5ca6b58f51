"""`tiny-vae`: an AutoencoderKL (f4, 16 channels) trained on the world; the autoencoder of `tiny-flux`.

loss = L1 + MSE + beta * KL, latents sampled; shift and scale are measured so that the latents in use have mean 0 and
deviation 1.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from lib.core.paths import MODELS, RUNS
from lib.learning.gates import Gate, check_gates, write_card, write_metrics
from lib.learning.training import Run, step_generator, warm_stable_decay
from lib.world.render import render_all
from lib.world.scenes import sample_scenes


@dataclass(frozen=True)
class AutoencoderTraining:
    """Settings of the training; gates in dB of reconstruction PSNR on held-out scenes."""

    steps: int = 6500
    batch: int = 8
    scenes: int = 30000  # rendered once and kept in memory; one in three holds two objects
    lr: float = 1.5e-3
    beta: float = 3e-5  # weight of the KL term
    seed: int = 0
    ship_db: float = 29.0
    goal_db: float = 32.0


def build() -> AutoencoderKL:
    """The untrained autoencoder: 64 x 64 x 3 -> 16 x 16 x 16."""
    return AutoencoderKL(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=16,
        latent_channels=16,
        sample_size=64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def pictures(split: str, count: int, seed: int = 0) -> Tensor:
    """Rendered scenes of a split, one in three with two objects: uint8 [count, 3, 64, 64]."""
    pairs = count // 3
    single = render_all(sample_scenes(split, count - pairs, seed=seed))
    double = render_all(sample_scenes(split, pairs, objects=2, seed=seed))
    return torch.from_numpy(np.concatenate([single, double])).permute(0, 3, 1, 2).contiguous()


def to_model(images: Tensor) -> Tensor:
    """uint8 pictures to the range -1..1 of the autoencoder."""
    return images.float() / 127.5 - 1


@torch.inference_mode()
def reconstruction_psnr(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """PSNR in dB of decode(encode(x).mode()) per picture, clipped to the valid range; images uint8 [N, 3, 64, 64]."""
    errors = []
    for part in images.split(100):
        restored = vae.decode(vae.encode(to_model(part)).latent_dist.mode()).sample.clamp(-1, 1)
        errors.append(((restored - to_model(part)) / 2).square().mean(dim=(1, 2, 3)))
    return -10 * torch.cat(errors).log10()


@torch.inference_mode()
def encode_all(vae: AutoencoderKL, images: Tensor, batch: int = 40) -> Tensor:
    """Normalised latents (z - shift) * scale, mode not sample: float16 [N, 16, 16, 16] of uint8 pictures, computed in
    bfloat16.
    """
    shift, scale = vae.config.shift_factor, vae.config.scaling_factor
    with torch.autocast("cpu", torch.bfloat16):
        parts = [(vae.encode(to_model(part)).latent_dist.mode() - shift) * scale for part in images.split(batch)]
    return torch.cat([part.half() for part in parts]).contiguous()


def train(scratch: Path, settings: AutoencoderTraining) -> tuple[AutoencoderKL, dict[str, float]]:
    """Train (or resume) in `scratch`.

    Returns the averaged model with shift and scale set, and what was measured on test scenes.
    """
    torch.manual_seed(settings.seed)
    model = build()
    run = Run(
        scratch, model, [torch.optim.AdamW(model.parameters(), lr=settings.lr, betas=(0.9, 0.99), weight_decay=0.0)]
    )
    data = pictures("train", settings.scenes) if run.step < settings.steps else None
    for step in run.steps(settings.steps, "tiny-vae"):
        draw = step_generator(settings.seed, step)
        x = to_model(data[torch.randint(len(data), (settings.batch,), generator=draw)])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = model.encode(x).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=draw)
            restored = model.decode(posterior.mean + posterior.std * noise).sample.float()
        loss = (
            F.l1_loss(restored, x) + F.mse_loss(restored, x) + settings.beta * posterior.kl().mean() / noise[0].numel()
        )
        run.update(loss, warm_stable_decay(step, settings.steps))
        if step % 250 == 0:
            run.note(loss=loss.item())
    model.load_state_dict(run.ema)
    model.eval().requires_grad_(False)
    with torch.inference_mode():
        z = torch.cat([model.encode(to_model(p)).latent_dist.mode() for p in pictures("train", 600, seed=1).split(100)])
    model.register_to_config(shift_factor=z.mean().item(), scaling_factor=1 / z.std().item())
    psnr = reconstruction_psnr(model, pictures("test", 600))
    return model, {
        "psnr_db": psnr.mean().item(),
        "psnr_db_worst_tenth": psnr.quantile(0.1).item(),
        "seconds": run.seconds,
    }


SETTINGS = AutoencoderTraining
CONTINUABLE = ("steps", "ship_db", "goal_db")  # settings that may change without starting afresh


def inputs() -> dict[str, str]:
    """What the training reads besides the world: nothing."""
    return {}


def stage(scratch: Path, settings: AutoencoderTraining) -> dict[Path, Path]:
    """Train, judge, write the folder, the card and the metrics in `scratch`. Returns finished output -> final place."""
    model, found = train(scratch, settings)
    gates = [Gate("PSNR in dB", found["psnr_db"], settings.ship_db, settings.goal_db)]
    check_gates(gates, "tiny-vae")
    folder = scratch / "tiny-vae"
    model.half().save_pretrained(folder, safe_serialization=True)
    about = {
        "What": "An AutoencoderKL of 0.94 M parameters (f4, 16 channels), made for the autoencoder of tiny-flux.",
        "Data": f"{settings.scenes} scenes of the emoji world, train split; "
        f"{settings.steps} steps of {settings.batch} pictures.",
        "Limits": "64 x 64 drawings only. The worst tenth of held-out scenes lies under "
        f"{found['psnr_db_worst_tenth']:.1f} dB.",
        "Time": f"{found['seconds'] / 60:.0f} minutes on two CPU cores.",
    }
    write_card(folder, "tiny-vae", about, gates)
    measured = {name: value for name, value in found.items() if name != "seconds"}
    metrics = write_metrics(scratch / "metrics.json", measured)
    return {folder: MODELS / "tiny-vae", metrics: RUNS / "tiny-vae" / "metrics.json"}

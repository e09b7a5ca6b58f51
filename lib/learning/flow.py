"""`tiny-flux`: flow matching on the world, one-object scenes first, two-object scenes second, then with the weight on
the objects, guidance distillation after it; then a second sitting that goes on from what the first one shipped.

Flow matching (Lipman et al. 2210.02747, rectified flow 2209.03003): x_t = (1-t) x0 + t eps, loss |v(x_t, t, c) - (eps
- x0)|^2.
Guidance distillation (Meng et al. 2210.03142): a frozen copy of the weights gives v_u + w (v_c - v_u); the student,
told w, learns to equal it.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from einops import reduce
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from lib.core.errors import InputError
from lib.core.paths import MODELS, RUNS
from lib.core.recipe import hash_folder
from lib.learning.autoencoder import encode_all
from lib.learning.flow_gates import Levels, gates, measure
from lib.learning.flow_objective import guided, noise_levels, tokens
from lib.learning.flux_model import TinyFlux, as_pipeline, pack, save_half
from lib.learning.gates import check_gates, write_card, write_metrics
from lib.learning.parser import load_parser
from lib.learning.training import Run, muon_and_adamw, step_generator, warm_stable_decay
from lib.world.language import caption, training_caption
from lib.world.render import render_all, silhouette
from lib.world.scenes import Scene, sample_scenes

CAPTIONS_PER_SCENE = 3  # the first complete, the others with attributes left unsaid now and then


@dataclass(frozen=True)
class FlowTraining:
    """Settings of the training.

    Steps are cumulative: singles until `singles`, both until `pairs`, both with the weight on the objects until
    `focused`, distillation until `distilled`. A second sitting, if `resumed` lies beyond that, does flow matching with
    the weight on the objects until `resumed` and distillation until `retaught`.
    """

    singles: int = 5000
    pairs: int = 9000
    focused: int = 14000
    distilled: int = 15000
    resumed: int = 0
    retaught: int = 0
    focus: float = 4.0  # weight in the loss of a token that an object touches
    single_scenes: int = 30000
    pair_scenes: int = 15000
    batch: int = 48
    decay: float = 0.5  # share of the flow matching over which the learning rate goes to zero
    muon_lr: float = 0.02
    adamw_lr: float = 1e-3
    resumed_lr: float = 0.7  # of both, where the second sitting begins; from there linearly to zero
    prompt_dropout: float = 0.1
    guidance_range: tuple[float, float] = (1.0, 8.0)  # scales that are distilled
    seed: int = 0
    ship_object: float = 0.75  # object accuracy on held-out one-object scenes without which nothing is published


@dataclass(frozen=True)
class Corpus:
    """Encoded scenes: latents [N, 16, 16, 16] half, tokens with an object [N, 64] bool, ids [N, captions, L]."""

    latents: Tensor
    touched: Tensor
    clip_ids: Tensor
    t5_ids: Tensor
    singles: int  # the first so many scenes hold one object

    def batch(
        self, size: int, draw: torch.Generator, *, pair_share: float, drop: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Packed latents [B, 64, 64], token ids, and [B, 64] where an object is that the caption places.

        `pair_share` of the rows hold two objects, `drop` have the empty prompt. A complete caption says where its
        objects are, so weighting there leaves the velocity that is learned unbiased but for the jitter of 2 pixels;
        rows with another caption have no such place.
        """
        pairs = round(size * pair_share)
        rows = torch.cat([
            torch.randint(self.singles, (size - pairs,), generator=draw),
            torch.randint(self.singles, max(len(self.latents), self.singles + 1), (pairs,), generator=draw),
        ])  # fmt: skip
        said = torch.randint(-1, self.clip_ids.shape[1], (size,), generator=draw).clamp(
            min=0
        )  # complete twice as often
        clip_ids, t5_ids = self.clip_ids[rows, said].long(), self.t5_ids[rows, said].long()
        empty = torch.rand(size, generator=draw) < drop
        null_clip, null_t5 = tokens([""])
        return (
            pack(self.latents[rows].float()),
            torch.where(empty[:, None], null_clip, clip_ids),
            torch.where(empty[:, None], null_t5, t5_ids),
            self.touched[rows] & (~empty & (said == 0))[:, None],
        )


def touched_tokens(scene: Scene) -> np.ndarray:
    """Which of the 8 x 8 tokens an object touches: bool [64], row by row."""
    covers = [silhouette(scene, slot) for slot in range(len(scene.things))]
    return reduce(np.max(covers, axis=0), "(h p) (w q) -> (h w)", "max", p=8, q=8) > 0


def corpus(scratch: Path, vae: AutoencoderKL, settings: FlowTraining) -> Corpus:
    """Render, encode and caption the training scenes once; kept in `scratch` for a resumed run."""
    file = scratch / "corpus.safetensors"
    if not file.is_file():
        scenes: list[Scene] = [*sample_scenes("train", settings.single_scenes, seed=settings.seed)]
        scenes += sample_scenes("train", settings.pair_scenes, objects=2, seed=settings.seed)
        parts = [scenes[i : i + 2000] for i in range(0, len(scenes), 2000)]
        images = (torch.from_numpy(render_all(part)).permute(0, 3, 1, 2).contiguous() for part in parts)
        latents = torch.cat([encode_all(vae, part) for part in tqdm(images, "encoding", len(parts), disable=None)])
        rng = Random(settings.seed)
        said = [[caption(s), *(training_caption(s, rng, 0.4) for _ in range(CAPTIONS_PER_SCENE - 1))] for s in scenes]
        ids = [tokens([texts[k] for texts in said]) for k in range(CAPTIONS_PER_SCENE)]
        clip_ids, t5_ids = (torch.stack(each, 1).to(torch.int16) for each in zip(*ids, strict=True))
        touched = torch.from_numpy(np.stack([touched_tokens(scene) for scene in scenes]))
        kept = {"latents": latents, "touched": touched, "clip_ids": clip_ids, "t5_ids": t5_ids}
        save_file(kept, file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
    return Corpus(**load_file(file), singles=settings.single_scenes)


def train(scratch: Path, vae: AutoencoderKL, settings: FlowTraining) -> tuple[TinyFlux, TinyFlux, float]:
    """Train (or resume) in `scratch`: the flow, then the distillation from its moving average; both again if told to.

    Returns (student, teacher, seconds).
    """
    data = corpus(scratch, vae, settings)
    flow = train_flow(part_of(scratch, "flow"), data, settings)
    first = f"{settings.focused}-{settings.decay:g}"  # another teacher, another student
    lessons = part_of(scratch, f"distillation-{first}")
    student = distil(lessons, flow.model, data, settings, total=settings.distilled - settings.focused, first=0)
    seconds = flow.seconds + student.seconds
    if settings.resumed > settings.distilled:
        second = f"{first}-{settings.distilled}-{settings.resumed}"
        flow = resume_flow(part_of(scratch, f"flow-{second}"), student.model, data, settings)
        lessons, total = part_of(scratch, f"distillation-{second}"), settings.retaught - settings.resumed
        student = distil(lessons, flow.model, data, settings, total=total, first=settings.resumed)
        seconds += flow.seconds + student.seconds
    return student.model, flow.model, seconds


def part_of(scratch: Path, name: str) -> Path:
    """A folder in the scratch, made if it is not there."""
    (scratch / name).mkdir(exist_ok=True)
    return scratch / name


def train_flow(scratch: Path, data: Corpus, settings: FlowTraining) -> Run:
    """The phases of flow matching; the returned run's model holds the moving average."""
    torch.manual_seed(settings.seed)
    run = flow_run(scratch, TinyFlux(), settings)
    for step in run.steps(settings.focused, "tiny-flux"):
        share = 0.0 if step < settings.singles else 0.4
        focus = settings.focus if step >= settings.pairs else 1.0
        loss = flow_loss(run.model, data, settings, step, pair_share=share, focus=focus)
        run.update(loss, warm_stable_decay(step, settings.focused, decay=settings.decay))
        if step % 100 == 0:
            run.note(loss=loss.item())
    run.model.load_state_dict(run.ema)
    return run


def resume_flow(scratch: Path, shipped: TinyFlux, data: Corpus, settings: FlowTraining) -> Run:
    """The second sitting: from the first one's weights as they are shipped (bfloat16), with optimisers that start anew.

    As many two-object scenes as one-object ones.
    """
    run = flow_run(scratch, shipped.to(torch.bfloat16).float().train().requires_grad_(True), settings)
    total = settings.resumed - settings.distilled
    for step in run.steps(total, "tiny-flux, second sitting"):
        loss = flow_loss(run.model, data, settings, settings.distilled + step, pair_share=0.5, focus=settings.focus)
        run.update(loss, settings.resumed_lr * warm_stable_decay(step, total, decay=1.0))
        if step % 100 == 0:
            run.note(loss=loss.item())
    run.model.load_state_dict(run.ema)
    return run


def flow_run(scratch: Path, model: TinyFlux, settings: FlowTraining) -> Run:
    """A run of flow matching from a model's weights, or from its checkpoint in `scratch`."""
    optimizers = muon_and_adamw(model.modules_by_optimiser(), muon_lr=settings.muon_lr, adamw_lr=settings.adamw_lr)
    return Run(scratch, model, optimizers, ema_decay=0.999)


def flow_loss(
    model: TinyFlux, data: Corpus, settings: FlowTraining, step: int, *, pair_share: float, focus: float
) -> Tensor:
    """The flow-matching loss of one step's batch; tokens of objects that the caption places count `focus` times."""
    draw = step_generator(settings.seed, step)
    x0, clip_ids, t5_ids, placed = data.batch(settings.batch, draw, pair_share=pair_share, drop=settings.prompt_dropout)
    t, noise = noise_levels(len(x0), draw), torch.randn(x0.shape, generator=draw)
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):  # the fused one's backward is slow
        x = x0 + t[:, None, None] * (noise - x0)
        velocity = model(x, t, *model.embed(clip_ids, t5_ids), torch.ones(len(x0)))
    weight = 1 + (focus - 1) * placed[..., None]
    error = (velocity.float() - (noise - x0)).square()
    return (weight * error).sum() / weight.expand_as(error).sum()


def distil(scratch: Path, teacher: TinyFlux, data: Corpus, settings: FlowTraining, *, total: int, first: int) -> Run:
    """Distil classifier-free guidance into the guidance embedding in `total` steps; `first` keys the first one's draws.

    One row in four keeps guidance 1, the plain velocity.
    """
    teacher.eval().requires_grad_(False)
    student = TinyFlux()
    student.load_state_dict(teacher.state_dict())
    run = Run(scratch, student, [torch.optim.AdamW(student.parameters(), lr=3e-4, weight_decay=0.0)], ema_decay=0.995)
    low, high = settings.guidance_range
    null_clip, null_t5 = tokens([""])
    for step in run.steps(total, "tiny-flux, guidance"):
        draw = step_generator(settings.seed, first + step, "distillation")
        x0, clip_ids, t5_ids, _ = data.batch(settings.batch // 2, draw, pair_share=0.4, drop=0.05)
        t, noise = noise_levels(len(x0), draw), torch.randn(x0.shape, generator=draw)
        scale = low + (high - low) * torch.rand(len(x0), generator=draw)
        scale = torch.where(torch.rand(len(x0), generator=draw) < 0.25, 1.0, scale)
        with torch.autocast("cpu", torch.bfloat16):
            x = x0 + t[:, None, None] * (noise - x0)
            target = guided(teacher, x, t, (clip_ids, t5_ids), (null_clip, null_t5), scale)
            velocity = student(x, t, *student.embed(clip_ids, t5_ids), scale)
        loss = F.mse_loss(velocity.float(), target)
        run.update(loss, warm_stable_decay(step, total, warm=50, decay=0.7))
        if step % 50 == 0:
            run.note(loss=loss.item())
    student.load_state_dict(run.ema)
    student.eval().requires_grad_(False)
    return run


@torch.no_grad()
def held_out_loss(model: TinyFlux, vae: AutoencoderKL, count: int = 300) -> float:
    """Flow-matching loss at guidance 1 on held-out one-object scenes, at noise levels spread evenly."""
    scenes = [*sample_scenes("test", count, seed=7)]
    x0 = pack(encode_all(vae, torch.from_numpy(render_all(scenes)).permute(0, 3, 1, 2)).float())
    draw = step_generator(0, 0)
    t, noise = (torch.arange(count) + 0.5) / count, torch.randn(x0.shape, generator=draw)
    losses = []
    for rows in torch.arange(count).split(50):
        embedded = model.embed(*tokens([caption(scenes[i]) for i in rows]))
        x = x0[rows] + t[rows, None, None] * (noise[rows] - x0[rows])
        velocity = model(x, t[rows], *embedded, torch.ones(len(rows)))
        losses.append((velocity - (noise[rows] - x0[rows])).square().mean(dim=(1, 2)))
    return float(np.mean(torch.cat(losses).numpy()))


SETTINGS = FlowTraining
CONTINUABLE = ("focused", "distilled", "decay", "resumed", "retaught", "ship_object")


def inputs() -> dict[str, str]:
    """What the training reads besides the world: the autoencoder's latents.

    Raises:
        InputError: if there is no autoencoder.
    """
    if not (MODELS / "tiny-vae" / "config.json").is_file():
        raise InputError("models/tiny-vae", found="no such folder", expected="the stage `tiny-vae` to have run")
    return {"tiny-vae": hash_folder(MODELS / "tiny-vae")}


def stage(scratch: Path, settings: FlowTraining) -> dict[Path, Path]:
    """Train, judge by the parser, write the pipeline folder, the card and the metrics.

    Returns finished output -> final place.
    """
    parser = load_parser(MODELS / "parser")  # before the training: a missing judge is known at once
    vae = AutoencoderKL.from_pretrained(MODELS / "tiny-vae", torch_dtype=torch.float32, use_safetensors=True).eval()
    student, teacher, seconds = train(scratch, vae, settings)
    found = measure(student, teacher, vae, parser)
    found["loss_held_out"] = held_out_loss(student, vae)
    judged = gates(found, Levels(object=(settings.ship_object, Levels.object[1])))
    check_gates(judged, "tiny-flux")
    folder = scratch / "tiny-flux"
    save_half(as_pipeline(student, vae), folder)
    scenes = f"{settings.single_scenes} one-object and {settings.pair_scenes} two-object scenes"
    errors = ", ".join(f"{k.rpartition('_')[2]}: {v:.2f}" for k, v in found.items() if k.startswith("distillation"))
    again = (
        f"; from there, as shipped, a second sitting with as many scenes of two objects as of one, up to "
        f"{settings.resumed}, to {settings.retaught} distillation"
        if settings.resumed > settings.distilled
        else ""
    )
    about = {
        "What": "A complete FluxPipeline: FluxTransformer2DModel (2 double, 4 single blocks, 6 heads of 32; 5.2 M "
        "parameters), CLIP text model, T5 encoder, both tokenizers, tiny-vae, FLUX.1-dev's scheduler.",
        "Data": f"{scenes} of the emoji world, train split, with captions; {settings.singles} steps of "
        f"{settings.batch} on one object, up to {settings.pairs} on both, up to {settings.focused} on both with the "
        f"objects' tokens weighted by {settings.focus:g}, to {settings.distilled} distillation{again}.",
        "Guidance": f"1 is the plain conditional velocity; 1 to 8 is distilled. Relative error by scale: {errors}.",
        "Limits": "64 x 64 drawings and the words of the world only; it cannot edit photographs. Other words are "
        "spelled in letters that it never learned to read.",
        "Time": f"{seconds / 60:.0f} minutes on two CPU cores.",
    }
    if settings.ship_object < FlowTraining.ship_object:
        lowered = (
            f" Shipped at a lowered gate: object accuracy {settings.ship_object:g}, not {FlowTraining.ship_object:g}."
        )
        about["Limits"] += lowered
    write_card(folder, "tiny-flux", about, judged)
    metrics = write_metrics(scratch / "metrics.json", found)
    return {folder: MODELS / "tiny-flux", metrics: RUNS / "tiny-flux" / "metrics.json"}

"""`parser`: reads a scene's attributes off its picture. The judge of attribute accuracy; trained on the world, on
nothing else.

A small convolutional network with one classifier per attribute and slot; attributes that a picture does not have
carry no loss.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lib.core.errors import InputError
from lib.core.paths import MODELS, RUNS, resolve
from lib.learning.gates import Gate, check_gates, write_card, write_metrics
from lib.learning.training import Run, step_generator, stream_seed, warm_stable_decay
from lib.world.render import render_all
from lib.world.scenes import Scene, sample_scene, sample_scenes
from lib.world.vocabulary import (
    ACCESSORIES,
    BACKGROUNDS,
    HAIRS,
    NOUNS,
    PATTERNS,
    PEOPLE,
    PLACES,
    SIZES,
    SKINS,
    STYLES,
    TINTS,
)

SLOT_HEADS = {"tint": TINTS, "size": SIZES, "place": PLACES, "accessory": ACCESSORIES, "skin": SKINS, "hair": HAIRS}
HEADS: dict[str, tuple[str, ...]] = {  # every attribute and its values, in the order of the classifiers' outputs
    "background": tuple(BACKGROUNDS),
    "pattern": PATTERNS,
    "style": STYLES,
    "object.0": NOUNS,
    "object.1": ("none", *NOUNS),
    **{f"{name}.{slot}": tuple(values) for slot in (0, 1) for name, values in SLOT_HEADS.items()},
}
IGNORE = -100  # label of an attribute that the picture does not have


class Residual(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x))))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(m for _ in range(2) for m in (
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False))))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Parser(nn.Module):
    """Picture [B, 3, 64, 64] in [0, 1] -> logits per attribute."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),  # 32 x 32
            Residual(width),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),  # 16 x 16
            Residual(2 * width),
            nn.Conv2d(2 * width, 3 * width, 4, stride=2, padding=1),  # 8 x 8
            Residual(3 * width),
            nn.BatchNorm2d(3 * width),
            nn.ReLU(),
            nn.Conv2d(3 * width, width // 2, 1),
            nn.Flatten(),  # places matter: no pooling
            nn.Linear(width // 2 * 64, 128),
            nn.ReLU(),
        )
        self.heads = nn.Linear(128, sum(map(len, HEADS.values())))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        logits = self.heads(self.features(images * 2 - 1))
        return dict(zip(HEADS, logits.split([len(v) for v in HEADS.values()], dim=1), strict=True))

    @torch.inference_mode()
    def read(self, images: Tensor, batch: int = 256) -> list[dict[str, str]]:
        """Attributes of each picture [B, 3, 64, 64] in [0, 1], with the keys of `Scene.attributes`."""
        if images.ndim != 4 or images.shape[1:] != (3, 64, 64):
            raise InputError("picture for the parser", found=list(images.shape), expected="[B, 3, 64, 64]")
        found = []
        for part in images.split(batch):
            picked = {name: logits.argmax(1).tolist() for name, logits in self(part).items()}
            found += [{name: HEADS[name][picked[name][row]] for name in HEADS} for row in range(len(part))]
        return [_present(values) for values in found]


def _present(values: dict[str, str]) -> dict[str, str]:
    """Keep what the objects read can have: skin and hair are people's, tint and accessory everything else's."""
    kept = {name: values[name] for name in ("background", "pattern", "style")}
    for slot in (0, 1):
        noun = kept[f"object.{slot}"] = values[f"object.{slot}"]
        if noun != "none":
            own = ("skin", "hair", "size", "place") if noun in PEOPLE else ("tint", "size", "place", "accessory")
            kept |= {f"{name}.{slot}": values[f"{name}.{slot}"] for name in own}
    return kept


def load_parser(folder: str | Path) -> Parser:
    """The trained parser of a folder, in evaluation mode."""
    folder = resolve(folder)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise InputError(
            f"parser {folder.name}", found="no model.safetensors", expected="a folder made by the stage `parser`"
        )
    parser = Parser(json.loads((folder / "config.json").read_text())["width"])
    parser.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(weights).items()})
    return parser.eval().requires_grad_(False)


def save_parser(parser: Parser, folder: Path) -> None:
    """Half-precision weights and the width."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in parser.state_dict().items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"width": parser.width}) + "\n")


@dataclass(frozen=True)
class ParserTraining:
    """Settings of the training; the gate is the worst attribute's accuracy on held-out renders."""

    steps: int = 3700
    train_split_steps: int = (
        3000  # so long only the train split's compositions are drawn, then every composition: a judge must know all
    )
    batch: int = 64
    lr: float = 2e-3
    seed: int = 0
    noise: float = 0.05  # largest deviation of the noise added in training, so that decoded pictures read as well
    ship_accuracy: float = 0.98


def labels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Class index per attribute and scene, IGNORE where the scene does not have it."""
    rows = [scene.attributes() for scene in scenes]
    return {
        name: torch.tensor([values.index(row[name]) if name in row else IGNORE for row in rows])
        for name, values in HEADS.items()
    }


def degrade(images: Tensor, level: float, draw: torch.Generator) -> Tensor:
    """Blur and noise of random strength per picture: what an autoencoder and a sampler do to a render."""
    weight = torch.rand(len(images), 1, 1, 1, generator=draw) * (torch.rand(len(images), 1, 1, 1, generator=draw) < 0.6)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    noise = torch.randn(images.shape, generator=draw) * level * torch.rand(len(images), 1, 1, 1, generator=draw)
    return (images.lerp(blurred, weight * 0.7) + noise).clamp(0, 1)


def to_unit(pictures: np.ndarray) -> Tensor:
    """uint8 [N, 64, 64, 3] renders to the image contract: float32 [N, 3, 64, 64] in [0, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def accuracies(parser: Parser, images: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """Accuracy per kind of attribute (slots together): how often pictures [N, 3, 64, 64] are read as the scenes they
    should show.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for scene, read in zip(scenes, parser.read(images), strict=True):
        for name, value in scene.attributes().items():
            right[name.partition(".")[0]].append(read.get(name) == value)
    return {name: float(np.mean(hits)) for name, hits in right.items()}


def training_scenes(settings: ParserTraining, step: int) -> list[Scene]:
    """The scenes of one batch, one in three with two objects."""
    pairs = settings.batch // 3
    if step >= settings.train_split_steps:
        rng = Random(f"parser/{settings.seed}/{step}")
        return [sample_scene(rng, 2 if index < pairs else 1) for index in range(settings.batch)]
    seed = stream_seed(settings.seed, step + 1, "scenes")
    single = sample_scenes("train", settings.batch - pairs, seed=seed)
    return [*single, *sample_scenes("train", pairs, objects=2, seed=seed)]


def train(scratch: Path, settings: ParserTraining) -> tuple[Parser, dict[str, float]]:
    """Train (or resume) in `scratch`, every batch rendered afresh.

    Returns the averaged model and accuracies on test scenes.
    """
    torch.manual_seed(settings.seed)
    parser = Parser()
    run = Run(
        scratch, parser, [torch.optim.AdamW(parser.parameters(), lr=settings.lr, weight_decay=1e-4)], ema_decay=0.998
    )
    for step in run.steps(settings.steps, "parser"):
        draw = step_generator(settings.seed, step)
        scenes = training_scenes(settings, step)
        with torch.autocast("cpu", torch.bfloat16):
            logits = parser(degrade(to_unit(render_all(scenes)), settings.noise, draw))
        losses = [F.cross_entropy(logits[k].float(), y) for k, y in labels(scenes).items() if (y != IGNORE).any()]
        loss = torch.stack(losses).sum()
        run.update(loss, warm_stable_decay(step, settings.steps), clip=10.0)
        if step % 250 == 0:
            run.note(loss=loss.item())
    parser.load_state_dict(run.ema)
    parser.eval().requires_grad_(False)
    held_out = [*sample_scenes("test", 1500), *sample_scenes("test", 750, objects=2)]
    found = accuracies(parser, to_unit(render_all(held_out)), held_out)
    return parser, {f"accuracy_{name}": value for name, value in found.items()} | {"seconds": run.seconds}


SETTINGS = ParserTraining
CONTINUABLE = ("steps", "ship_accuracy")


def inputs() -> dict[str, str]:
    """What the training reads besides the world: nothing."""
    return {}


def stage(scratch: Path, settings: ParserTraining) -> dict[Path, Path]:
    """Train, judge, write the folder, the card and the metrics in `scratch`. Returns finished output -> final place."""
    parser, found = train(scratch, settings)
    measured = {name: value for name, value in found.items() if name != "seconds"}
    gates = [Gate(name, value, settings.ship_accuracy, settings.ship_accuracy) for name, value in measured.items()]
    check_gates(gates, "parser")
    folder = scratch / "parser"
    save_parser(parser, folder)
    about = {
        "What": "A convolutional network of 0.54 M parameters that reads every attribute of a 64 x 64 scene: the judge "
        "of attribute accuracy.",
        "Data": f"{settings.steps * settings.batch} fresh renders, some blurred and noisy, of the train split and from "
        f"step {settings.train_split_steps} on of every composition: it is a judge, not a contestant. No generated "
        "picture.",
        "Limits": "It always answers: a picture from outside the world is read as some scene. The gates are measured "
        "on renders never trained on.",
        "Time": f"{found['seconds'] / 60:.0f} minutes on two CPU cores.",
    }
    write_card(folder, "parser", about, gates)
    metrics = write_metrics(scratch / "metrics.json", measured)
    return {folder: MODELS / "parser", metrics: RUNS / "parser" / "metrics.json"}

"""`identity-b`: the identity encoder that only scores; nothing is ever trained against it.

Patches, group norm, maximum pooling; supervised contrastive loss (Khosla et al. 2020, eq. 2).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.learning.identity import IdentityEncoder
from lib.learning.identity_data import finish, train


@dataclass(frozen=True)
class IdentityBTraining:
    """Settings of the training; gates in verification accuracy on held-out identities."""

    steps: int = 2000
    identities: int = 32  # of a batch
    views: int = 3  # of each
    lr: float = 1e-3
    seed: int = 2
    temperature: float = 0.1
    contrast: float = 0.2  # largest relative change of contrast and of brightness
    ship_accuracy: float = 0.95
    goal_accuracy: float = 0.98


def supervised_contrast(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean over anchors and their positives p of -log softmax over all others of cos / temperature, at p."""
    own = torch.eye(len(labels), dtype=torch.bool)
    positive = (labels[:, None] == labels[None]) & ~own
    logits = (embeddings @ embeddings.T / temperature).masked_fill(own, float("-inf"))
    likely = logits.log_softmax(1).masked_fill(~positive, 0)
    return -(likely.sum(1) / positive.sum(1)).mean()


def augment(images: Tensor, draw: torch.Generator, contrast: float = 0.2) -> Tensor:
    """Mirrored, brighter or darker, steeper or flatter, coarser, and one small square covered: each by chance."""

    def chance(share: float) -> Tensor:
        return torch.rand(len(images), 1, 1, 1, generator=draw) < share

    def change() -> Tensor:
        return 1 + contrast * (2 * torch.rand(len(images), 1, 1, 1, generator=draw) - 1)

    images = torch.where(chance(0.5), images.flip(3), images)
    coarse = F.interpolate(F.interpolate(images, scale_factor=0.5, mode="area"), scale_factor=2, mode="bilinear")
    images = torch.where(chance(0.3), coarse, images)
    images = (images - 0.5) * change() + 0.5 * change()
    rows, columns = torch.arange(images.shape[2])[:, None], torch.arange(images.shape[3])[None]
    top, left = (torch.randint(side - 12, (len(images), 1, 1, 1), generator=draw) for side in images.shape[2:])
    covered = (rows >= top) & (rows < top + 12) & (columns >= left) & (columns < left + 12) & chance(0.3)
    return images.masked_fill(covered, 0.5).clamp(0, 1)


class SupervisedContrast(nn.Module):
    """The encoder and its loss."""

    def __init__(self, settings: IdentityBTraining) -> None:
        super().__init__()
        self.encoder = IdentityEncoder("plain")
        self.temperature = settings.temperature

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """`supervised_contrast` at the settings' temperature."""
        return supervised_contrast(embeddings, labels, self.temperature)


SETTINGS = IdentityBTraining
CONTINUABLE = ("steps", "ship_accuracy", "goal_accuracy")


def inputs() -> dict[str, str]:
    """What the training reads besides the world: nothing."""
    return {}


def stage(scratch: Path, settings: IdentityBTraining) -> dict[Path, Path]:
    """Train, judge, write the folder, the card and the metrics in `scratch`. Returns finished output -> final place."""
    torch.manual_seed(settings.seed)
    objective = SupervisedContrast(settings)

    def changed(images: Tensor, draw: torch.Generator) -> Tensor:
        return augment(images, draw, settings.contrast)

    seconds = train(scratch, objective, settings, changed, "identity-b")
    what = "A plain network with group norm and maximum pooling, trained by supervised contrast."
    return finish(scratch, objective.encoder, settings, seconds, "identity-b", what)

"""`identity-a`: the identity encoder that an editor may be trained against.

Residual, batch norm, average pooling; classification with a cosine margin (CosFace, Wang et al. 2018, eq. 4).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.learning.identity import IdentityEncoder
from lib.learning.identity_data import CLASSES, finish, train
from lib.learning.parser import degrade


@dataclass(frozen=True)
class IdentityATraining:
    """Settings of the training; gates in verification accuracy on held-out identities."""

    steps: int = 2000
    identities: int = 32  # of a batch
    views: int = 3  # of each
    lr: float = 2e-3
    seed: int = 1
    scale: float = 20.0  # CosFace's s
    margin: float = 0.2  # CosFace's m
    noise: float = 0.05  # largest deviation of the noise added to pictures
    ship_accuracy: float = 0.95
    goal_accuracy: float = 0.98


class CosineMargin(nn.Module):
    """One unit vector per training identity beside the encoder."""

    def __init__(self, settings: IdentityATraining) -> None:
        super().__init__()
        self.encoder = IdentityEncoder("residual")
        self.classes = nn.Parameter(torch.randn(len(CLASSES), 64))
        self.scale, self.margin = settings.scale, settings.margin

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of s (cos - m [own class])."""
        cosines = embeddings @ F.normalize(self.classes, dim=1).T
        return F.cross_entropy(self.scale * (cosines - self.margin * F.one_hot(labels, len(CLASSES))), labels)


SETTINGS = IdentityATraining
CONTINUABLE = ("steps", "ship_accuracy", "goal_accuracy")


def inputs() -> dict[str, str]:
    """What the training reads besides the world: nothing."""
    return {}


def stage(scratch: Path, settings: IdentityATraining) -> dict[Path, Path]:
    """Train, judge, write the folder, the card and the metrics in `scratch`. Returns finished output -> final place."""
    torch.manual_seed(settings.seed)
    objective = CosineMargin(settings)

    def augment(images: Tensor, draw: torch.Generator) -> Tensor:
        return degrade(images, settings.noise, draw)

    seconds = train(scratch, objective, settings, augment, "identity-a")
    what = "A residual network with batch norm and average pooling, trained by classification with a cosine margin."
    return finish(scratch, objective.encoder, settings, seconds, "identity-a", what)

"""What a notebook edits and who judges it: the world by its parser, any other benchmark by CLIP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lib.bench.cases import EditCase
from lib.bench.registry import open_benchmark
from lib.core.errors import InputError
from lib.core.images import fit_to
from lib.core.paths import MODELS
from lib.editors.anchors import ANCHORS
from lib.editors.picture import side_of
from lib.metrics.clip_judge import open_clip
from lib.studio.tables import TITLES, WORLD_SCORES

if TYPE_CHECKING:
    from lib.backbones.base import Backbone
    from lib.metrics.extractors import ImageTextEncoder
    from lib.metrics.score import Parser

WORLD = "world"
BY_CLIP = ("clip_t", "background_psnr", "background_ssim")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Cases, each with a mask, a source prompt and a type of edit, and their judge, of which there is one."""

    cases: list[EditCase]
    benchmark: str
    parser: Parser | None = None  # of the world
    clip: ImageTextEncoder | None = None  # of everything else

    @property
    def world(self) -> bool:
        """Whether right answers are known."""
        return self.parser is not None

    @property
    def place(self) -> str:
        """Where the cases are from, in a sentence: "the world", or the benchmark's name."""
        return f"the {WORLD}" if self.world else self.benchmark

    @property
    def metrics(self) -> list[str]:
        """The scores of a table, the one for how well an edit did what was asked first."""
        return list(WORLD_SCORES if self.world else BY_CLIP)

    @property
    def alignment(self) -> str:
        """The first of `metrics`."""
        return self.metrics[0]

    @property
    def name(self) -> str:
        """What `alignment` is called in a sentence: "attribute accuracy"."""
        return TITLES[self.alignment].removesuffix(" ↑")

    @property
    def axis(self) -> tuple[str, str]:
        """`alignment` with the label of its axis."""
        return self.alignment, f"{self.name} (higher: more edited)"

    @property
    def happened(self) -> list[str]:
        """The score for whether anything changed that should, where there is one."""
        return ["edit_happened"] if self.world else []

    def anchors(self, names: Sequence[str]) -> list[str]:
        """Those of the anchors that need no right answer that is not known."""
        return [name for name in names if self.world or not ANCHORS[name].needs_target_image]

    def says(self, value: float) -> str:
        """A mean of `alignment` in words."""
        if self.world:
            return f"{value:.0%} of the wanted attributes right"
        return f"a CLIP similarity of {value:.3f} to the target prompt"


def evaluation_on(
    benchmark: str, folder: str, backbone: Backbone, *, split: str = "test", cases: int | None = None, clip: str = ""
) -> Evaluation:
    """Cases of a benchmark (`lib.bench.registry`), so many of them or all, and their judge.

    `folder` is where it lies, "" if it needs none; `clip` names the judge of what is not the world
    (`lib.metrics.clip_judge`). Pictures larger than those that the model was trained on are shrunk to that size.

    Raises:
        InputError: as `open_benchmark` and `open_clip` do; for a case without a mask, a source prompt or a type
            of edit.
    """
    found = open_benchmark(benchmark, folder=folder or None, split=split, count=cases)
    if benchmark == WORLD:
        return judged(list(found), benchmark, clip, backbone)
    return judged(list(fitting(found, backbone)), benchmark, clip, backbone)


def judged(cases: list[EditCase], benchmark: str, clip: str, backbone: Backbone) -> Evaluation:
    """The cases with the judge that belongs to their benchmark, CLIP on the model's device."""
    if benchmark == WORLD:
        from lib.learning.parser import load_parser

        return Evaluation(cases, benchmark, parser=load_parser(MODELS / "parser"))
    return Evaluation(cases, benchmark, clip=open_clip(clip, backbone.device.type))


def fitting(cases: Sequence[EditCase], backbone: Backbone) -> Iterator[EditCase]:
    """The cases one by one at a size that the model can edit, each checked."""
    for case in cases:
        for thing in ("mask", "source_prompt", "edit_type"):
            if getattr(case, thing) is None:
                raise InputError(f"{thing.replace('_', ' ')} of case {case.id!r}", found="none", expected="one")
        sized = {"multiple": backbone.multiple, "max_side": side_of(backbone)}
        pictures = {name: getattr(case, name) for name in ("image", "mask", "target_image")}
        yield replace(case, **{name: x if x is None else fit_to(x, **sized) for name, x in pictures.items()})

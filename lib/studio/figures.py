"""The figures of the notebooks: one style, one colour per editor, and pages of pictures laid out pixel by pixel.

Small pictures are enlarged by whole factors, without smoothing, so that every pixel of the model's is seen; text has
room of its own. Figures come back closed: a cell ends with `keep`, which saves one and shows what it saved.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from lib.core.errors import InputError
from lib.core.images import to_uint8
from lib.stages.outputs import DOTS, out_dir, save_figure
from lib.world.edits import EDIT_TYPES

if TYPE_CHECKING:
    from IPython.display import Image as DisplayedImage
    from matplotlib.figure import Figure

    from lib.bench.cases import EditCase

# Okabe and Ito's colours, told apart with every kind of colour vision; their yellow is too pale on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
EDITOR_COLOURS: dict[str, str] = {  # editors in colour, anchors in gray; those that share a figure differ
    "flowedit": "#0072B2",
    "sdedit": "#E69F00",
    "ode-inversion": "#009E73",
    "sync-sde": "#D55E00",
    "lore": "#CC79A7",
    "rf-solver": "#56B4E9",
    "fireflow": "#882255",
    "rf-inversion": "#6E4B00",
    "uniedit-flow": "#332288",
    "infedit": "#E69F00",
    "kv-edit": "#CC79A7",
    "cyclediffusion": "#56B4E9",
    "edit-friendly": "#0072B2",
    "difference-flow": "#E69F00",
    "source-copy": "#CCCCCC",
    "vae-round-trip": "#A3A3A3",
    "text-to-image": "#7A7A7A",
    "pixel-paste": "#4D4D4D",
    "ground-truth": "#000000",
}
# Six colours are told apart with every kind of vision, no more: the next six editors are squares, then triangles.
EDITOR_MARKS = {name: "os^D"[place // len(PALETTE)] for place, name in enumerate(EDITOR_COLOURS)}
RIGHT, WRONG = ("✓", "#00795A"), ("✗", "#C04F00")  # marks of a reading: never told by colour alone

WIDTH = 920  # pixels: what JupyterLab and the pages of `make review` show without shrinking
GAP = 16
LINE = 18  # pixels from one line of text to the next
TEXT, SMALL, TITLE = 8.0, 7.5, 9.0  # points
INK, FAINT, FRAME = "#222222", "#6A6A6A", "#C8C8C8"

Reading = tuple[str, str, bool | None]  # attribute, value read, right (✓), wrong (✗) or neither


def use_style() -> None:
    """The style of every notebook: call it once, in the first cell after the parameters."""
    import seaborn

    style = {
        "figure.constrained_layout.use": True,
        "figure.dpi": DOTS,
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
        "font.size": TEXT,
        "savefig.bbox": None,
        "savefig.dpi": DOTS,
    }
    seaborn.set_theme(context="paper", style="ticks", palette=PALETTE, rc=style)


def keep(figure: Figure, name: str) -> DisplayedImage:
    """Save a figure among the notebook's outputs, as figures/<name>.png; the file is what a cell shows by ending so."""
    from IPython.display import Image as DisplayedImage

    save_figure(figure, name)
    return DisplayedImage(filename=out_dir() / "figures" / f"{name}.png")


def side_by_side(
    pictures: Mapping[str, Tensor | None],
    *,
    captions: Mapping[str, str] | None = None,
    readings: Mapping[str, Sequence[Reading]] | None = None,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Pictures [3, H, W] in [0, 1] side by side, without those that are None: three in a row, or four smaller ones.

    By title: a caption under the picture, what a parser read in it, the colour of its frame (an editor's own if the
    title is its name). InputError if there is no picture.
    """
    captions, readings, colours = captions or {}, readings or {}, EDITOR_COLOURS | dict(colours or {})
    panels = [
        Panel(title, image, captions.get(title, ""), tuple(readings.get(title, ())), colours.get(title))
        for title, image in pictures.items()
        if image is not None
    ]
    few = len(panels) <= 3 or any(panel.readings for panel in panels)
    return _page_of(panels, box=256 if few else 192, columns=3 if few else 4, weight="bold")


def film_strip(images: Sequence[Tensor], labels: Sequence[str], *, columns: int = 6) -> Figure:
    """Pictures [3, H, W] in [0, 1] in reading order, each with its label above it, an editor's own in its colour."""
    if len(images) != len(labels):
        raise InputError("labels of a film strip", found=len(labels), expected=f"{len(images)}, one per picture")
    box = (WIDTH - GAP) // columns - GAP
    panels = [Panel(name, image, colour=EDITOR_COLOURS.get(name)) for image, name in zip(images, labels, strict=True)]
    return _page_of(panels, box=box // 64 * 64 or box, columns=columns, weight="normal")


def gallery(cases: Sequence[EditCase], *, first: int = 0) -> Figure:
    """Cases in two columns, numbered from `first`: source, right answer, mask (white may change) and both prompts.

    Words that only one of the prompts has are bold.
    """
    if not cases:
        raise InputError("gallery", found="no case", expected="at least one")
    box = 128
    blocks = [_case_text(case, first + i, 3 * box + 2 * GAP) for i, case in enumerate(cases)]
    rows = [blocks[i : i + 2] for i in range(0, len(blocks), 2)]
    above = [LINE * (max(len(head) for head, _ in row) + (i == 0)) + 4 for i, row in enumerate(rows)]
    below = [LINE * max(len(foot) for _, foot in row) + 6 for row in rows]
    page = Page(WIDTH, sum(above) + sum(below) + len(rows) * (box + GAP) + GAP)
    y = GAP // 2
    for i, row in enumerate(rows):
        y += above[i]
        for j, (head, foot) in enumerate(row):
            left = GAP + j * (WIDTH // 2)
            page.lines(head, left, y - above[i])
            for k, (name, image) in enumerate(_pictures(cases[2 * i + j]).items()):
                x = left + k * (box + GAP)
                if i == 0:
                    page.text(name, x, y - LINE - 4, size=SMALL, colour=FAINT)
                if image is None:
                    page.text("none", x, y + box // 2, size=SMALL, colour=FAINT)
                else:
                    page.picture(enlarged(image, box), x, y)
            page.lines(foot, left, y + box + 6)
        y += box + below[i] + GAP
    return page.figure


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a page with what stands above and below it."""

    title: str
    image: Tensor
    caption: str = ""
    readings: tuple[Reading, ...] = ()
    colour: str | None = None


@dataclass(frozen=True)
class Word:
    """A piece of a line of text."""

    text: str
    bold: bool = False
    colour: str = INK


class Page:
    """A figure measured in pixels from its upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        from matplotlib import pyplot
        from matplotlib.layout_engine import PlaceHolderLayoutEngine

        self.width, self.height = width + 1e-4, height + 1e-4  # a little over, so that no rounding takes a pixel away
        size = self.width / DOTS, self.height / DOTS
        as_placed = PlaceHolderLayoutEngine(adjust_compatible=True, colorbar_gridspec=True)
        self.figure = pyplot.figure(figsize=size, dpi=DOTS, layout=as_placed, facecolor="white")
        pyplot.close(self.figure)  # shown where a cell ends with it, and not a second time

    def picture(self, pixels: np.ndarray, x: int, y: int, colour: str | None = None) -> None:
        """Put uint8 [H, W, 3] there, pixel for pixel, in a thin frame or a stronger one of `colour`."""
        from matplotlib.patches import Rectangle

        height, width = pixels.shape[:2]
        edge = 3 if colour else 1
        corner = (x - edge) / self.width, 1 - (y + height + edge) / self.height
        size = (width + 2 * edge) / self.width, (height + 2 * edge) / self.height
        frame = Rectangle(corner, *size, transform=self.figure.transFigure, color=colour or FRAME, linewidth=0)
        frame.set_zorder(-1)
        self.figure.add_artist(frame)
        place = x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height
        axes = self.figure.add_axes(place)
        axes.imshow(pixels, interpolation="nearest", aspect="auto")
        axes.set_axis_off()

    def text(
        self, text: str, x: float, y: float, *, size: float = TEXT, weight: str = "normal", colour: str = INK
    ) -> None:
        """One line whose top is at `y`."""
        place = x / self.width, 1 - (y + 13) / self.height
        font = {"family": "DejaVu Sans", "size": size, "weight": weight}
        self.figure.text(*place, text, va="baseline", color=colour, parse_math=False, fontproperties=font)

    def lines(self, lines: Iterable[Sequence[Word]], x: int, y: int) -> None:
        """Lines of words, some of them bold, one below the other."""
        for i, line in enumerate(lines):
            at = float(x)
            for word in line:
                self.text(word.text, at, y + i * LINE, weight="bold" if word.bold else "normal", colour=word.colour)
                at += text_width(f"{word.text} ", word.bold)

    def readings(self, readings: Iterable[Reading], x: int, y: int, width: int) -> None:
        """A reading per line: attribute, value, mark."""
        for i, (name, value, verdict) in enumerate(readings):
            at = y + i * LINE
            self.text(name, x, at, size=SMALL, colour=FAINT)
            self.text(value, x + 120, at, size=SMALL, weight="normal" if verdict is None else "bold")
            if verdict is not None:
                mark, colour = RIGHT if verdict else WRONG
                self.text(mark, x + width - 16, at, colour=colour, weight="bold")


def enlarged(image: Tensor, box: int) -> np.ndarray:
    """A picture [3, H, W] in [0, 1] or a mask [1, H, W] as uint8 [h, w, 3] that fits into a square of `box` pixels.

    Enlarged by the largest whole factor, or shrunk smoothly if it is larger than the box.
    """
    image = image.detach().float().cpu()
    pixels = to_uint8(image.expand(3, *image.shape[1:])).permute(1, 2, 0).numpy()
    longest = max(pixels.shape[:2])
    if longest <= box:
        return pixels.repeat(box // longest, axis=0).repeat(box // longest, axis=1)
    height, width = (max(1, round(side * box / longest)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


@cache
def text_width(text: str, bold: bool = False, size: float = TEXT) -> float:
    """The width of one line of text in pixels."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    space = 0.318 * size * DOTS / 72 * (len(text) - len(text.rstrip(" ")))  # the renderer leaves spaces at the end out
    return RendererAgg(1, 1, DOTS).get_text_width_height_descent(text.rstrip(" "), font, False)[0] + space


def wrap(words: Iterable[Word], width: float) -> list[list[Word]]:
    """Words in lines of at most `width` pixels; a word that is wider stands alone."""
    lines: list[list[Word]] = []
    used = 0.0
    for word in words:
        wide = text_width(f"{word.text} ", word.bold)
        if not lines or used + wide > width:
            lines.append([])
            used = 0.0
        lines[-1].append(word)
        used += wide
    return lines


def differing(source: str, target: str) -> tuple[list[Word], list[Word]]:
    """The words of both prompts, bold where the other has something else."""
    one, other = source.split(), target.split()
    same = difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    kept = {block.a + i for block in same for i in range(block.size)}
    kept_other = {block.b + i for block in same for i in range(block.size)}
    before = [Word(word, bold=i not in kept) for i, word in enumerate(one)]
    return before, [Word(word, bold=i not in kept_other) for i, word in enumerate(other)]


def _page_of(panels: Sequence[Panel], *, box: int, columns: int, weight: str) -> Figure:
    if not panels:
        raise InputError("figure", found="no picture", expected="at least one")
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    pixels = [[enlarged(panel.image, box) for panel in row] for row in rows]
    words = [[[Word(word, colour=FAINT) for word in panel.caption.split()] for panel in row] for row in rows]
    captions = [[wrap(caption, box) for caption in row] for row in words]
    picture = [max(len(shown) for shown in row) + 6 for row in pixels]  # heights, the same all along a row
    caption = [LINE * max(map(len, row)) + 4 for row in captions]
    reading = [LINE * max(len(panel.readings) for panel in row) for row in rows]
    page = Page(
        GAP + len(rows[0]) * (box + GAP), sum(picture + caption + reading) + len(rows) * (LINE + GAP) + GAP // 2
    )
    y = GAP // 2
    for i, row in enumerate(rows):
        for j, panel in enumerate(row):
            x, below = GAP + j * (box + GAP), y + LINE + 4
            page.text(panel.title, x, y, size=TITLE if weight == "bold" else SMALL, weight=weight)
            page.picture(pixels[i][j], x, below, panel.colour)
            page.lines(captions[i][j], x, below + picture[i])
            page.readings(panel.readings, x, below + picture[i] + caption[i], box)
        y += LINE + picture[i] + caption[i] + reading[i] + GAP
    return page.figure


def _pictures(case: EditCase) -> dict[str, Tensor | None]:
    return {"source": case.image, "right answer": case.target_image, "may change": case.mask}


def _case_text(case: EditCase, number: int, width: int) -> tuple[list[list[Word]], list[list[Word]]]:
    """What stands above the pictures of a case and what below, in lines."""
    kind = "" if case.edit_type is None else EDIT_TYPES[case.edit_type]
    head = [Word(f"{number}"), Word(f"{kind}:" if case.instruction else kind, bold=True)]
    head += [Word(word) for word in (case.instruction or "").split()]
    before, after = differing(case.source_prompt or "", case.target_prompt)
    foot = wrap([Word("from", colour=FAINT), *before], width) if case.source_prompt else []
    return wrap(head, width), foot + wrap([Word("to", colour=FAINT), *after], width)

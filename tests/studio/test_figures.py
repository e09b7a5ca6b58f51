"""Pixels are kept, text has room, colours are told apart."""

import io
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lib.bench.cases import EditCase
from lib.core.errors import InputError
from lib.editors.anchors import ANCHORS
from lib.editors.registry import EDITORS
from lib.stages.outputs import DOTS
from lib.studio.figures import (
    EDITOR_COLOURS,
    EDITOR_MARKS,
    PALETTE,
    WIDTH,
    Word,
    differing,
    enlarged,
    film_strip,
    gallery,
    keep,
    side_by_side,
    text_width,
    use_style,
    wrap,
)

LONG = (
    "a small light-skinned curly-haired woman on the left and a gray butterfly on the right of a checkered background"
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS, metadata={"Software": None})
    return stream.getvalue()


def drawn(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"))


def contains(page: np.ndarray, pixels: np.ndarray) -> bool:
    """Whether the picture stands somewhere on the page, pixel for pixel."""
    height, width = pixels.shape[:2]
    rows, columns = np.where((page[: 1 - height or None, : 1 - width or None] == pixels[0, 0]).all(-1))
    return any(np.array_equal(page[y : y + height, x : x + width], pixels) for y, x in zip(rows, columns, strict=True))


def check_text(figure: Figure) -> None:
    """Every line of text lies on the page, and no two of them overlap."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    width, height = figure.bbox.width, figure.bbox.height
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
    for one, other in combinations(boxes, 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        along = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert across <= 1 or along <= 1


def cases(count: int) -> list[EditCase]:
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, 10:30] = True
    return [
        EditCase(
            id=str(i),
            image=noise(3, 64, 64, seed=i),
            source_prompt=LONG,
            target_prompt=LONG.replace("gray", "golden"),
            instruction="the butterfly would look so much better in golden, everything else may stay as it is",
            mask=mask,
            target_image=noise(3, 64, 64, seed=100 + i),
            edit_type=i % 10,
        )
        for i in range(count)
    ]


def test_every_editor_and_every_anchor_has_a_colour_and_mark_of_its_own() -> None:
    assert set(EDITORS) | set(ANCHORS) <= set(EDITOR_COLOURS)
    assert len({(colour, EDITOR_MARKS[name]) for name, colour in EDITOR_COLOURS.items()}) == len(EDITOR_COLOURS)


# Machado, Oliveira and Fernandes (2009), severity 1: what a person without red, green or blue cones sees, linear RGB.
VISION = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("vision", VISION)
def test_colours_of_editors_are_told_apart_with_any_colour_vision(vision: str) -> None:
    colours = {EDITOR_COLOURS[name] for name in EDITORS}
    assert set(PALETTE) <= colours
    seen = {colour: lab(colour, VISION[vision]) for colour in sorted(colours)}
    for one, other in combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15, (one, other)  # about 2 is just noticeable


def lab(colour: str, vision: list[list[float]]) -> np.ndarray:
    """CIE 1976 L*a*b* of a "#rrggbb" seen through a matrix on linear RGB."""
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    linear = np.clip(np.array(vision) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_small_pictures_grow_by_whole_factors_and_large_ones_shrink() -> None:
    small = enlarged(noise(3, 64, 48), 200)
    assert small.shape == (192, 144, 3)
    assert np.array_equal(small[::3, ::3].repeat(3, 0).repeat(3, 1), small)
    assert enlarged(noise(3, 300, 600), 200).shape == (100, 200, 3)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 0, 0] = True
    assert enlarged(mask, 8)[0, 0].tolist() == [255, 255, 255]
    assert enlarged(mask, 8).sum() == 3 * 255


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_each_picture_stands_on_the_page_pixel_for_pixel(count: int) -> None:
    images = {f"picture {i}": noise(3, 64, 64, seed=i) for i in range(count)}
    page = drawn(side_by_side(images, captions={"picture 0": LONG}))
    for image in images.values():
        assert contains(page, enlarged(image, 256 if count <= 3 else 192))
    assert page.shape[1] <= WIDTH


def test_a_film_strip_keeps_every_pixel_and_leaves_room_for_labels() -> None:
    images = [noise(3, 64, 64, seed=i) for i in range(8)]
    figure = film_strip(images, ["source", *(f"t = {i / 7:.2f}" for i in range(7))])
    page = drawn(figure)
    assert all(contains(page, enlarged(image, 128)) for image in images)
    assert page.shape[1] <= WIDTH
    check_text(figure)


def test_a_gallery_keeps_every_pixel_and_leaves_room_for_long_prompts() -> None:
    shown = cases(5)
    figure = gallery(shown)
    page = drawn(figure)
    assert page.shape[1] == WIDTH
    for case in shown:
        for image in (case.image, case.target_image, case.mask):
            assert contains(page, enlarged(image, 128))
    check_text(figure)


def test_a_gallery_shows_cases_that_bring_next_to_nothing() -> None:
    figure = gallery([EditCase(id="a", image=noise(3, 40, 64), target_prompt="a cat")])
    assert [text.get_text() for text in figure.texts].count("none") == 2
    check_text(figure)


def test_readings_have_room_beside_each_other() -> None:
    reading = [("accessory, right", "checkered", True), ("object, left", "dark-skinned", False), ("size", "big", None)]
    images = {name: noise(3, 64, 64) for name in ("source", "flowedit", "right answer", "another")}
    figure = side_by_side(images, captions={"flowedit": LONG}, readings=dict.fromkeys(images, reading))
    check_text(figure)
    texts = [text.get_text() for text in figure.texts]
    assert texts.count("✓") == texts.count("✗") == 4


def test_pictures_that_are_none_are_left_out() -> None:
    figure = side_by_side({"source": noise(3, 8, 8), "right answer": None})
    assert [text.get_text() for text in figure.texts] == ["source"]


def test_the_frame_of_an_edit_has_its_editors_colour() -> None:
    page = drawn(side_by_side({"flowedit": torch.zeros(3, 64, 64)}))
    wanted = [int(EDITOR_COLOURS["flowedit"][i : i + 2], 16) for i in (1, 3, 5)]
    assert (page == wanted).all(-1).sum() > 4 * 256


def test_equal_pictures_give_equal_bytes() -> None:
    assert png(gallery(cases(2))) == png(gallery(cases(2)))


def test_the_style_of_a_notebook_moves_no_pixel(tmp_path: pytest.TempPathFactory, monkeypatch) -> None:
    import matplotlib

    monkeypatch.setenv("PALIMPSEST_OUT", str(tmp_path))
    image = noise(3, 64, 64)
    before = png(side_by_side({"source": image}, captions={"source": "costs $5 to $6"}))
    with matplotlib.rc_context():
        use_style()
        assert matplotlib.rcParams["figure.dpi"] == DOTS
        figure = side_by_side({"source": image}, captions={"source": "costs $5 to $6"})
        shown = keep(figure, "one")
    assert png(figure) == before
    saved = (tmp_path / "figures" / "one.png").read_bytes()
    assert shown.data == saved
    assert contains(np.asarray(Image.open(io.BytesIO(saved)).convert("RGB")), enlarged(image, 256))


def test_words_that_differ_are_bold() -> None:
    before, after = differing("a red cat on the left", "a red dog with a hat on the left")
    assert [word.text for word in before if word.bold] == ["cat"]
    assert [word.text for word in after if word.bold] == ["dog", "with", "a", "hat"]


def test_lines_are_no_wider_than_they_may_be() -> None:
    lines = wrap([Word(word, bold=i % 2 == 0) for i, word in enumerate(LONG.split())], 200)
    assert " ".join(word.text for line in lines for word in line) == LONG
    assert len(lines) > 1
    assert all(sum(text_width(f"{word.text} ", word.bold) for word in line) <= 200 for line in lines)


def test_nothing_to_show_is_said() -> None:
    with pytest.raises(InputError, match="no picture"):
        side_by_side({"right answer": None})
    with pytest.raises(InputError, match="no case"):
        gallery([])
    with pytest.raises(InputError, match="labels of a film strip: found 1; expected 2"):
        film_strip([noise(3, 8, 8)] * 2, ["one"])

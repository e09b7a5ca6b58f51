"""Files that a disk, an editor or a download has damaged: one clear error that names the file, or a right reading."""

import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lib.core.errors import InputError
from lib.core.images import check_images, load_image, load_mask
from lib.core.paths import ROOT
from lib.stages.config import load_section
from lib.stages.notebook import run_notebook
from lib.stages.parameters import check_overrides, read_parameters
from lib.stages.sources import read_notebook, strip

KINDS = [
    ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "LA"), ("PNG", "I;16"), ("PNG", "1"), ("JPEG", "RGB"),
    ("JPEG", "CMYK"), ("JPEG", "L"), ("GIF", "P"), ("TIFF", "RGB"), ("TIFF", "I;16"), ("TIFF", "F"), ("BMP", "RGB"),
    ("WEBP", "RGBA"),
]  # fmt: skip
often = settings(
    derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def picture(kind: str, mode: str) -> bytes:
    """A small picture of a file format and colour mode."""
    ramp = np.arange(24 * 20 * 3, dtype=np.uint32).reshape(24, 20, 3) * 255 // (24 * 20 * 3)
    if mode == "I;16":
        made = Image.fromarray((ramp[..., 0] * 257).astype(np.uint16))
    elif mode == "F":
        made = Image.fromarray((ramp[..., 0] / 255).astype(np.float32))
    else:
        made = Image.fromarray(ramp.astype(np.uint8)).convert(mode)
    file = io.BytesIO()
    made.save(file, kind)
    return file.getvalue()


GOOD = {kind: picture(*kind) for kind in KINDS}


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes cut short, overwritten, doubled, or with a piece left out."""
    how = draw(st.sampled_from(["cut", "overwrite", "head", "leave out", "double", "empty"]))
    place = draw(st.integers(0, len(content) - 1))
    if how == "cut":
        return content[:place]
    if how == "overwrite":
        piece = draw(st.binary(min_size=1, max_size=8))
        return content[:place] + piece + content[place + len(piece) :]
    if how == "head":
        piece = draw(st.binary(min_size=1, max_size=32))
        return piece + content[len(piece) :]
    if how == "leave out":
        return content[:place] + content[place + draw(st.integers(1, 40)) :]
    return content * 2 if how == "double" else b""


def one_line(error: InputError, name: str) -> None:
    assert name in str(error)
    assert "\n" not in str(error)
    assert "expected" in str(error)


@settings(often, max_examples=200)
@given(st.data())
def test_a_damaged_image(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    content = data.draw(damaged(GOOD[kind]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"picture.{kind[0].lower()}"
        path.write_bytes(content)
        try:
            image, mask = load_image(path), load_mask(path)
        except InputError as error:
            one_line(error, "picture")
        else:
            check_images(image[None], "what was read")
            assert mask.shape == (1, *image.shape[1:])


PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")
DECLARED = "count: int = 1\nstarts: list[float] = [0.5]  # noise levels"
NOTEBOOK = json.dumps({
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": "# A title"},
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": DECLARED, "outputs": []},
        {"cell_type": "code", "metadata": {}, "source": ["print(count)\n", "print(starts)"], "outputs": []},
    ],
    "metadata": {}, "nbformat": 4, "nbformat_minor": 5,
})  # fmt: skip


@settings(often, max_examples=100)
@given(st.data())
def test_a_damaged_params_file(data: st.DataObject) -> None:
    content = data.draw(damaged(PARAMS.encode()))
    declared = read_parameters(read_notebook(ROOT / "notebooks/flowedit/method.ipynb", "flowedit/method"), "method")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "params.yaml").write_bytes(content)
        try:
            section = load_section("flowedit/method", root=Path(folder))
            check_overrides(declared, section, "flowedit/method")
        except InputError as error:
            assert "expected" in str(error)


@settings(often, max_examples=100)
@given(st.data())
def test_a_damaged_notebook(data: st.DataObject) -> None:
    content = data.draw(damaged(NOTEBOOK.encode()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "paper.ipynb"
        path.write_bytes(content)
        try:
            strip(read_notebook(path, "paper/method"))
            read_parameters(read_notebook(path, "paper/method"), "paper/method")
        except InputError as error:
            one_line(error, "paper/method")


def test_the_undamaged_ones_are_read() -> None:
    for kind, content in GOOD.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture"
            path.write_bytes(content)
            if kind[1] == "F":
                with pytest.raises(InputError, match="picture"):
                    load_image(path)
            else:
                assert load_image(path).shape == (3, 24, 20)


def test_a_notebook_that_is_none_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no/such"):
        run_notebook("no/such", into=tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""Files that a disk, an editor or a download has damaged: one clear error that names the file, or a right reading.

The number of damages that a test tries stands in its name; what came of them is printed (pytest -rP).
"""

import hashlib
import io
import json
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from lib.core.errors import InputError
from lib.core.images import check_images, load_image, load_mask
from lib.core.paths import ROOT
from lib.stages.config import load_section
from lib.stages.notebook import run_notebook
from lib.stages.parameters import check_overrides, read_parameters
from lib.stages.sources import read_notebook, strip
from tests.stages.conftest import Project, begin, begin_pipeline

HEIGHT, WIDTH = 24, 20
DEEP = (np.arange(HEIGHT * WIDTH * 3, dtype=np.uint32) * 65535 // (HEIGHT * WIDTH * 3)).astype(np.uint16)
DEEP = DEEP.reshape(HEIGHT, WIDTH, 3)  # 16 bits per channel
RAMP = (DEEP // 257).astype(np.uint8)


def picture(kind: str, mode: str) -> bytes:
    """A small picture of a file format and colour mode."""
    if mode == "I;16":
        made = Image.fromarray(DEEP[..., 0])
    elif mode == "F":
        made = Image.fromarray((RAMP[..., 0] / 255).astype(np.float32))
    else:
        made = Image.fromarray(RAMP).convert(mode)
    file = io.BytesIO()
    made.save(file, kind)
    return file.getvalue()


def animated(kind: str) -> bytes:
    """Two frames."""
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, kind, save_all=True, append_images=[Image.fromarray(255 - RAMP)], duration=40)
    return file.getvalue()


def png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    """An RGB PNG with any numbers in its head."""
    head = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    parts = {b"IHDR": head, b"IDAT": zlib.compress(rows), b"IEND": b""}
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff_16() -> bytes:
    """An RGB TIFF of 16 bits per channel, which Pillow reads but does not write."""
    entries = {256: WIDTH, 257: HEIGHT, 258: 0, 259: 1, 262: 2, 273: 0, 277: 3, 278: HEIGHT, 279: DEEP.nbytes, 284: 1}
    end = 8 + 2 + 12 * len(entries) + 4
    entries |= {258: end, 273: end + 6}
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, value in entries.items():
        head += struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 3 if tag == 258 else 1, value)
    return head + struct.pack("<IHHH", 0, 16, 16, 16) + DEEP.astype("<u2").tobytes()


def bomb(kind: str) -> bytes:
    """A few bytes that claim 3.6 gigapixels."""
    if kind == "PNG":
        return png(60000, 60000, 8, bytes(100))
    content = bytearray(picture(kind, "P" if kind == "GIF" else "RGB"))
    place, layout = {"GIF": (6, "<HH"), "BMP": (18, "<ii")}[kind]
    content[place : place + struct.calcsize(layout)] = struct.pack(layout, 60000, 60000)
    return bytes(content)


STILL = [
    ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "LA"), ("PNG", "I;16"), ("PNG", "1"), ("JPEG", "RGB"),
    ("JPEG", "CMYK"), ("JPEG", "L"), ("GIF", "P"), ("TIFF", "RGB"), ("TIFF", "I;16"), ("TIFF", "F"), ("BMP", "RGB"),
    ("WEBP", "RGBA"),
]  # fmt: skip
GOOD = {f"{kind} {mode}": picture(kind, mode) for kind, mode in STILL}
GOOD["PNG RGB;16"] = png(WIDTH, HEIGHT, 16, b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP))
GOOD["TIFF RGB;16"] = tiff_16()
ANIMATED = {f"{name} animated": animated(name.removeprefix("A")) for name in ("GIF", "APNG", "WEBP")}
BOMBS = {f"{kind} bomb": bomb(kind) for kind in ("PNG", "GIF", "BMP")}
FILES = GOOD | ANIMATED | BOMBS
IMAGES, TEXTS = 12, 100  # damages per kind of picture; of the parameters, of a notebook
often = settings(database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


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


def one_line(error: InputError, *names: str) -> None:
    assert any(name in error.thing for name in names), error
    assert len(str(error).splitlines()) == 1
    assert "expected" in str(error)


def try_damages(content: bytes, times: int, name: str, read: Callable[[Path], object], *thing: str) -> None:
    """Damage a file's content `times` times; `read` must give one clear error that names the thing, or succeed."""
    tried: Counter[str] = Counter()

    @seed(zlib.crc32(content))
    @settings(often, max_examples=times)
    @given(damaged(content))
    def attempt(bad: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(bad)
            try:
                read(path)
            except InputError as error:
                one_line(error, *(thing or (name,)))
                tried["one clear error"] += 1
            else:
                tried["read"] += 1

    attempt()
    print(f"{tried.total()} tried: {dict(sorted(tried.items()))}")
    assert tried.total() >= times
    assert tried["one clear error"] > 0


def read_image(path: Path) -> None:
    image, mask = load_image(path), load_mask(path)
    check_images(image[None], "what was read")
    assert mask.shape == (1, *image.shape[1:])


def named(times: int) -> Callable[[object], str]:
    return lambda kind: f"{times} times {kind}"


@pytest.mark.parametrize("kind", FILES, ids=named(IMAGES))
def test_damaged_images(kind: str) -> None:
    try_damages(FILES[kind], IMAGES, "picture", read_image)


def test_two_hundred_damaged_images_at_least() -> None:
    assert len(FILES) * IMAGES >= 200


@pytest.mark.parametrize("kind", GOOD)
def test_the_undamaged_ones_are_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(GOOD[kind])
    if kind == "TIFF F":
        with pytest.raises(InputError, match="picture"):
            load_image(tmp_path / "picture")
        return
    image = load_image(tmp_path / "picture")
    assert image.shape == (3, HEIGHT, WIDTH)
    if kind.endswith("RGB;16"):
        assert np.abs(image.permute(1, 2, 0).numpy() - DEEP / 65535).max() < 1 / 255


@pytest.mark.parametrize("kind", ANIMATED)
def test_an_animation_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(FILES[kind])
    with pytest.raises(InputError, match="picture: found 2 frames; expected a still image"):
        load_image(tmp_path / "picture")


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_before_it_is_unpacked(kind: str, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(FILES[kind])
    with pytest.raises(InputError, match="picture: found far too many pixels; expected at most 67108864 pixels"):
        load_image(tmp_path / "picture")


DECLARED = "count: int = 1\nstarts: list[float] = [0.5]  # noise levels"
NOTEBOOK = json.dumps({
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": "# A title"},
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": DECLARED, "outputs": []},
        {"cell_type": "code", "metadata": {}, "source": ["print(count)\n", "print(starts)"], "outputs": []},
    ],
    "metadata": {}, "nbformat": 4, "nbformat_minor": 5,
})  # fmt: skip
SHORT = "scale: smoke\npaper:\n  method:\n    count: {smoke: 4, default: 40}\n    starts: [0.5, 0.65]\n"


@pytest.mark.parametrize("whose", ["the own", "a short"], ids=named(TEXTS))
def test_damaged_params_files(whose: str) -> None:
    """The error names the file, the section or the parameter."""
    if whose == "the own":
        name, content = "flowedit/method", (ROOT / "params.yaml").read_bytes()
        declared = read_parameters(read_notebook(ROOT / "notebooks" / f"{name}.ipynb", name), name)
    else:
        name, content = "paper/method", SHORT.encode()
        declared = read_parameters(json.loads(NOTEBOOK), name)

    def read(path: Path) -> None:
        check_overrides(declared, load_section(name, root=path.parent), name)

    try_damages(content, TEXTS, "params.yaml", read, "params.yaml", f"in section {name}", f"of notebook {name}")


@pytest.mark.parametrize("what", ["a notebook"], ids=named(TEXTS))
def test_damaged_notebooks(what: str) -> None:
    def read(path: Path) -> None:
        strip(read_notebook(path, "paper/method"))
        read_parameters(read_notebook(path, "paper/method"), "paper/method")

    try_damages(NOTEBOOK.encode(), TEXTS, "paper.ipynb", read, "notebook paper/method")


def test_a_notebook_that_is_none_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no/such"):
        run_notebook("no/such", into=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def contents(project: Project) -> dict[str, str]:
    """Hashes of all that stages published."""
    files = [path for path in (project.root / "runs").rglob("*") if path.is_file()]
    return {path.relative_to(project.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(project: Project, *command: str) -> str:
    """The last line of a stage's command that must fail with one clear error, and leave everything as it was."""
    before = contents(project)
    done = project.run(*command)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert contents(project) == before
    last = done.stderr.rstrip("\n").splitlines()[-1]
    assert last.startswith("error: ")
    assert "; expected " in last
    return last


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose notebook has run."""
    project = begin(tmp_path_factory.mktemp("finished") / "a project")
    project.must("lib.stages.sources")
    project.must("lib.stages.notebook", "two")
    return project


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: text.index("rate")] + "rate: [", "error: file "),
        (lambda text: text.replace("count", "cuont"), "error: parameter `cuont` of notebook two: found no such name"),
        (lambda text: text.replace("rate: 1e-1", "rate: yes, please"), "error: parameter `rate` of notebook two: "),
        (lambda text: text.replace("smoke: 2", "tiny: 2"), "error: count in section two: found keys "),
        (lambda text: text[: text.index("two")].replace("smoke", "smo"), "error: scale in params.yaml: found smo;"),
        (lambda text: "", "error: params.yaml: found a NoneType; expected a mapping"),
    ],
    ids=["cut short", "another name", "another type", "another scale", "half a word", "empty"],
)
def test_a_stage_on_a_damaged_params_file(finished: Project, damage: Callable[[str], str], said: str) -> None:
    params = finished.root / "params.yaml"
    kept = params.read_text()
    params.write_text(damage(kept))
    try:
        assert refused(finished, "lib.stages.notebook", "two").startswith(said)
    finally:
        params.write_text(kept)


@pytest.mark.parametrize("command", [("lib.stages.sources",), ("lib.stages.notebook", "two")], ids="-".join)
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-40], "error: notebook two: found broken JSON"),
        (lambda text: "", "error: notebook two: found broken JSON"),
        (
            lambda text: text.replace('"nbformat": 4', '"nbformat": 3'),
            "error: notebook two: found JSON of another kind",
        ),
        (lambda text: text.replace('"source": "', '"sauce": "'), "error: cell 0 of notebook two: found a cell of"),
    ],
    ids=["cut short", "empty", "another format", "another key"],
)
def test_a_stage_on_a_damaged_notebook(
    finished: Project, damage: Callable[[str], str], said: str, command: tuple[str, ...]
) -> None:
    notebook = finished.root / "notebooks" / "two.ipynb"
    kept = notebook.read_text()
    notebook.write_text(damage(kept))
    try:
        assert refused(finished, *command).startswith(said)
    finally:
        notebook.write_text(kept)


def test_repro_on_a_damaged_params_file(tmp_path: Path) -> None:
    project = begin_pipeline(tmp_path / "a project")
    project.must("lib.stages", "plan")
    params = project.root / "params.yaml"
    params.write_text(params.read_text() + "two: [")
    assert "params.yaml" in refused(project, "lib.stages", "repro")

import base64
import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.core.errors import InputError
from lib.stages.docs import MARK, export_docs
from lib.stages.pages_pictures import small_png
from lib.stages.pages_tables import markdown_table

from .conftest import notebook
from .test_review import PANDAS, executed, markdown, output, png, ran

TABLE = "| 95 % intervals | accuracy ↑ | n |\n| --- | ---: | ---: |"


def make(root: Path, name: str, *cells: dict, metrics: dict | None = None) -> Path:
    """An executed notebook and its source."""
    source = root / "notebooks" / f"{name}.ipynb"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(json.dumps(notebook()))
    return executed(root, name, *cells, metrics=metrics)


def story(root: Path, name: str = "flowedit/method") -> Path:
    return make(
        root,
        name,
        markdown(
            "# FlowEdit, *tested*\n\nA [neighbour](../start.ipynb), a [file](../../lib/a.py#L3), a `[b](c.py)`.\n\n"
            "More."
        ),
        ran("f", output(image_png=png(50, 40, "red"))),
        markdown("## What it costs\n\nnot this"),
        ran("t", output(text_html=PANDAS)),
        markdown("## 3. What was found\n\nOne. $x_t$\n\n### Below\n\n```\n# no heading\n```"),
        ran("m", output(text_markdown="**Two.**\n\n **Three.**"), output(text_plain="not shown")),
        markdown("## Afterwards\n\nnor this"),
        metrics={"sdedit": {"nfe": 1}, "flowedit": {"psnr": 20.5, "psnr_low": 20, "psnr_high": 21, "nfe": 20}},
    )


def everything(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "docs").iterdir()}


def test_a_page_tells_the_notebook_in_short(tmp_path: Path) -> None:
    story(tmp_path)
    make(tmp_path, "start", markdown("# Start"))
    written = export_docs(tmp_path)
    names = ["README.md", "flowedit-method.md", "flowedit-method.png", "start.md"]
    assert [path.relative_to(tmp_path / "docs").as_posix() for path in written] == names
    text = (tmp_path / "docs" / "flowedit-method.md").read_text()
    assert text.startswith(f"{MARK} Notebook: flowedit/method -->\n# FlowEdit, *tested*\n\n")
    assert "A [neighbour](start.md), a [file](../lib/a.py#L3), a `[b](c.py)`." in text
    assert "![Headline figure of flowedit/method](flowedit-method.png)" in text
    assert "**flowedit**" not in text  # the table has its numbers
    assert f"{TABLE}\n| flowedit | 0.81 [0.77, 0.84] | 200 |" in text
    assert (
        "## What was found\n\nOne. $x_t$\n\n### Below\n\n```\n# no heading\n```\n\n**Two.**\n\n**Three.**\n\n---"
        in text
    )
    for absent in ("not this", "nor this", "not shown", "More."):
        assert absent not in text


def test_markdown_that_lies_beside_a_notebook_stands_on_its_page(tmp_path: Path) -> None:
    story(tmp_path)
    path = make(tmp_path, "start", markdown("# Start"), metrics={"flowedit": {"nfe": 20}})
    (path.parent / "ledger.md").write_text("## Every claim\n\n[seen](flowedit/method.ipynb#cell-id=cell-03)\n")
    export_docs(tmp_path)
    text = (tmp_path / "docs" / "start.md").read_text()
    assert "\n\n**flowedit**: NFE 20\n\n## Every claim\n\n[seen](flowedit-method.md)\n\n---" in text


def test_the_index_names_every_page_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    story(tmp_path)
    make(tmp_path, "start", markdown("# Start\n\n**Bold** begins it."))
    make(tmp_path, "flowedit/ablation", markdown("# What of it matters"))
    export_docs(tmp_path)
    index = (tmp_path / "docs" / "README.md").read_text()
    places = [index.index(f"({page}.md)") for page in ("start", "flowedit-method", "flowedit-ablation")]
    assert places == sorted(places)
    assert "[Start](start.md)" in index and "[FlowEdit, *tested*](flowedit-method.md)" in index
    assert "**Bold** begins it." in index
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.py").touch()
    for page in (tmp_path / "docs").glob("*.md"):
        for link in re.findall(r"(?<!`)\[[^\]]*\]\(([^)#]*)", page.read_text()):
            assert (page.parent / link).exists(), link


def test_equal_notebooks_give_equal_bytes_and_no_path_of_this_machine(tmp_path: Path) -> None:
    for place in ("a", "b"):
        story(tmp_path / place)
        export_docs(tmp_path / place)
    first = everything(tmp_path / "a")
    assert first == everything(tmp_path / "b")
    export_docs(tmp_path / "a")
    assert first == everything(tmp_path / "a")
    assert not any(str(tmp_path).encode() in data for data in first.values())


def test_only_own_files_of_notebooks_that_are_gone_are_removed(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "edits.png").write_bytes(b"the picture of README.md")
    (docs / "notes.md").write_text("somebody's")
    story(tmp_path)
    make(tmp_path, "start", markdown("# Start"), ran("f", output(image_png=png(8, 8, "blue"))))
    export_docs(tmp_path)
    assert (docs / "start.png").is_file()
    (tmp_path / "notebooks" / "start.ipynb").unlink()
    export_docs(tmp_path)
    names = {"README.md", "edits.png", "flowedit-method.md", "flowedit-method.png", "notes.md"}
    assert set(everything(tmp_path)) == names
    assert (docs / "edits.png").read_bytes() == b"the picture of README.md"
    assert "[Start]" not in (docs / "README.md").read_text()


def test_pages_of_notebooks_not_executed_here_stay_and_stay_in_the_index(tmp_path: Path) -> None:
    story(tmp_path)
    executed_here = make(tmp_path, "start", markdown("# Start"), ran("f", output(image_png=png(8, 8, "blue"))))
    export_docs(tmp_path)
    before = everything(tmp_path)
    executed_here.unlink()
    assert tmp_path / "docs" / "start.md" not in export_docs(tmp_path)
    assert everything(tmp_path) == before


def test_a_picture_that_is_gone_from_its_notebook_goes(tmp_path: Path) -> None:
    path = story(tmp_path)
    export_docs(tmp_path)
    path.write_text(json.dumps(notebook(markdown("# Only words") | {"id": "cell-000"})))
    export_docs(tmp_path)
    assert set(everything(tmp_path)) == {"README.md", "flowedit-method.md"}


@pytest.mark.parametrize(("name", "there"), [("edits", "edits.png"), ("start", "start.md"), ("start", "README.md")])
def test_a_file_by_somebody_else_is_never_replaced(tmp_path: Path, name: str, there: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / there).write_bytes(b"somebody's")
    make(tmp_path, name, markdown("# A"), ran("f", output(image_png=png(8, 8, "blue"))))
    with pytest.raises(InputError, match=re.escape(f"docs/{there}: found a file that this command did not write")):
        export_docs(tmp_path)
    assert everything(tmp_path) == {there: b"somebody's"}


@pytest.mark.parametrize("names", [("a/b", "a-b"), ("readme",)])
def test_two_notebooks_cannot_share_a_page(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        make(tmp_path, name, markdown("# A"))
    with pytest.raises(InputError, match="the same page docs/"):
        export_docs(tmp_path)


def test_too_much_names_the_largest_and_writes_nothing(tmp_path: Path) -> None:
    story(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    written = BytesIO()
    Image.fromarray(noise).save(written, "PNG")
    data = base64.b64encode(written.getvalue()).decode()
    make(tmp_path, "start", markdown("# Start"), ran("f", output(image_png=data)))
    with pytest.raises(
        InputError, match=r"docs/: found 0\.0\d MB, the largest start\.png 0\.01 MB, .*; expected at most"
    ):
        export_docs(tmp_path, limit=0.005)
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize("where", ["home", "root"])
def test_absolute_paths_are_refused(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/home/me/photos/cat.png"
    if where == "root":  # wherever that is
        path = f"{tmp_path}/photos"
        monkeypatch.setattr("lib.stages.docs.ABSOLUTE", re.compile("(?!)"))
    make(tmp_path, "start", markdown(f"# A\n\nFrom `{path}`."))
    with pytest.raises(InputError, match=r"docs of notebook start: .*expected no absolute path"):
        export_docs(tmp_path)


def test_a_broken_notebook_is_one_error_with_its_name(tmp_path: Path) -> None:
    story(tmp_path)
    make(tmp_path, "start", markdown("# A")).write_text('{"nbformat": 4, "cells": 1}')
    with pytest.raises(InputError, match=r"^notebook start: [^\n]*$"):
        export_docs(tmp_path)
    assert not (tmp_path / "docs").exists()


def test_without_an_executed_notebook_there_is_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make repro"):
        export_docs(tmp_path)


def test_a_headline_cell_comes_first(tmp_path: Path) -> None:
    plain_table = "<table><tr><th>a</th></tr><tr><td>1</td></tr></table>"
    cells = [ran("a", output(text_html=PANDAS)), ran("b", output(text_html=plain_table), tags=("headline",))]
    make(tmp_path, "start", markdown("# A"), *cells)
    export_docs(tmp_path)
    text = (tmp_path / "docs" / "start.md").read_text()
    assert "| a |\n| --- |\n| 1 |" in text
    assert TABLE not in text


def test_tables_with_spans_and_marks_keep_their_columns() -> None:
    html = (
        "<table><thead><tr><th></th><th colspan='2'>PSNR</th></tr>"
        "<tr><th>arm</th><th>low</th><th>high</th></tr></thead>"
        "<tbody><tr><th rowspan='2'>a|b</th><td>1</td><td>x<br>*y*</td></tr>"
        "<tr><td>–</td><td>&lt;z&gt;</td></tr></tbody>"
        "</table><table><tr><td>second</td></tr></table>"
    )
    assert markdown_table(html).splitlines() == [
        "| arm | PSNR · low | PSNR · high |",
        "| --- | ---: | --- |",
        r"| a\|b | 1 | x \*y\* |",
        "|  | – | &lt;z> |",
    ]
    assert markdown_table("<p>none</p>") == markdown_table("<table></table>") == ""


def test_small_pictures_lose_margin_and_width_but_not_looks() -> None:
    ramp = np.linspace(0, 200, 1200).astype(np.uint8)
    image = Image.new("RGB", (1300, 120), "white")
    image.paste(Image.fromarray(np.broadcast_to(ramp, (100, 1200))).convert("RGB"), (50, 10))
    written = BytesIO()
    image.save(written, "PNG")
    with Image.open(BytesIO(small_png(written.getvalue(), "a"))) as small:
        assert (small.width, small.mode) == (900, "P")
        assert small.height == round(112 * 900 / 1212)
        assert small.convert("RGB").getpixel((450, 1)) == (255, 255, 255)
        middle = np.asarray(small.convert("L"), dtype=float)[40, 10:890]
    wanted = np.interp(np.arange(10, 890) + 0.5, np.array([6, 1206]) * 900 / 1212, [0, 200])
    assert abs(middle - wanted).max() < 4


@pytest.mark.parametrize("colour", [(0, 0, 0), (250, 250, 250), (255, 0, 0)])
def test_pictures_of_one_colour_keep_it(colour: tuple[int, int, int]) -> None:
    written = BytesIO()
    Image.new("RGB", (30, 30), colour).save(written, "PNG")
    with Image.open(BytesIO(small_png(written.getvalue(), "a"))) as small:
        assert small.mode == "P"
        assert small.convert("RGB").getcolors() == [(900, colour)]


def test_transparency_is_white_and_noise_keeps_its_colours() -> None:
    written = BytesIO()
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(written, "PNG")
    with Image.open(BytesIO(small_png(written.getvalue(), "a"))) as clear:
        assert clear.convert("RGB").getcolors() == [(81, (255, 255, 255))]
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    written = BytesIO()
    Image.fromarray(noise).save(written, "PNG")
    with Image.open(BytesIO(small_png(written.getvalue(), "a"))) as same:
        assert np.array_equal(np.asarray(same), noise)


def test_a_table_with_intervals_comes_before_one_without(tmp_path: Path) -> None:
    plain_table = "<table><tr><th>a</th></tr><tr><td>[1, 2]</td></tr></table>"
    make(
        tmp_path, "start", markdown("# A"), ran("a", output(text_html=plain_table)), ran("b", output(text_html=PANDAS))
    )
    export_docs(tmp_path)
    text = (tmp_path / "docs" / "start.md").read_text()
    assert TABLE in text
    assert "| a |" not in text


def test_an_equation_that_ends_the_first_sentence_is_told_in_page_and_index(tmp_path: Path) -> None:
    make(tmp_path, "start", markdown("# A\n\nEach solves\n\n$$x = y,$$\n\nand more."))
    export_docs(tmp_path)
    for page in ("start.md", "README.md"):
        text = (tmp_path / "docs" / page).read_text()
        assert "Each solves\n\n$$x = y.$$" in text
        assert "and more" not in text


def test_without_findings_the_reading_of_the_score_is_told(tmp_path: Path) -> None:
    cells = [
        markdown("# A"),
        markdown("## 4. Read the score\n\nAnchors."),
        ran("t", output(text_html=PANDAS)),
        markdown("One case.\n\nA recipe lies inside:"),
        markdown("## 5. Next\n\nno"),
    ]
    make(tmp_path, "start", *cells)
    export_docs(tmp_path)
    text = (tmp_path / "docs" / "start.md").read_text()
    assert "## Read the score\n\nAnchors." in text
    assert text.count(TABLE) == 1
    assert "One case.\n\n---" in text

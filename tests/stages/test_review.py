import base64
import json
import re
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from lib.core.errors import InputError
from lib.stages.pages_math import to_mathml
from lib.stages.pages_story import Number, numbers_of
from lib.stages.pages_tables import word_columns
from lib.stages.review import review

from .conftest import code_cell, notebook

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PANDAS = (
    "<div><style scoped>\n.dataframe thead th { text-align: right; }\n</style>\n"
    '<table border="1" class="dataframe"><thead><tr style="text-align: right;">'
    "<th></th><th>accuracy ↑</th><th>n</th></tr>"
    "<tr><th>95 % intervals</th><th></th><th></th></tr></thead>"
    "<tbody><tr><th>flowedit</th><td>0.81 [0.77, 0.84]</td><td>200</td></tr></tbody></table></div>"
)


def executed(root: Path, name: str, *cells: dict, metrics: dict | None = None) -> Path:
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    made = notebook(*(cell | {"id": f"cell-{number:03d}"} for number, cell in enumerate(cells)))
    (folder / "executed.ipynb").write_text(json.dumps(made))
    (folder / "metrics.json").write_text(
        json.dumps(metrics or {"arm": {"psnr": 20.5, "psnr_low": 20, "psnr_high": 21}})
    )
    return folder / "executed.ipynb"


def markdown(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def output(*, alt: str = "", **data: str) -> dict:
    return {
        "output_type": "display_data",
        "metadata": {"image/png": {"alt": alt}} if alt else {},
        "data": {key.replace("_", "/"): text for key, text in data.items()},
    }


def ran(source: str, *outputs: dict, tags: tuple[str, ...] = ()) -> dict:
    metadata = {"tags": list(tags)} if tags else {}
    return code_cell(source, **metadata) | {"outputs": list(outputs), "execution_count": 1}


def png(width: int, height: int, colour: str) -> str:
    written = BytesIO()
    Image.new("RGB", (width, height), colour).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def page(root: Path, *cells: dict) -> str:
    executed(root, "start", *cells)
    review(root)
    return (root / "review" / "start.html").read_text()


def test_pages_are_whole_without_a_network(tmp_path: Path) -> None:
    text = "# About $x_t$\n\n$$v = \\varepsilon - x_0$$\n\n[The paper](https://arxiv.org/abs/2306.00000) <https://example.org>"
    executed(tmp_path, "start", markdown(text), ran("print(1)", output(image_png=PIXEL)))
    executed(tmp_path, "paper/method", markdown("## Method"))
    index = review(tmp_path).read_text()
    shown = (tmp_path / "review" / "start.html").read_text()
    other = (tmp_path / "review" / "paper" / "method.html").read_text()
    for whole in (index, shown, other):
        assert "http" not in whole
        assert not re.search(r"<(?:link|iframe|script) [^>]*(?:src|href)", whole)
        script = re.search(r"<script>(.*?)</script>", whole, re.DOTALL)[1]
        assert not re.search(r"fetch|XMLHttp|WebSocket|import\b|Storage|cookie|location", script)
    assert shown.count("<math") == 2
    assert re.search(r'<h1 id="about-x[^"]*">About <math', shown)
    assert "(arxiv.org/abs/2306.00000)" in shown
    assert f"data:image/png;base64,{PIXEL}" in shown
    assert 'href="../index.html"' in other


def test_light_and_dark_follow_the_system_and_a_button(tmp_path: Path) -> None:
    shown = page(tmp_path, markdown("# A"))
    assert "@media screen and (prefers-color-scheme: dark)" in shown
    assert ":root[data-theme=dark]" in shown
    assert ":root[data-theme=dark] .highlight" in shown
    assert '<button type="button" id="theme" hidden>' in shown  # the script shows it: without one it would do nothing


def test_the_index_tells_of_each_notebook(tmp_path: Path) -> None:
    words = "# A *good* title\n\nThe first paragraph with $x_t$.\n\nThe second one."
    rows = {"sdedit": {"psnr": 10.0, "n": 3}, "flowedit": {"psnr": 20.51, "psnr_low": 20.04, "psnr_high": 21.0, "n": 3}}
    first, second = (output(image_png=png(4, 4, colour)) for colour in ("red", "blue"))
    executed(tmp_path, "flowedit/method", markdown(words), ran("plot()", first), ran("b()", second), metrics=rows)
    executed(tmp_path, "start", markdown("# Start"), ran("a()", first), ran("b()", second, tags=("headline",)))
    index = review(tmp_path).read_text()
    assert '<h2><a href="flowedit/method.html">A <em>good</em> title</a></h2>' in index
    assert "The first paragraph with <math" in index
    assert "The second one" not in index
    assert "<b>flowedit</b> <span>PSNR 20.5 <small>[20, 21]</small></span>" in index
    assert "<td>20.51 <small>[20.04, 21]</small></td>" in index
    pictures = [
        Image.open(BytesIO(base64.b64decode(data))).convert("RGB").getpixel((0, 0))
        for data in re.findall(r'<img alt="headline figure"[^>]*base64,([^"]*)"', index)
    ]
    assert pictures == [(0, 0, 255), (255, 0, 0)]  # start, which lies in no folder, comes first: it has the tag


def test_code_is_folded_and_named_by_its_tag(tmp_path: Path) -> None:
    shown = page(tmp_path, ran("x: int = 1", tags=("parameters",)), ran("print(x)"))
    assert re.findall(r'<details class="code"><summary>(.*?)</summary>', shown) == ["parameters", "code"]
    assert '<details class="code" open' not in shown


def test_tables_scroll_in_their_own_box_and_have_one_line_of_headings(tmp_path: Path) -> None:
    shown = page(tmp_path, markdown("| a | b |\n|---|---|\n| 1 | 2 |"), ran("t", output(text_html=PANDAS)))
    assert shown.count('<div class="table" tabindex="0"><table') == shown.count("</table></div>") == 2
    assert re.search(r"<thead><tr[^>]*><th>95 % intervals</th><th>accuracy&nbsp;↑</th><th>n</th></tr></thead>", shown)
    assert "<style scoped>" not in shown


def test_long_pages_have_contents_with_working_links(tmp_path: Path) -> None:
    headings = ["Setting", "Setting", "What $x_t$ is", "End"]
    shown = page(tmp_path, markdown("# Title"), *(markdown(f"## {heading}") for heading in headings))
    links = re.findall(r'<li class="rank2"><a href="#([^"]*)">', shown)
    assert len(set(links)) == len(links) == 4
    assert links[:2] == ["setting", "setting-2"]
    assert all(f'<h2 id="{link}">' in shown for link in links)


def test_short_pages_have_none(tmp_path: Path) -> None:
    assert 'class="contents"' not in page(tmp_path, markdown("# Title\n\n## Only one"))


def test_pairs_of_pictures_become_before_after_figures(tmp_path: Path) -> None:
    sides = [output(image_png=png(64, 64, c), alt=alt) for c, alt in (("red", "before: a"), ("blue", "after: b"))]
    alone = output(image_png=PIXEL, alt="before: nothing follows")
    shown = page(tmp_path, ran("show()", *sides, *sides, alone))
    assert shown.count('<figure class="before-after"><img alt="before: a" width="64" height="64" class="pixels"') == 2
    assert shown.count("<figcaption><span>before: a</span><span>after: b</span></figcaption></figure>") == 2
    assert shown.count('<div class="output grid">') == 1
    assert '<div class="output"><img alt="before: nothing follows"' in shown


def test_links_between_notebooks_lead_from_page_to_page(tmp_path: Path) -> None:
    shown = page(tmp_path, markdown("[method](flowedit/method.ipynb#end) [file](../lib/a.py)"))
    assert '<a href="flowedit/method.html#end">method</a>' in shown
    assert '<a href="../lib/a.py">file</a>' in shown


def test_a_link_to_a_cell_of_the_notebook_leads_to_it(tmp_path: Path) -> None:
    cells = [markdown("# T"), ran("a = 1", tags=("parameters",)), ran("a = 2", tags=("injected-parameters",))]
    shown = page(tmp_path, *cells, markdown("[below](start.ipynb#cell-id=cell-03)"), markdown("here"))
    assert '<a href="start.html#cell-id=cell-03">below</a>' in shown
    assert '<section id="cell-id=cell-03"><p>here</p></section>' in "".join(shown.split("\n"))


def test_styled_tables_of_two_cells_keep_their_own_styles(tmp_path: Path) -> None:
    styled = "<style>#T_0_row0 { color: red }</style><table id='T_0'><tr><td id='T_0_row0'>1</td></tr></table>"
    shown = page(tmp_path, ran("a", output(text_html=styled)), ran("b", output(text_html=styled)))
    assert "#T_0_0_row0" in shown
    assert "#T_1_0_row0" in shown


def test_outputs_of_every_kind_are_shown(tmp_path: Path) -> None:
    stream = {"output_type": "stream", "name": "stdout", "text": "a < b \x1b[31mred\x1b[0m"}
    failed = {"output_type": "error", "ename": "E", "evalue": "e", "traceback": ["Traceback of <E>"]}
    kinds = [output(text_markdown="*seen*"), output(text_latex="$\\frac{1}{2}$"), output(text_plain="<plain>")]
    drawing = {"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": "<svg></svg>"}}
    shown = page(tmp_path, ran("a", stream, failed, *kinds, drawing, output(application_unknown="x")))
    for piece in (
        "a &lt; b",
        "of &lt;E&gt;",
        "<em>seen</em>",
        "<mfrac>",
        "&lt;plain&gt;",
        "data:image/svg+xml;base64,",
    ):
        assert piece in shown


def test_a_figure_without_a_text_of_its_own_is_told_by_its_heading(tmp_path: Path) -> None:
    assert 'alt="figure under “The trade-off”"' in page(
        tmp_path, markdown("## The trade-off"), ran("f", output(image_png=PIXEL))
    )


def test_pages_of_notebooks_that_are_gone_go_too(tmp_path: Path) -> None:
    executed(tmp_path, "start", markdown("a"))
    (tmp_path / "review").mkdir()
    (tmp_path / "review" / "old.html").touch()
    review(tmp_path)
    assert sorted(path.name for path in (tmp_path / "review").iterdir()) == ["index.html", "start.html"]


def test_equal_notebooks_give_equal_bytes(tmp_path: Path) -> None:
    shown = page(tmp_path, markdown("# A\n\nb $x$"), ran("f", output(image_png=png(40, 40, "red"))))
    index = (tmp_path / "review" / "index.html").read_bytes()
    assert review(tmp_path).read_bytes() == index
    assert (tmp_path / "review" / "start.html").read_text() == shown


@pytest.mark.parametrize("html", ['<img src="https://example.org/a.png">', "<script>1</script>", '<iframe src="a">'])
def test_a_page_that_needs_a_network_or_a_script_is_refused(tmp_path: Path, html: str) -> None:
    executed(tmp_path, "start", ran("show()", output(text_html=html)))
    with pytest.raises(InputError, match="page of start"):
        review(tmp_path)
    assert not (tmp_path / "review").exists()


@pytest.mark.parametrize("text", ["{", '{"nbformat": 4}', '{"nbformat": 4, "nbformat_minor": 5, "cells": [{}]}'])
def test_a_broken_notebook_is_one_error_with_its_name(tmp_path: Path, text: str) -> None:
    executed(tmp_path, "paper/method", markdown("a")).write_text(text)
    with pytest.raises(InputError, match=r"^[^\n]*notebook paper/method: [^\n]*$"):
        review(tmp_path)


@pytest.mark.parametrize("data", ["bm8gcGljdHVyZQ==", "abc"])
def test_a_broken_picture_is_one_error_with_its_notebook(tmp_path: Path, data: str) -> None:
    executed(tmp_path, "start", ran("f", output(image_png=data)))
    with pytest.raises(InputError, match=r"^picture in start: [^\n]*$"):
        review(tmp_path)


@pytest.mark.parametrize("text", ["{", '{"arm": {"psnr": "high"}}'])
def test_broken_metrics_are_one_error_with_their_notebook(tmp_path: Path, text: str) -> None:
    executed(tmp_path, "start", markdown("a")).with_name("metrics.json").write_text(text)
    with pytest.raises(InputError, match=r"^[^\n]*metrics.json of start[^\n]*$"):
        review(tmp_path)


def test_a_picture_that_is_not_attached_is_refused(tmp_path: Path) -> None:
    executed(tmp_path, "start", markdown("![a](attachment:a.png)"))
    with pytest.raises(InputError, match="page of start"):
        review(tmp_path)


def test_attached_pictures_are_inside_the_page(tmp_path: Path) -> None:
    cell = markdown("![a](attachment:a.png)") | {"attachments": {"a.png": {"image/png": PIXEL}}}
    assert f'src="data:image/png;base64,{PIXEL}"' in page(tmp_path, cell)


def test_without_an_executed_notebook_there_is_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make repro"):
        review(tmp_path)


def test_numbers_are_short_and_counts_stay_whole() -> None:
    row = {"background_psnr": 22.554, "background_psnr_low": 21.9, "background_psnr_high": 23.1, "n": 1234, "x": 2.0}
    told = numbers_of(row | {"x_low": 2.0, "x_high": 2.0}, digits=3)
    assert told == (Number("background PSNR", "22.6", "[21.9, 23.1]"), Number("n", "1234", ""), Number("x", "2", ""))


@pytest.mark.parametrize(
    ("source", "formulas"),
    [("a $x$ b $y$", 2), ("$$\nx\n$$", 1), ("costs $5 and $6", 0), ("`$x$`", 0), ("```\n$x$\n```", 0), (r"\$x\$", 0)],
)
def test_dollars_are_mathematics_where_they_are_meant(source: str, formulas: int) -> None:
    assert to_mathml(source, lambda text: text).count("<math") == formulas


def test_aligned_equations_become_rows() -> None:
    made = to_mathml(r"$$\begin{aligned} a &= b \\ c &= d \end{aligned}$$", lambda text: text)
    assert made.count("<mtr>") == 2
    assert "<mi>&</mi>" not in made


def test_a_bracket_with_an_index_a_prime_and_a_logarithm_are_set_as_in_print() -> None:
    made = to_mathml(r"$\big[\,x\,\big]_n$ and $t'$ and $d\ln a$", lambda text: text)
    assert re.search(r"<mo minsize[^>]*>\]</mo><msub><mi></mi>", made)
    assert re.search(r"<mi>t</mi><mo [^>]*>&#x02032;</mo>", made)
    assert re.search(r"<mi>d</mi><mo lspace[^>]*>ln</mo>", made)
    assert "<msup>" not in made


def test_columns_of_words_begin_at_the_left(tmp_path: Path) -> None:
    rows = [
        ("people", "one word apart", "0.89 [0.86, 0.92]", "–"),
        ("objects", "–", "–", "cat"),
        ("all", "", "3", "dog"),
    ]
    body = "".join(f"<tr><th>{first}</th>" + "".join(f"<td>{x}</td>" for x in rest) + "</tr>" for first, *rest in rows)
    head = "<thead><tr>" + "<th>a</th>" * 4 + "</tr></thead>"
    shown = page(tmp_path, ran("t", output(text_html=f"<table>{head}<tbody>{body}</tbody></table>")))
    assert '<div class="table words-3 words-1" tabindex="0"><table>' in shown
    assert word_columns("<table><tr><td colspan='2'>a</td></tr></table>") == {}


def test_a_long_text_breaks_its_lines_also_below_a_heading_that_spans(tmp_path: Path) -> None:
    lines = [("exponent", "a", "words " * 10, 1), ("exponent", "b", "w", 2), ("path", "c", "w", 3)]
    table = pd.DataFrame(lines, columns=["axis", "arm", "text", "n"]).set_index(["axis", "arm"])
    shown = page(tmp_path, ran("t", output(text_html=table.to_html())))
    assert 'rowspan="2"' in shown
    assert '<div class="table words-3 words-2 long-2" tabindex="0">' in shown
    assert re.search(r"<thead><tr[^>]*><th>axis</th><th>arm</th><th>text</th><th>n</th></tr></thead>", shown)


def test_a_named_index_and_named_columns_share_one_corner(tmp_path: Path) -> None:
    table = pd.DataFrame({"object": [0.5], "add": [1.0]}, index=pd.Index(["lore"], name="arm")).rename_axis(
        columns="type"
    )
    shown = page(tmp_path, ran("t", output(text_html=table.to_html())))
    assert shown.count("<tr") == 2
    assert "<th>arm / type</th>" in shown


def test_a_card_ends_its_sentence_with_the_equation_it_leads_to(tmp_path: Path) -> None:
    executed(tmp_path, "start", markdown("# A\n\nEach member solves\n\n$$a = b,$$\n\nalong a path."))
    executed(tmp_path, "other", markdown("# B\n\nIt moves one thing, the noise:\n\n1. so"))
    index = review(tmp_path).read_text()
    assert re.search(r'Each member solves</p>\s*(?:<p>)?<span class="equation"[^>]*><math display="block"', index)
    assert "along a path" not in index
    assert "one thing, the noise.</p>" in index

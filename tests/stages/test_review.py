import json
import re
from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.stages.review import review, to_mathml

from .conftest import code_cell, notebook

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def executed(root: Path, name: str, *cells: dict, metrics: dict | None = None) -> None:
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    made = notebook(*(cell | {"id": f"cell-{number:03d}"} for number, cell in enumerate(cells)))
    (folder / "executed.ipynb").write_text(json.dumps(made))
    (folder / "metrics.json").write_text(
        json.dumps(metrics or {"arm": {"psnr": 20.5, "psnr_low": 20, "psnr_high": 21}})
    )


def markdown(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def output(**data: str) -> dict:
    return {
        "output_type": "display_data",
        "metadata": {},
        "data": {key.replace("_", "/"): text for key, text in data.items()},
    }


def test_pages_are_whole_without_a_network(tmp_path: Path) -> None:
    text = "# About $x_t$\n\n$$v = \\varepsilon - x_0$$\n\n[The paper](https://arxiv.org/abs/2306.00000) <https://example.org>"
    code = code_cell("print(1)") | {"outputs": [output(image_png=PIXEL)], "execution_count": 1}
    executed(tmp_path, "start", markdown(text), code)
    executed(tmp_path, "paper/method", markdown("## Method"))
    index = review(tmp_path)
    page = (tmp_path / "review" / "start.html").read_text()
    everything = page + index.read_text() + (tmp_path / "review" / "paper" / "method.html").read_text()
    assert "http" not in everything
    assert "<script" not in everything
    assert page.count("<math") == 2
    assert re.search(r"<h1>About <math", page)
    assert "The paper" in page
    assert "(arxiv.org/abs/2306.00000)" in page
    assert f"data:image/png;base64,{PIXEL}" in page
    assert "prefers-color-scheme: dark" in page


def test_the_index_has_headline_and_first_figure(tmp_path: Path) -> None:
    code = code_cell("plot()") | {"outputs": [output(image_png=PIXEL)], "execution_count": 1}
    executed(tmp_path, "paper/method", code)
    index = review(tmp_path).read_text()
    assert '<a href="paper/method.html">' in index
    assert "20.5 <small>[20, 21]</small>" in index
    assert PIXEL in index
    assert 'href="../index.html"' in (tmp_path / "review" / "paper" / "method.html").read_text()


def test_pages_of_notebooks_that_are_gone_go_too(tmp_path: Path) -> None:
    executed(tmp_path, "start", markdown("a"))
    (tmp_path / "review").mkdir()
    (tmp_path / "review" / "old.html").touch()
    review(tmp_path)
    assert sorted(path.name for path in (tmp_path / "review").iterdir()) == ["index.html", "start.html"]


def test_a_page_that_needs_a_network_is_refused(tmp_path: Path) -> None:
    html = '<img src="https://example.org/a.png">'
    executed(tmp_path, "start", code_cell("show()") | {"outputs": [output(text_html=html)], "execution_count": 1})
    with pytest.raises(InputError, match="page of start"):
        review(tmp_path)


def test_without_an_executed_notebook_there_is_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make repro"):
        review(tmp_path)


@pytest.mark.parametrize(
    ("source", "formulas"),
    [("a $x$ b $y$", 2), ("$$\nx\n$$", 1), ("costs $5 and $6", 0), ("`$x$`", 0), ("```\n$x$\n```", 0), (r"\$x\$", 0)],
)
def test_dollars_are_mathematics_where_they_are_meant(source: str, formulas: int) -> None:
    assert to_mathml(source, lambda text: text).count("<math") == formulas

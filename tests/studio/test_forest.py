"""The ledger's figure and tables."""

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from lib.claims.verdict import Row
from lib.core.errors import InputError
from lib.studio.forest import MARKS, against_base, forest, ledger_html, ledger_markdown, tally


def row(name, metric="psnr", verdict="supported", **more):
    more = {
        "confirmatory": True,
        "direction": "higher",
        "margin": None,
        "paper_value": None,
        "kind": "superiority",
    } | more
    effect = {"effect": 1.5, "ci_low": 1.0, "ci_high": 2.0, "n": 20, "p_holm": 0.0123} if verdict[0] != "n" else {}
    return vars(
        Row(
            id=name,
            paper="X",
            statement=f"a|b of <{name}>",
            metric=metric,
            measure=metric,
            verdict=verdict,
            notebook="x/method",
            **effect | more,
        )
    )


@pytest.fixture
def rows():
    return [
        row("x-1", cell="cell-004", paper_value=1.75),
        row("x-2", direction="lower", verdict="contradicted", margin=0.5),
        row("x-3", metric="ssim", verdict="inconclusive", confirmatory=False),
        row("x-4", metric="ssim", kind="equivalence", direction=None, margin=2.5),
        row("x-5", metric="error", kind="identity", direction=None, margin=0.1, ci_low=None, ci_high=None, effect=0.05),
        row("x-6", metric="clip", verdict="not tested here", reason="needs weights"),
    ]


def points(figure):
    """Effect, colour and face of each claim, by id."""
    lines = [line for axes in figure.axes for line in axes.lines if not line.get_label().startswith("_")]
    return {
        line.get_label(): (
            line.get_xdata()[0],
            to_hex(line.get_color()).upper(),
            line.get_marker(),
            line.get_markerfacecolor(),
        )
        for line in lines
    }


def xs(axes):
    return [list(map(float, line.get_xdata())) for line in axes.lines]


def test_a_panel_per_metric_and_a_line_per_claim(rows):
    figure = forest(rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["psnr", "ssim", "error"]
    assert [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes] == [
        ["x-1", "x-2"],
        ["x-3", "x-4"],
        ["x-5"],
    ]
    found = points(figure)
    assert found["x-1"] == (1.5, *MARKS["supported"], MARKS["supported"][0])
    assert found["x-2"][:3] == (-1.5, *MARKS["contradicted"])  # "lower" is claimed: turned round
    assert found["x-3"][1:] == (*MARKS["inconclusive"], "white")  # exploratory: hollow
    figure.canvas.draw()


def test_intervals_margins_and_the_papers_value(rows):
    psnr, ssim, error = forest(rows).axes
    assert xs(psnr) == [[1.0, 2.0], [1.5], [0.0, 0.0], [1.75], [-1.0, -2.0], [-1.5], [-0.5, -0.5]]
    assert [-2.5, -2.5] in xs(ssim) and [2.5, 2.5] in xs(ssim)
    assert xs(error) == [[0.05], [0.1, 0.1]]


def test_the_legend_counts_what_was_not_tested(rows):
    texts = [text.get_text() for text in forest(rows).legends[0].get_texts()]
    assert texts[:4] == ["supported (3)", "contradicted (1)", "inconclusive (1)", "not tested here (1)"]
    assert tally(rows[:1]) == {"supported": 1, "contradicted": 0, "inconclusive": 0, "not tested here": 0}
    untested = forest(rows[-1:])
    untested.canvas.draw()
    assert not points(untested)
    with pytest.raises(InputError):
        forest([])


def test_markdown_has_a_line_per_claim_with_links(rows):
    header, rule, *lines = ledger_markdown(rows).splitlines()
    assert header.count("|") == rule.count("|") == 9
    assert len(lines) == 6
    assert lines[0] == (
        "| x-1 | a\\|b of <x-1> | 1.5 [1, 2] | 1.75 | 20 | 0.0123 | supported | "
        "[x/method](x/method.html#cell-id=cell-004) |"
    )
    assert lines[2].startswith("| x-3 (exploratory) |")
    assert "[x/method](x/method.html) |" in lines[1]
    assert lines[4].split(" | ")[2] == "largest 0.05"
    assert lines[5].endswith("| – | – | – | – | not tested here: needs weights | x/method |")
    assert "(../runs/x/method/executed.ipynb#cell-id" in ledger_markdown(rows, "../runs/{notebook}/executed.ipynb")


def test_html_is_escaped_and_coloured(rows):
    page = ledger_html(rows)
    assert page.count("<tr>") == 7
    assert "a|b of &lt;x-1&gt;" in page
    assert '<a href="x/method.html#cell-id=cell-004">x/method</a>' in page
    assert all(page.count(colour) for colour, _ in MARKS.values())
    assert page.count("<a ") == 5


def test_an_ablations_arms_against_their_base():
    rows = [
        ("step", "euler", "psnr", 1.0, 0.5, 1.5),
        ("step", "euler", "ssim", 0.1, 0.0, 0.2),
        ("step", "jump", "ssim", -0.1, -0.2, 0.0),
        ("step", "jump", "psnr", -1.0, -1.5, -0.5),
        ("path", "fresh", "psnr", 2.0, 1.5, 2.5),
        ("path", "fresh", "ssim", 0.3, 0.1, 0.5),
    ]
    differences = pd.DataFrame(rows, columns=["axis", "arm", "metric", "value", "low", "high"])
    figure = against_base(differences, {"psnr": "PSNR", "ssim": "SSIM"})
    figure.canvas.draw()
    psnr, ssim = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["PSNR", "SSIM"]
    assert [label.get_text() for label in psnr.get_yticklabels()] == ["euler", "jump", "fresh"]
    assert xs(psnr) == [[0.5, 1.5], [1.0], [-1.5, -0.5], [-1.0], [1.5, 2.5], [2.0], [0.0, 0.0]]
    assert [value for _, (value, *_) in points(figure).items()] == [0.1, -0.1, 0.3]
    euler, jump, fresh = [line for line in ssim.lines if not line.get_label().startswith("_")]
    assert euler.get_color() == jump.get_color() != fresh.get_color()
    assert fresh.get_ydata()[0] - jump.get_ydata()[0] > jump.get_ydata()[0] - euler.get_ydata()[0]

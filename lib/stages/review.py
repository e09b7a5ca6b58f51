"""The executed notebooks as web pages in review/, to be read without JupyterLab and without a network.

What authors of notebooks can say is in `pages_story` (headline picture, table, findings) and `pages_html`
(before-after figures).
"""

import base64
import html
import os
import shutil
from pathlib import Path

from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.stages.pages_html import Body, body_of, inline, passage, picture
from lib.stages.pages_pictures import small_png
from lib.stages.pages_story import Number, Story, executed_notebooks, numbers_of, read_executed, read_story

HERE = Path(__file__).parent
LIGHT_NOT_CHOSEN, DARK_CHOSEN = ":not([data-theme=light])", "[data-theme=dark]"
LONG = 4  # headings from which on a page has a table of contents
INTRODUCTION = "Each with a figure and its headline numbers. Inside, code is folded, and a click enlarges a picture."
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body class="{kind}">
<header>{head}<span class="buttons">
<button type="button" id="unfold" hidden>show code</button>
<button type="button" id="theme" hidden>dark</button></span></header>
{body}
<dialog id="large"><img alt=""></dialog>
<script>{script}</script></body></html>
"""


def review(root: Path = ROOT) -> Path:
    """Write a page for each runs/**/executed.ipynb and an index of them. Returns the index.

    InputError if there is none yet, if one is no notebook, or if a page would need something from the network.
    """
    notebooks = executed_notebooks(root)
    if not notebooks:
        raise InputError("runs/", found="no executed notebook", expected="one at least: make repro")
    folder, beside = root / "review", root / "review.new"
    shutil.rmtree(beside, ignore_errors=True)
    style = (HERE / "review.css").read_text(encoding="utf-8") + _colours()
    script = (HERE / "pages_review.js").read_text(encoding="utf-8")
    stories, bodies = [], []
    for name, path in notebooks.items():
        notebook = read_executed(path, name)
        stories.append(read_story(notebook, name, path.parent))
        bodies.append(body_of(notebook, name))
    for position, (story, body) in enumerate(zip(stories, bodies, strict=True)):
        page = beside / f"{story.name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        around = [stories[i] if 0 <= i < len(stories) else None for i in (position - 1, position + 1)]
        text = PAGE.format(
            title=html.escape(story.title), style=style, script=script, kind="page", **_page(story, body, *around)
        )
        page.write_text(text, encoding="utf-8")
    cards = "".join(_card(story) for story in stories)
    text = PAGE.format(
        title="Palimpsest: executed notebooks",
        style=style,
        script=script,
        kind="index",
        head="<b>Palimpsest</b>",
        body=f'<main><h1>Executed notebooks</h1><p>{INTRODUCTION}</p><div class="cards">{cards}</div></main>',
    )
    (beside / "index.html").write_text(text, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return folder / "index.html"


def _page(story: Story, body: Body, before: Story | None, after: Story | None) -> dict[str, str]:
    """Head and body of a page, with a table of contents if it is long and links to its neighbours."""
    here = Path(story.name).parent

    def to(name: str) -> str:
        return html.escape(os.path.relpath(f"{name}.html", here))

    contents = "".join(
        f'<li class="rank{rank}"><a href="#{place}">{text}</a></li>' for rank, place, text in body.headings
    )
    long = sum(rank == 2 for rank, _, _ in body.headings) >= LONG
    aside = f'<details class="contents"><summary>Contents</summary><ol>{contents}</ol></details>' if long else ""
    neighbours = "".join(
        f'<a href="{to(other.name)}">{sign.format(inline(other.title, other.name))}</a>'
        for other, sign in ((before, "← {}"), (after, "{} →"))
        if other
    )
    return {
        "head": f'<a href="{to("index")}">all notebooks</a> <span class="name">{html.escape(story.name)}</span>',
        "body": f"<div class='columns'>{aside}<main>{body.html}<footer>{neighbours}</footer></main></div>",
    }


def _card(story: Story) -> str:
    address = html.escape(story.name)
    shown = numbers = ""
    if story.picture:
        data = base64.b64encode(small_png(story.picture, story.name)).decode()
        shown = f'<a class="shown" href="{address}.html">{picture("image/png", data, "headline figure")}</a>'
    if story.metrics:
        line = "".join(
            f"<span>{html.escape(number.name)} {_value(number)}</span>"
            for number in numbers_of(story.metrics[story.arm], digits=3)
        )
        numbers = f'<p class="numbers"><b>{html.escape(story.arm)}</b> {line}</p>{_all_numbers(story)}'
    return (
        f'<article class="card">{shown}<div><p class="name">{address}</p>'
        f'<h2><a href="{address}.html">{inline(story.title, story.name)}</a></h2>'
        f"{passage(story.paragraph, story.name)}{numbers}</div></article>\n"
    )


def _all_numbers(story: Story) -> str:
    """The table of metrics.json, folded, if there is more than one arm."""
    if len(story.metrics) == 1:
        return ""
    rows = {arm: {number.name: number for number in numbers_of(row)} for arm, row in story.metrics.items()}
    heads = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = "".join(
        f"<tr><th>{html.escape(arm)}</th>"
        + "".join(f"<td>{_value(row[name]) if name in row else ''}</td>" for name in heads)
        + "</tr>"
        for arm, row in rows.items()
    )
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<details><summary>all {len(rows)} rows</summary><div class="table" tabindex="0">{table}</div></details>'


def _value(number: Number) -> str:
    return f"{number.value} <small>{number.interval}</small>" if number.interval else number.value


def _colours() -> str:
    """The colours of code, light and dark, under the same conditions as review.css has for the rest."""
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark")
    unless, chosen = (dark.get_style_defs(f":root{which} .highlight") for which in (LIGHT_NOT_CHOSEN, DARK_CHOSEN))
    return (
        f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{unless}\n}}\n@media screen {{\n{chosen}\n}}\n"
        ":root .highlight.highlight { background: none; }\n"
    )

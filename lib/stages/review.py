"""The executed notebooks as web pages in review/, to be read without JupyterLab and without a network."""

import html
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.paths import ROOT

STYLE = Path(__file__).with_name("review.css")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
MATH = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]*[^\s\\$])?)\$(?![\d$])", re.DOTALL)
LINK = re.compile(r'<a\b[^>]*?\bhref="(?P<url>[^"]*)"[^>]*>(?P<text>.*?)</a>', re.DOTALL)
HEADING = re.compile(r"<(h[1-6])\b[^>]*>")
ANCHOR = re.compile(r'<a class="anchor-link".*?</a>', re.DOTALL)
OUTSIDE = re.compile(r"""(?:src|srcset|href)\s*=\s*["'](?:https?:)?//[^"']*|@import\b[^;]*|url\(["']?https?:[^)]*""")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>{body}</body></html>
"""


def review(root: Path = ROOT) -> Path:
    """Write a page for each runs/**/executed.ipynb and an index of them. Returns the index.

    InputError if there is none yet, or if a page would need something from the network.
    """
    notebooks = {path.parent.relative_to(root / "runs").as_posix(): path for path in _executed(root)}
    if not notebooks:
        raise InputError("runs/", found="no executed notebook", expected="one at least: make repro")
    folder, beside = root / "review", root / "review.new"
    shutil.rmtree(beside, ignore_errors=True)
    style = STYLE.read_text(encoding="utf-8") + _colours()
    cards = []
    for name, path in notebooks.items():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        page = beside / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        up = os.path.relpath(beside / "index.html", page.parent)
        body = f'<nav><a href="{up}">all notebooks</a></nav><main>{_body(path)}</main>'
        page.write_text(_page(name, style, body), encoding="utf-8")
        cards.append(_card(name, notebook, path.parent))
    body = f"<main><h1>Palimpsest: executed notebooks</h1>{''.join(cards)}</main>"
    (beside / "index.html").write_text(_page("Palimpsest", style, body), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return folder / "index.html"


def to_mathml(markdown: str, render: Callable[[str], str]) -> str:
    """`render(markdown)` with its `$…$` and `$$…$$` as MathML. What stands in code stays as it is."""
    from latex2mathml.converter import convert

    formulas: list[str] = []

    def keep(found: re.Match[str]) -> str:
        block = found["block"] is not None
        latex = found["block"] or found["inline"]
        try:
            mathml = convert(latex.strip(), display="block" if block else "inline")
        except Exception:  # the library raises many kinds; the source itself can still be read
            mathml = f"<code>{html.escape(latex)}</code>"
        formulas.append(mathml.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', ""))
        return f"MATH{len(formulas) - 1}HTAM"

    parts = CODE.split(markdown)
    text = "".join(part if position % 2 else MATH.sub(keep, part) for position, part in enumerate(parts))
    page = HEADING.sub(r"<\1>", ANCHOR.sub("", render(text)))  # headings get ids made of their text, formulas included
    return re.sub(r"MATH(\d+)HTAM", lambda found: formulas[int(found[1])], page)


def _executed(root: Path) -> list[Path]:
    return sorted((root / "runs").rglob("executed.ipynb"))


def _body(path: Path) -> str:
    from nbconvert import HTMLExporter
    from nbconvert.filters import markdown2html_mistune

    exporter = HTMLExporter(template_name="basic")
    exporter.register_filter("markdown2html", _Markdown(markdown2html_mistune))
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    body, _ = exporter.from_filename(str(path))
    body = LINK.sub(_link, body)
    if outside := OUTSIDE.search(body):
        raise InputError(f"page of {path.parent.name}", found=outside.group()[:120], expected="nothing from a network")
    return body


class _Markdown:
    """The filter `markdown2html` of nbconvert, with equations."""

    def __init__(self, render: Callable[[str], str]) -> None:
        self.render = render

    def __call__(self, source: str) -> str:
        return to_mathml(source, self.render)


def _link(found: re.Match[str]) -> str:
    """Pages hold no external address: such a link becomes its text and, to be copied, the address without scheme."""
    url, text = found["url"], found["text"]
    if not re.match(r"https?://", url):
        return found.group()
    bare = re.sub(r"^https?://", "", url).rstrip("/")
    text = re.sub(r"https?://", "", text)
    return text if bare in text else f'{text} <span class="address">({bare})</span>'


def _card(name: str, notebook: dict[str, Any], folder: Path) -> str:
    metrics = folder / "metrics.json"
    rows = json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else {}
    heads = list(dict.fromkeys(key for row in rows.values() for key in row if not key.endswith(("_low", "_high"))))
    table = "".join(
        f"<tr><th>{html.escape(arm)}</th>{''.join(f'<td>{_value(row, key)}</td>' for key in heads)}</tr>"
        for arm, row in rows.items()
    )
    head = "".join(f"<th>{html.escape(key)}</th>" for key in heads)
    figure = next(
        (
            f'<img alt="first figure" src="data:image/png;base64,{"".join(output["data"]["image/png"]).strip()}">'
            for cell in notebook["cells"]
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        ),
        "",
    )
    table = f"<table><tr><th></th>{head}</tr>{table}</table>" if table else ""
    address = html.escape(name)
    return f'<section class="card"><h2><a href="{address}.html">{address}</a></h2>{table}{figure}</section>'


def _value(row: dict[str, float], key: str) -> str:
    if key not in row:
        return ""
    bounds = [row.get(f"{key}{end}") for end in ("_low", "_high")]
    interval = f" <small>[{bounds[0]:g}, {bounds[1]:g}]</small>" if None not in bounds else ""
    return f"{row[key]:g}{interval}"


def _colours() -> str:
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n.highlight {{ background: none; }}"


def _page(title: str, style: str, body: str) -> str:
    return PAGE.format(title=html.escape(title), style=style, body=body)

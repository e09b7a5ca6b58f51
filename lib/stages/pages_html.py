"""The cells of an executed notebook as HTML that needs neither a network nor a notebook server.

Two pictures of one cell with alternative texts `before: …` and `after: …`, one directly after the other, become a
*before-after figure*: the second shows while the pointer, the keyboard or a tap is on it. In a notebook that is

    display(Image(data=source_png, alt="before: source"), Image(data=edited_png, alt="after: flowedit"))

and several such pairs of a cell stand in a grid. An output of HTML may bring the same figures itself:
`<figure class="before-after"><img alt="before: …" …><img alt="after: …" …></figure>`, also inside `<div class="grid">`.
"""

import base64
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib.core.errors import InputError
from lib.stages.pages_math import to_mathml
from lib.stages.pages_pictures import joined, size_of
from lib.stages.pages_tables import word_columns

LINK = re.compile(r'<a\b[^>]*?\bhref="(?P<url>[^"]*)"[^>]*>(?P<text>.*?)</a>', re.DOTALL)
TITLE = re.compile(r"<h([1-6])>(.*?)</h\1>", re.DOTALL)
TAG = re.compile(r"<[^>]+>")
OUTSIDE = re.compile(
    r"""(?:src|srcset|href)\s*=\s*["'](?:https?:)?//[^"']*|@import\b[^;]*|url\(["']?https?:[^)]*|<(?:script|iframe|link)\b[^>]*"""
)
PANDAS_STYLE = re.compile(r"<style scoped>.*?</style>\s*", re.DOTALL)
PANDAS_HEAD = re.compile(  # the names of the index stand in a row of their own, below the names of the columns
    r"<thead>\s*(?P<row><tr[^>]*>)(?P<columns>(?:\s*<th>[^<]*</th>)+)\s*</tr>\s*<tr>(?P<index>(?:\s*<th>[^<]*</th>)+)\s*</tr>\s*</thead>"
)
TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)
STYLER_ID = re.compile(r"\bT_(\d+)(?=_|\b)")  # `normalise` counts the styled tables of each cell anew
PAIR = re.compile(r"(?P<side>before|after): *\S")
LONG = 48  # letters in a cell that make its column break its lines
SMALL = 256  # pixels: a picture of the model's, enlarged without smoothing
INJECTED = "injected-parameters"  # papermill's tag
CODE_NAMES = {"parameters": "parameters", INJECTED: "parameters of this run"}
SHOWN = ("text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/latex", "text/plain")


@dataclass
class Body:
    """A notebook's HTML and its headings of ranks 2 and 3: (rank, id, text as HTML)."""

    html: str = ""
    headings: list[tuple[int, str, str]] = field(default_factory=list)


def body_of(notebook: Mapping[str, Any], name: str) -> Body:
    """All cells as HTML, code folded. InputError if something in it comes from a network or runs a script."""
    body, ids = Body(), set[str]()
    heading = name

    def numbered(found: re.Match[str]) -> str:
        nonlocal heading
        rank, text = int(found[1]), found[2].strip()
        heading = html.unescape(TAG.sub("", text))
        slug = re.sub(r"\W+", "-", heading.lower()).strip("-") or "part"
        place = next(free for free in (slug, *(f"{slug}-{i}" for i in range(2, 1000))) if free not in ids)
        ids.add(place)
        if rank in (2, 3):
            body.headings.append((rank, place, text))
        return f'<h{rank} id="{place}">{text}</h{rank}>'

    for position, (cell, place) in enumerate(zip(notebook["cells"], _places(notebook["cells"]), strict=True)):
        source = joined(cell["source"])
        if cell["cell_type"] == "markdown":
            inside = TITLE.sub(numbered, _markdown(source, name, cell.get("attachments")))
            body.html += f"<section{place}>{inside}</section>\n"
        elif cell["cell_type"] == "code" and source.strip():
            outputs = "".join(_outputs(cell["outputs"], f"{name}, cell {position}", heading, position))
            quiet, inside = "" if outputs else ' class="quiet"', _code(source, cell["metadata"].get("tags", []))
            body.html += f"<section{place}{quiet}>{inside}{outputs}</section>\n"
    body.html = LINK.sub(_link, TABLE.sub(_table, body.html))
    if outside := OUTSIDE.search(body.html):
        raise InputError(f"page of {name}", found=outside.group()[:120], expected="nothing from a network, no script")
    return body


def passage(markdown: str, name: str) -> str:
    """A piece of Markdown as HTML, equations and all, without external links."""
    return LINK.sub(_link, _markdown(markdown, name))


def inline(markdown: str, name: str) -> str:
    """A line of Markdown as HTML without a paragraph or links around it: a title inside a link, say."""
    return re.sub(r"</?(?:p|a)\b[^>]*>", "", passage(markdown, name)).strip()


def picture(mime: str, data: str, alt: str) -> str:
    """An <img> that holds its picture; small ones are marked, to be enlarged pixel by pixel, and tall ones."""
    size = size_of(data) if mime == "image/png" else None
    extent = f' width="{size[0]}" height="{size[1]}"' if size else ""
    kind = "" if not size else "pixels" if max(size) <= SMALL else "tall" if size[1] > size[0] else ""
    marked = f' class="{kind}"' if kind else ""
    source = f"data:{mime};base64,{''.join(data.split())}"
    return f'<img alt="{html.escape(alt)}"{extent}{marked} src="{source}">'


def _markdown(source: str, name: str, attachments: Mapping[str, Any] | None = None) -> str:
    from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath

    renderer = IPythonRenderer(escape=False, attachments=dict(attachments or {}))
    try:
        return to_mathml(source, MarkdownWithMath(renderer=renderer).render)
    except InvalidNotebook as error:
        raise InputError(f"page of {name}", found=str(error), expected="the picture inside the notebook") from error


def _code(source: str, tags: list[str]) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    title = next((shown for tag, shown in CODE_NAMES.items() if tag in tags), "code")
    return (
        f'<details class="code"><summary>{title}</summary>{highlight(source, PythonLexer(), HtmlFormatter())}</details>'
    )


def _places(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where JupyterLab's links to a cell of the notebook in notebooks/ lead: it has no cell of injected parameters."""
    own = [position for position, cell in enumerate(cells) if INJECTED not in cell.get("metadata", {}).get("tags", [])]
    names = {position: f' id="cell-id=cell-{count:02d}"' for count, position in enumerate(own)}
    return [names.get(position, "") for position in range(len(cells))]


def _outputs(outputs: list[dict[str, Any]], where: str, heading: str, cell: int) -> Iterator[str]:
    """One piece of HTML per output, or per row of before-after figures."""
    waiting: list[str] = []
    position = 0
    while position < len(outputs):
        pair = [_side(output) for output in outputs[position : position + 2]]
        if [side for side, _, _ in pair] == ["before", "after"]:
            shown = "".join(picture("image/png", data, alt) for _, alt, data in pair)
            captions = "".join(f"<span>{html.escape(alt)}</span>" for _, alt, _ in pair)
            waiting.append(f'<figure class="before-after">{shown}<figcaption>{captions}</figcaption></figure>')
            position += 2
            continue
        if waiting:
            yield f'<div class="output grid">{"".join(waiting)}</div>'
            waiting = []
        yield f'<div class="output">{_output(outputs[position], where, heading, cell)}</div>'
        position += 1
    if waiting:
        yield f'<div class="output grid">{"".join(waiting)}</div>'


def _side(output: Mapping[str, Any]) -> tuple[str, str, str]:
    """("before" or "after", alternative text, PNG) of one half of a before-after figure; empty texts for the rest."""
    alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
    found = PAIR.match(alt)
    if not found or "image/png" not in output.get("data", {}):
        return "", "", ""
    return found["side"], alt, joined(output["data"]["image/png"])


def _output(output: Mapping[str, Any], where: str, heading: str, cell: int) -> str:
    from nbconvert.filters import ansi2html

    if output["output_type"] == "stream":
        return f"<pre>{ansi2html(joined(output['text']))}</pre>"
    if output["output_type"] == "error":
        return f'<pre class="error">{ansi2html(chr(10).join(output["traceback"]))}</pre>'
    mime = next((mime for mime in SHOWN if mime in output["data"]), None)
    if mime is None:
        return ""
    data = joined(output["data"][mime])
    alt = output.get("metadata", {}).get(mime, {}).get("alt") or f"figure under “{heading}”"
    match mime:
        case "text/html":
            data = PANDAS_HEAD.sub(_one_head, PANDAS_STYLE.sub("", data))
            data = re.sub(r" (?=[↑↓]</th>)", "&nbsp;", data)
            return STYLER_ID.sub(rf"T_{cell}_\1", data) if "<style" in data else data
        case "image/svg+xml":  # as a picture, so that its ids and styles stay its own
            return picture(mime, base64.b64encode(data.encode()).decode(), alt)
        case "text/markdown" | "text/latex":
            return _markdown(data, where)
        case "text/plain":
            return f"<pre>{ansi2html(data)}</pre>"
    return picture(mime, data, alt)


def _one_head(found: re.Match[str]) -> str:
    """Names of index and of columns in a single line of headings; two for one column, in the corner, are both told."""
    columns, index = (re.findall(r"<th>([^<]*)</th>", found[row]) for row in ("columns", "index"))
    if len(columns) != len(index):
        return found.group()
    names = [" / ".join(name for name in (below, above) if name) for above, below in zip(columns, index, strict=True)]
    return f"<thead>{found['row']}{''.join(f'<th>{name}</th>' for name in names)}</tr></thead>"


def _table(found: re.Match[str]) -> str:
    """A table in a box that scrolls; columns of words are marked, to begin at the left, and long ones to break."""
    marks = "".join(
        f" words-{column} long-{column}" if length > LONG else f" words-{column}"
        for column, length in word_columns(found.group()).items()
    )
    return f'<div class="table{marks}" tabindex="0">{found.group()}</div>'


def _link(found: re.Match[str]) -> str:
    """Pages hold no external address: such a link becomes its text and, to be copied, the address without scheme.

    Links between notebooks lead from page to page; the folders of pages lie like those of notebooks.
    """
    url, text = found["url"], found["text"]
    if not re.match(r"https?://", url):
        page = re.sub(r"\.ipynb(?=#|$)", ".html", url)
        return f'<a href="{page}">{text}</a>'
    bare = re.sub(r"^https?://", "", url).rstrip("/")
    text = re.sub(r"https?://", "", text)
    return text if bare in text else f'{text} <span class="address">({bare})</span>'

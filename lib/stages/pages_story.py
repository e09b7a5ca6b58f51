"""What an executed notebook tells in short: title, first paragraph, headline picture, numbers and table, findings.

Both the pages of `make review` and the Markdown of `python -m lib.stages docs` are made of it. What authors can say:

* The cell tag `headline` marks the cell (or cells) whose picture and table stand for the notebook. Without it the
  first picture does, and the first table that holds an interval, or the first of all.
* The last heading that begins with What, Findings, Found or Verdict, or else with Read, opens the findings. They go on
  to the next heading of its rank: Markdown cells, and of code cells what they display as Markdown or as a table.
* The arm of metrics.json that a notebook's card quotes is the one named like a part of the notebook's own name
  ("flowedit" for flowedit/method), else the first.
"""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.stages.outputs import check_metrics
from lib.stages.pages_pictures import joined, picture_of
from lib.stages.pages_tables import markdown_table
from lib.stages.sources import read_notebook

HEADLINE = "headline"  # the cell tag
HEADING = re.compile(r"(?P<rank>#{1,6})[ \t]+(?P<text>.*?)[ \t]*#*[ \t]*")
FINDINGS = [re.compile(rf"(?:\d+[.)]\s*)?(?:{words})\b") for words in ("What|Findings|Found|Verdict", "Read")]
INTERVAL = re.compile(r"\d \[[-+−]?[\d.]+, [-+−]?[\d.]+\]")
EQUATION = re.compile(r"\$\$.*\$\$", re.DOTALL)
INITIALS = {"psnr", "ssim", "lpips", "mse", "nfe", "clip", "dino", "fid", "vqa"}
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


@dataclass(frozen=True)
class Number:
    """A headline number as metrics.json has it; `interval` is "[low, high]" or empty."""

    name: str
    value: str
    interval: str


@dataclass(frozen=True)
class Story:
    """A notebook in short. Texts are Markdown; `metrics` is arm -> name -> number, empty without metrics.json."""

    name: str
    title: str
    paragraph: str
    picture: bytes | None
    table: str
    findings: str
    findings_title: str
    metrics: Mapping[str, Mapping[str, float]]

    @property
    def arm(self) -> str:
        """The arm that the card quotes, "" if there is none."""
        named = [arm for arm in self.metrics if arm.replace("-", "") in self.name.split("/")]
        return next(iter([*named, *self.metrics]), "")


def executed_notebooks(root: Path = ROOT) -> dict[str, Path]:
    """Name ("start", "flowedit/method") -> runs/<name>/executed.ipynb; in reading order."""
    found = {
        path.parent.relative_to(root / "runs").as_posix(): path for path in (root / "runs").rglob("executed.ipynb")
    }
    return {name: found[name] for name in sorted(found, key=reading_order)}


def reading_order(name: str) -> tuple[bool, str, bool, str]:
    """To sort names of notebooks by: those in no folder, then by folder, the method before its ablation."""
    folder, _, own = name.rpartition("/")
    return bool(folder), folder, own != "method", own


def read_executed(path: Path, name: str) -> dict[str, Any]:
    """The JSON of a valid notebook of format 4. InputError names it if it is missing or anything else."""
    import nbformat

    notebook = read_notebook(path, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nbformat.warnings.MissingIDFieldWarning)
            nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        found = str(error).splitlines()[0]
        raise InputError(f"notebook {name}", found=found[:200], expected="a valid notebook of format 4") from error
    return notebook


def read_story(notebook: Mapping[str, Any], name: str, folder: Path) -> Story:
    """The story of an executed notebook; metrics.json is read from `folder` if it is there. InputError names it."""
    title, paragraph = _opening(
        [joined(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    )
    findings_title, findings = _findings(list(_texts(notebook)))
    picture = next((found for output in _headline_first(notebook) if (found := picture_of(output, name))), None)
    metrics = _metrics(folder / "metrics.json", name)
    return Story(name, title or name, paragraph, picture, _table(notebook), findings, findings_title, metrics)


def table_of(output: Mapping[str, Any]) -> str:
    """An output's first HTML table as Markdown, or "" if it has none."""
    html = joined(output.get("data", {}).get("text/html", ""))
    return markdown_table(html) if "<table" in html else ""


def numbers_of(row: Mapping[str, float], digits: int = 4) -> tuple[Number, ...]:
    """The numbers of one arm at `digits` significant digits, each with its interval if that has a width."""
    numbers = []
    for key, value in row.items():
        if key.endswith(("_low", "_high")):
            continue
        low, high = (row.get(f"{key}{end}") for end in ("_low", "_high"))
        has_width = low is not None and high is not None and low != high
        interval = f"[{_short(low, digits)}, {_short(high, digits)}]" if has_width else ""
        words = [word.upper() if word in INITIALS else word for word in key.split("_")]
        numbers.append(Number(" ".join(words), _short(value, digits), interval))
    return tuple(numbers)


def _short(value: float, digits: int) -> str:
    return f"{value if isinstance(value, int) else float(f'{value:.{digits}g}'):g}"


def plain(markdown: str) -> str:
    """A line of Markdown without its marks for emphasis, code and links."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    return re.sub(r"(\*\*|__|`)(.+?)\1", r"\2", text).replace("\n", " ").strip()


def _texts(notebook: Mapping[str, Any]) -> Iterator[str]:
    """All that is Markdown or a table, in reading order."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            yield joined(cell["source"])
        for output in cell.get("outputs", []):
            if text := joined(output.get("data", {}).get("text/markdown", "")) or table_of(output):
                yield text


def _headings(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """(line, rank, text) of every heading that is not inside a block of code."""
    fence = ""
    for number, line in enumerate(lines):
        if mark := FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        elif not fence and (found := HEADING.fullmatch(line)):
            yield number, len(found["rank"]), found["text"]


def _opening(texts: list[str]) -> tuple[str, str]:
    """The first heading of rank 1 and the paragraph below it, which ends as a sentence does.

    If it leads up to an equation, that is part of it.
    """
    lines = "\n\n".join(texts).splitlines()
    headings = list(_headings(lines))
    first = next(((number, text) for number, rank, text in headings if rank == 1), None)
    if first is None:
        return "", ""
    end = next((number for number, _, _ in headings if number > first[0]), len(lines))
    paragraph, *after = re.split(r"\n\s*\n", "\n".join(lines[first[0] + 1 : end]).strip())
    if not paragraph.endswith((".", "!", "?")) and after and EQUATION.fullmatch(after[0]):
        equation = re.sub(r"[\s,;.]*\$\$$", ".$$", after[0])
        return first[1], f"{paragraph}\n\n{equation}"
    return first[1], re.sub(r"[\s,;:]+$", ".", paragraph)


def _findings(texts: list[str]) -> tuple[str, str]:
    """Title and text of the last section whose heading says that it tells what was found."""
    lines = "\n\n".join(texts).splitlines()
    headings = list(_headings(lines))
    start = next((each for words in FINDINGS for each in reversed(headings) if words.match(each[2])), None)
    if start is None:
        return "", ""
    end = next((number for number, rank, _ in headings if number > start[0] and rank <= start[1]), len(lines))
    text = "\n".join(lines[start[0] + 1 : end]).strip()
    before, _, last = text.rpartition("\n\n")
    if last.endswith(":"):  # it leads to what is neither Markdown nor a table
        text = before
    return re.sub(r"^\d+[.)]\s*", "", start[2]), text


def _headline_first(notebook: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All outputs, those of cells with the tag first."""
    tagged = [cell for cell in notebook["cells"] if HEADLINE in cell["metadata"].get("tags", [])]
    for cell in [*tagged, *notebook["cells"]]:
        yield from cell.get("outputs", [])


def _table(notebook: Mapping[str, Any]) -> str:
    """The headline's table; else the first one with an interval; else the first one; "" if there is none."""
    tagged = [cell for cell in notebook["cells"] if HEADLINE in cell["metadata"].get("tags", [])]
    headline, every = (
        [table for cell in cells for output in cell.get("outputs", []) if (table := table_of(output))]
        for cells in (tagged, notebook["cells"])
    )
    return next(iter([*headline, *filter(INTERVAL.search, every), *every]), "")


def _metrics(path: Path, name: str) -> dict[str, dict[str, float]]:
    if not path.is_file():
        return {}
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"metrics.json of {name}", found=f"broken JSON ({error})", expected="numbers") from error
    check_metrics(metrics, f"metrics.json of {name}")
    return metrics

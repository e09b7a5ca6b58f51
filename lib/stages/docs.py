"""What the executed notebooks found, as Markdown in docs/: for a reader on a forge, who has cloned and run nothing.

A notebook's page holds its first paragraph, headline figure, headline table and findings (`pages_story` says how they
are chosen), then what the notebook left as Markdown beside its results (runs/<name>/*.md). Files are told by their
first line, MARK: only such pages, and the pictures named like them, are ever replaced or removed.
"""

import os
import posixpath
import re
from itertools import takewhile
from pathlib import Path

from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.stages.pages_pictures import small_png
from lib.stages.pages_story import (
    Story,
    executed_notebooks,
    numbers_of,
    plain,
    read_executed,
    read_story,
    reading_order,
)
from lib.stages.sources import find_notebooks

LIMIT_MB = 2.0
MB = 1e6
MARK = "<!-- Written by `python -m lib.stages docs`; what is changed here is lost."
NOTEBOOK = re.compile(r"<!-- .* Notebook: (?P<name>.+) -->")
INDEX = "README.md"
NEXT = re.compile(r"!\[Headline figure of |\*\*[^*]+\*\*: |## |---")  # what follows the first paragraph of a page
LINK = re.compile(r"(?P<before>!?\[[^\]]*\]\()(?P<url>[^)\s]+)(?P<after>[^)]*\))")
ATTACHED = re.compile(r"!\[[^\]]*\]\(attachment:[^)]*\)")
ABSOLUTE = re.compile(
    r"(?<![\w./~-])/(?:home|root|Users|tmp|private|var|usr|opt|mnt|srv)/[^\s`)]*|\b[A-Z]:\\\w[^\s`)]*"
)
STRAY = re.compile(
    r"^ (?=\S)", re.MULTILINE
)  # one space before a line, where a notebook joined its sentences by spaces
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def export_docs(root: Path = ROOT, limit: float = LIMIT_MB) -> list[Path]:
    """Write docs/<name, / as ->.md, its .png and docs/README.md for the executed notebooks. Returns what is written.

    Pages of notebooks that are not executed here stay as they are; those of notebooks that do not exist any more go.
    All is made before anything is written. InputError if no notebook is executed, one is broken, two share a page, a
    file by somebody else is in the way, a text holds an absolute path, or docs/ would exceed `limit` MB.
    """
    folder, sources = root / "docs", find_notebooks(root)
    executed = {name: path for name, path in executed_notebooks(root).items() if name in sources}
    if not executed:
        raise InputError("runs/", found="no executed notebook", expected="one at least: make repro")
    pages = _page_names(sources)
    before = _written_before(folder)
    files: dict[Path, bytes] = {}
    for name, path in executed.items():
        story = read_story(read_executed(path, name), name, path.parent)
        beside = [page.read_text(encoding="utf-8") for page in sorted(path.parent.glob("*.md"))]
        text = _page(story, pages, beside, has_picture=story.picture is not None)
        if found := ABSOLUTE.search(text) or re.search(re.escape(str(root)), text):
            raise InputError(f"docs of notebook {name}", found=found.group()[:120], expected="no absolute path")
        files[folder / f"{pages[name]}.md"] = text.encode()
        if story.picture is not None:
            files[folder / f"{pages[name]}.png"] = small_png(story.picture, name)
    kept = {name: path for name, path in before.items() if name in sources and name not in executed}
    texts = {name: path.read_text(encoding="utf-8") for name, path in kept.items()}
    texts |= {name: files[folder / f"{pages[name]}.md"].decode() for name in executed}
    files[folder / INDEX] = _index(texts, pages).encode()
    own = {path.with_suffix(kind) for path in before.values() for kind in (".md", ".png")}
    for path in files:
        index = path.name == INDEX and path.is_file() and path.read_text(encoding="utf-8").startswith(MARK)
        if path.exists() and path not in own and not index:
            found = "a file that this command did not write"
            raise InputError(path.relative_to(root).as_posix(), found=found, expected="a free name; rename one of them")
    staying = {path.with_suffix(kind) for path in kept.values() for kind in (".md", ".png")}
    gone = own - set(files) - staying
    _check_size(folder, files, gone, limit)
    folder.mkdir(exist_ok=True)
    for path in gone:
        path.unlink(missing_ok=True)
    for path, data in files.items():
        beside = path.with_name(f"{path.name}.new")
        beside.write_bytes(data)
        os.replace(beside, path)
    return sorted(files)


def _page_names(sources: dict[str, Path]) -> dict[str, str]:
    """Notebook -> name of its page. InputError if two would share one, or the index's."""
    pages: dict[str, str] = {}
    taken = {Path(INDEX).stem.lower(): INDEX}
    for name in sources:
        page = name.replace("/", "-")
        if page.lower() in taken:
            found = f"the same page docs/{page}.md as {taken[page.lower()]}"
            raise InputError(f"notebook {name}", found=found, expected="another name")
        taken[page.lower()] = pages[name] = page
    return pages


def _written_before(folder: Path) -> dict[str, Path]:
    """Notebook -> page of an earlier export that lies in docs/."""
    found = {}
    for path in sorted(folder.glob("*.md")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        if first.startswith(MARK) and (marked := NOTEBOOK.fullmatch(first)):
            found[marked["name"]] = path
    return found


def _page(story: Story, pages: dict[str, str], beside: list[str], *, has_picture: bool) -> str:
    source = f"notebooks/{story.name}.ipynb"
    parts = [f"{MARK} Notebook: {story.name} -->\n# {story.title}", _links(story.paragraph, story.name, pages)]
    if has_picture:
        parts.append(f"![Headline figure of {story.name}]({pages[story.name]}.png)")
    if story.metrics and not story.table:
        numbers = numbers_of(story.metrics[story.arm], digits=3)
        parts.append(f"**{story.arm}**: {', '.join(f'{n.name} {n.value} {n.interval}'.strip() for n in numbers)}")
    findings = STRAY.sub("", _links(ATTACHED.sub("", story.findings), story.name, pages))
    if story.table and story.table not in findings:
        parts += ["## Numbers", story.table]
    if findings:
        parts += [f"## {story.findings_title}", findings]
    parts += [_links(text.strip(), story.name, pages) for text in beside]
    parts.append(f"---\n\nFrom [{source}](../{source}), executed by the pipeline. [All notebooks]({INDEX})")
    return "\n\n".join(part for part in parts if part) + "\n"


def _links(text: str, name: str, pages: dict[str, str]) -> str:
    """`text` with its relative links as they are from docs/; those to notebooks lead to their pages."""
    here = posixpath.dirname(f"notebooks/{name}")

    def moved(found: re.Match[str]) -> str:
        url, mark, place = found["url"].partition("#")
        if not url or re.match(r"[a-z]+:|/", url):
            return found.group()
        target = posixpath.normpath(posixpath.join(here, url))
        page = (
            pages.get(target.removeprefix("notebooks/").removesuffix(".ipynb")) if target.endswith(".ipynb") else None
        )
        new = f"{page}.md" if page else posixpath.relpath(target, "docs") + mark + place
        return found["before"] + new + found["after"]

    parts = CODE.split(text)
    return "".join(part if position % 2 else LINK.sub(moved, part) for position, part in enumerate(parts))


def _index(texts: dict[str, str], pages: dict[str, str]) -> str:
    """A line with a picture for each page; all of it comes from the pages themselves."""
    parts = [
        f"{MARK} -->\n# What the notebooks found",
        "Each page is a notebook in short. The notebooks tell the whole.",
    ]
    for name in sorted(texts, key=reading_order):
        lines = texts[name].splitlines()
        title = plain(lines[1].removeprefix("# "))
        pieces = [piece for piece in "\n".join(lines[2:]).strip().split("\n\n") if piece]
        parts.append(f"## [{title}]({pages[name]}.md)")
        parts += takewhile(lambda piece: not NEXT.match(piece), pieces)
        parts += [piece for piece in pieces if piece.startswith("![Headline figure of ")][:1]
    return "\n\n".join(parts) + "\n"


def _check_size(folder: Path, files: dict[Path, bytes], gone: set[Path], limit: float) -> None:
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file() and path not in gone}
    sizes |= {path: len(data) for path, data in files.items()}
    if sum(sizes.values()) > limit * MB:
        largest = sorted(sizes, key=lambda path: (-sizes[path], path))[:3]
        named = ", ".join(f"{path.relative_to(folder).as_posix()} {sizes[path] / MB:.2f} MB" for path in largest)
        found = f"{sum(sizes.values()) / MB:.2f} MB, the largest {named}"
        raise InputError("docs/", found=found, expected=f"at most {limit:g} MB")

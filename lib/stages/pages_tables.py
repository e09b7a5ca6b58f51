"""HTML tables as Markdown: what pandas shows in a notebook, for a reader on a forge."""

import re
from html.parser import HTMLParser

NUMBER = re.compile(r"[-+−–<>≤≥]?\s*[\d.].*|[–—-]|")  # a dash or nothing is a number that is not there
MISSING = {"", "–", "—", "-"}
MOST_WORDS = 9  # columns that review.css knows, from the last


def markdown_table(html: str) -> str:
    """The first table of `html` in Markdown: one line of headings, columns of numbers to the right. "" without cells.

    Several lines of headings are joined column by column; a cell that spans several stands in the first of them, and a
    heading in all.
    """
    reader = _Reader()
    reader.feed(html)
    reader.close()
    rows = _grid(reader.rows)
    width = max((len(cells) for _, cells in rows), default=0)
    if not width:
        return ""
    heads = [cells for head, cells in rows if head]
    body = [cells + [""] * (width - len(cells)) for head, cells in rows if not head]
    titles = [
        " · ".join(dict.fromkeys(cells[column] for cells in heads if column < len(cells) and cells[column]))
        for column in range(width)
    ]
    right = [all(NUMBER.fullmatch(cells[column]) for cells in body) and bool(body) for column in range(width)]
    rule = ["---:" if numbers and column else "---" for column, numbers in enumerate(right)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [titles, rule, *body])


def word_columns(html: str) -> dict[int, int]:
    """Columns of the first table whose cells are words: counted from the last, which is 1 -> letters of the longest.

    From the last, because a line below a spanning heading lacks its first cells. The first column is left out: it
    begins at the left anyhow. None in a table with cells that span columns.
    """
    reader = _Reader()
    reader.feed(html)
    reader.close()
    if any(cell.across > 1 for _, cells in reader.rows for cell in cells):
        return {}
    body = [cells for head, cells in _grid(reader.rows) if not head]
    width = max(map(len, body), default=0)
    found = {}
    for column in range(max(1, width - MOST_WORDS), width):
        texts = [cells[column] for cells in body if column < len(cells) and cells[column] not in MISSING]
        if texts and not any(map(NUMBER.fullmatch, texts)):
            found[width - column] = max(map(len, texts))
    return found


class _Cell:
    def __init__(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.head = tag == "th"
        self.texts: list[str] = []
        self.across = _span(attributes.get("colspan"))
        self.down = _span(attributes.get("rowspan"))

    @property
    def text(self) -> str:
        """The text on one line, with what Markdown would take for marks written out."""
        text = " ".join("".join(self.texts).split())
        return re.sub(r"([\\|*])", r"\\\1", text).replace("<", "&lt;")


class _Reader(HTMLParser):
    """Rows of the first table: (stands in the head, cells)."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[tuple[bool, list[_Cell]]] = []
        self.depth = self.tables = 0
        self.head = self.open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.depth += 1
            self.tables += self.depth == 1
        if self.depth != 1 or self.tables != 1:
            return
        if tag in ("thead", "tbody", "tfoot"):
            self.head = tag == "thead"
        elif tag == "tr":
            self.rows.append((self.head, []))
        elif tag in ("th", "td") and self.rows:
            self.rows[-1][1].append(_Cell(tag, dict(attrs)))
            self.open = True
        elif tag == "br":
            self.handle_data(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.depth -= 1
        elif self.depth == 1 and tag in ("th", "td", "tr"):
            self.open = False

    def handle_data(self, data: str) -> None:
        if self.open and self.depth == 1 and self.tables == 1 and self.rows and self.rows[-1][1]:
            self.rows[-1][1][-1].texts.append(data)


def _grid(rows: list[tuple[bool, list[_Cell]]]) -> list[tuple[bool, list[str]]]:
    """Every cell at its column. A row of headings alone at the top of a table without a head is its head."""
    grid: list[tuple[bool, list[str]]] = []
    below: dict[tuple[int, int], str] = {}  # (row, column) that a cell further up reaches
    any_head = any(head for head, _ in rows)
    for number, (head, cells) in enumerate(rows):
        head = head or (not any_head and number == 0 and all(cell.head for cell in cells))
        line: list[str] = []
        for cell in cells:
            while (number, len(line)) in below:
                line.append(below[number, len(line)])
            for step in range(cell.across):
                repeated = cell.text if step == 0 or head else ""
                for down in range(1, cell.down):
                    below[number + down, len(line)] = repeated if head else ""
                line.append(repeated)
        while (number, len(line)) in below:
            line.append(below[number, len(line)])
        if line:
            grid.append((head, line))
    return grid


def _span(value: str | None) -> int:
    return min(int(value), 100) if value and value.isdecimal() and int(value) > 0 else 1

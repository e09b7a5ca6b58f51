"""Equations of Markdown as MathML, which browsers draw by themselves."""

import html
import re
from collections.abc import Callable

CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
MATH = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]*[^\s\\$])?)\$(?![\d$])", re.DOTALL)
HEADING = re.compile(r"<(h[1-6])\b[^>]*>")
ANCHOR = re.compile(r'<a class="anchor-link".*?</a>', re.DOTALL)
ALIGNED = re.compile(r"\\(begin|end)\{aligned\}")  # the converter knows it as `split`


def to_mathml(markdown: str, render: Callable[[str], str]) -> str:
    """`render(markdown)` with its `$…$` and `$$…$$` as MathML. What stands in code stays as it is.

    A formula that cannot be converted stays readable as its source. Headings lose the ids that the renderer gave them.
    """
    from latex2mathml.converter import convert

    formulas: list[str] = []

    def keep(found: re.Match[str]) -> str:
        block = found["block"] is not None
        latex = found["block"] or found["inline"]
        try:
            source = ALIGNED.sub(r"\\\1{split}", latex.strip())
            mathml = convert(source, display="block" if block else "inline")
        except Exception:  # the library raises many kinds; the source itself can still be read
            mathml = f"<code>{html.escape(latex)}</code>"
        mathml = mathml.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
        formulas.append(f'<span class="equation" tabindex="0">{mathml}</span>' if block else mathml)
        return f"MATH{len(formulas) - 1}HTAM"

    parts = CODE.split(markdown)
    text = "".join(part if position % 2 else MATH.sub(keep, part) for position, part in enumerate(parts))
    page = HEADING.sub(r"<\1>", ANCHOR.sub("", render(text)))  # headings get ids made of their text, formulas included
    return re.sub(r"MATH(\d+)HTAM", lambda found: formulas[int(found[1])], page)

"""Equations of Markdown as MathML, which browsers draw by themselves."""

import html
import re
from collections.abc import Callable

CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
MATH = re.compile(r"\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]*[^\s\\$])?)\$(?![\d$])", re.DOTALL)
HEADING = re.compile(r"<(h[1-6])\b[^>]*>")
ANCHOR = re.compile(r'<a class="anchor-link".*?</a>', re.DOTALL)
ALIGNED = re.compile(r"\\(begin|end)\{aligned\}")  # the converter knows it as `split`
PRIME = re.compile(r"<msup>(<mi>[^<]*</mi>)<mi>&#x02032;</mi></msup>")  # the sign is raised already
FUNCTION = re.compile(r"<m(?:i|o)>(exp|ln|log)</m(?:i|o)>")  # without a space it would read as letters in a row
CLOSING = re.compile(  # \big]_n: browsers stretch a bracket evenly only where it stands in the row itself
    r"<(?P<kind>msub|msup)>(?P<mark><mo [^>]*minsize[^>]*>[^<]*</mo>)(?P<script>(?:(?!<ms(?:ub|up)).)*?)</(?P=kind)>"
)


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
        mathml = PRIME.sub(r'\1<mo lspace="0" rspace="0">&#x02032;</mo>', mathml)
        mathml = FUNCTION.sub(r'<mo lspace="0.167em" rspace="0.167em">\1</mo>', mathml)
        mathml = CLOSING.sub(r"\g<mark><\g<kind>><mi></mi>\g<script></\g<kind>>", mathml)
        formulas.append(f'<span class="equation" tabindex="0">{mathml}</span>' if block else mathml)
        return f"MATH{len(formulas) - 1}HTAM"

    parts = CODE.split(markdown)
    text = "".join(part if position % 2 else MATH.sub(keep, part) for position, part in enumerate(parts))
    page = HEADING.sub(r"<\1>", ANCHOR.sub("", render(text)))  # headings get ids made of their text, formulas included
    return re.sub(r"MATH(\d+)HTAM", lambda found: formulas[int(found[1])], page)

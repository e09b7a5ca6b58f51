"""An executed notebook without what differs from run to run: times, ids, paths, progress bars, stderr, widget state."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r"(?<= at )0x[0-9a-fA-F]{6,}")
STYLER_ID = re.compile(r"\bT_[0-9a-f]{5}(?=_|\b)")  # pandas gives every styled table a random id
BEFORE, AFTER = r"(?<![\w./~-])", r"(?![\w-])"  # a path begins and ends here
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python", "pygments_lexer": "ipython3"}


def normalise(
    notebook: Mapping[str, Any], *, places: Mapping[Path, str], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """The same notebook as plain JSON values, equal for equal runs.

    `places` maps folders to what is written instead of them, the most specific first ("." and "" vanish from longer
    paths); `parameters` are the values the run was given, kept in the metadata.
    """
    clean = _path_cleaner(places)
    cells = []
    for position, cell in enumerate(json.loads(json.dumps(notebook))["cells"]):
        tags, source = cell["metadata"].get("tags", []), _joined(cell["source"])
        kept = {
            "cell_type": cell["cell_type"],
            "id": f"cell-{position:03d}",
            "metadata": {"tags": tags} if tags else {},
            "source": clean(source) if "injected-parameters" in tags else source,
        }
        if cell["cell_type"] == "code":
            kept["execution_count"] = cell["execution_count"]
            kept["outputs"] = _outputs(cell["outputs"], clean)
        elif "attachments" in cell:
            kept["attachments"] = cell["attachments"]
        cells.append(kept)
    metadata = {"kernelspec": KERNELSPEC, "language_info": LANGUAGE}
    metadata["palimpsest"] = {"parameters": _texts(dict(parameters), clean)}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def stderr_of(notebook: Mapping[str, Any]) -> list[tuple[int, str]]:
    """(cell position, text) of what the notebook wrote to stderr; of a progress bar only its last state."""
    return [
        (position, text)
        for position, cell in enumerate(notebook["cells"])
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream" and output["name"] == "stderr"
        if (text := _settled(_joined(output["text"])).strip())
    ]


def _outputs(outputs: list[dict[str, Any]], clean: Callable[[str], str]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    styles: dict[str, str] = {}

    def tidy(text: str) -> str:
        text = ADDRESS.sub("0x…", clean(text))
        return STYLER_ID.sub(lambda found: styles.setdefault(found.group(), f"T_{len(styles)}"), text)

    for output in outputs:
        if output["output_type"] == "stream":
            if output["name"] == "stderr":
                continue
            if not (kept and kept[-1]["output_type"] == "stream"):
                kept.append({"output_type": "stream", "name": "stdout", "text": ""})
            kept[-1]["text"] += _joined(output["text"])  # where stdout is cut into pieces is a matter of timing
        elif "data" not in output:
            kept.append(_texts(output, tidy))
        elif WIDGET not in output["data"]:
            output.pop("transient", None)
            for mime, data in output["data"].items():
                data = _joined(data) if isinstance(data, list) else data
                picture = mime.startswith("image/") and mime != "image/svg+xml"
                output["data"][mime] = data if picture else _texts(data, tidy)
            kept.append(output)
    for output in kept:
        if output["output_type"] == "stream":
            output["text"] = tidy(_settled(output["text"]))
    return kept


def _path_cleaner(places: Mapping[Path, str]) -> Callable[[str], str]:
    rules = []
    for folder, instead in places.items():
        if str(folder) in ("/", "."):
            continue
        path = re.escape(str(folder))
        below = f"{instead}/" if instead not in ("", ".") else ""
        rules.append((re.compile(f"{BEFORE}{path}/(?=[^\\s/])"), below))
        rules.append((re.compile(f"{BEFORE}{path}{AFTER}"), instead or "."))

    def clean(text: str) -> str:
        for pattern, instead in rules:
            text = pattern.sub(lambda _, instead=instead: instead, text)
        return text

    return clean


def _texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_texts(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _texts(item, change) for key, item in value.items()}
    return value


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _settled(text: str) -> str:
    """What a terminal would show in the end: a carriage return starts the line anew."""
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))

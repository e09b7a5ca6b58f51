"""What a notebook leaves behind: the folder for its outputs, and writers that give equal bytes for equal values.

The writers return nothing: as the last line of a cell they show nothing.
"""

import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.paths import ROOT

HEADLINES = 5
DIGITS = 4
DOTS = 120  # per inch
ROUNDING = 3.0  # levels of 255: the root mean square error at which a figure may lose colours
BOUNDS = ("_low", "_high")
BESIDE = ("n", "nfe")  # counts of cases and of transformer evaluations stand beside the headline numbers
EXPECTED = f"at most {HEADLINES} headline numbers per arm, each with `_low` and `_high` if it has an interval"


def out_dir(name: str | None = None) -> Path:
    """The folder to write to. As a stage: scratch that is published to runs/<name>/ if the notebook ends well.

    In JupyterLab: .scratch/interactive/<name>, where nothing is a result yet.
    """
    return _folder("PALIMPSEST_OUT", name, "interactive")


def scratch_dir(name: str | None = None) -> Path:
    """A folder for work in progress (finished batches, say). It survives a kill, and is gone after a good end."""
    return _folder("PALIMPSEST_SCRATCH", name, "interactive-work")


def write_metrics(metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Write metrics.json: arm -> name -> number, rounded to 4 significant digits.

    A name with an interval has `name_low` and `name_high` beside it. InputError for more than five names in an arm, a
    bound without its name, or a value that is not a finite number.
    """
    rounded = {str(arm): _rounded(row) for arm, row in metrics.items()}
    check_metrics(rounded)
    _write("metrics.json", json.dumps(rounded, indent=1, ensure_ascii=False) + "\n")


def round_value(value: Any) -> Any:
    """A number at 4 significant digits; whole numbers (counts) stay whole; what is no number is returned as it is."""
    value = value.item() if hasattr(value, "item") else value  # numpy and torch scalars
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{DIGITS}g}") + 0.0  # + 0.0: there is only one zero
    return value


def check_metrics(metrics: Any, thing: str = "metrics.json") -> None:
    """Raise InputError unless `metrics` is as `write_metrics` writes it."""
    if not isinstance(metrics, Mapping) or not metrics:
        raise InputError(thing, found=f"{metrics!r:.80}", expected="arm -> name -> number, one arm at least")
    for arm, row in metrics.items():
        if not isinstance(row, Mapping) or not row:
            raise InputError(f"arm {arm} in {thing}", found=f"{row!r:.80}", expected="name -> number")
        heads = [key for key in row if not key.endswith(BOUNDS) and key not in BESIDE]
        if len(heads) > HEADLINES:
            raise InputError(f"arm {arm} in {thing}", found=f"{len(heads)} headline numbers", expected=EXPECTED)
        for key, value in row.items():
            where = f"{key} of arm {arm} in {thing}"
            if key.endswith(BOUNDS) and key.removesuffix("_low").removesuffix("_high") not in heads:
                raise InputError(where, found="a bound without its number", expected=EXPECTED)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(where, found=repr(value), expected="a finite number")
            if round_value(value) != value:
                raise InputError(where, found=value, expected=f"{DIGITS} significant digits: {round_value(value)}")


def save_table(table: Any, name: str = "results") -> None:
    """Write a DataFrame as <name>.parquet: one row per case, arm, seed and metric, in the order given; no index."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not isinstance(table.index, pd.RangeIndex) or table.index.name is not None:
        found = f"index {table.index.names} of type {type(table.index).__name__}"
        raise InputError(f"table {name}", found=found, expected="a plain index; call reset_index() first")
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    path = _prepare(f"{name}.parquet")
    pq.write_table(arrow, path, compression="zstd", compression_level=9, store_schema=False)


def save_csv(table: Any, name: str) -> None:
    """Write a DataFrame as <name>.csv for `dvc plots`: 6 significant digits, no index."""
    _write(f"{name}.csv", table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))


def save_figure(figure: Any, name: str) -> None:
    """Write a matplotlib figure as figures/<name>.png, 120 dots per inch, opaque, nothing but pixels inside.

    Charts come in 256 colours, as long as they look the same; grids of pictures keep all of theirs.
    """
    from PIL import Image

    from lib.core.palette import with_palette

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DOTS, pil_kwargs={"compress_level": 1})
    with_palette(Image.open(drawn).convert("RGB"), ROUNDING).save(_prepare(f"figures/{name}.png"))


def _rounded(row: Any) -> Any:
    return {str(key): round_value(value) for key, value in row.items()} if isinstance(row, Mapping) else row


def _folder(variable: str, name: str | None, below: str) -> Path:
    given = os.environ.get(variable)
    if given:
        folder = Path(given)
    else:
        session = Path(os.environ.get("JPY_SESSION_NAME", "notebook"))  # JupyterLab says which notebook it runs
        name = name or session.with_suffix("").as_posix().rpartition("notebooks/")[2].strip("/")
        folder = ROOT / ".scratch" / below / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _prepare(name: str) -> Path:
    path = out_dir() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write(name: str, text: str) -> None:
    _prepare(name).write_text(text, encoding="utf-8", newline="\n")

"""params.yaml: the parameters of all stages, at the scale that its own line `scale:` names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.paths import ROOT

SCALES = ("smoke", "default", "full")
SCALE_LINE = re.compile(r"^scale:[ \t]*(?P<value>[^\s#]*)", re.MULTILINE)


def load_yaml(path: str | Path) -> Any:
    """A YAML file read as DVC reads it: YAML 1.2 (`no` is a word, `1e-4` a number, `010` is ten).

    InputError if the file is missing or is not YAML.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"file {path}", found="no such file", expected="a YAML file") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"file {path}", found=error, expected="YAML 1.2 in UTF-8") from error


def load_params(root: Path = ROOT) -> dict[str, Any]:
    """params.yaml as it stands. InputError unless it is a mapping with a known `scale`."""
    params = load_yaml(root / "params.yaml")
    if not isinstance(params, Mapping):
        raise InputError("params.yaml", found=f"a {type(params).__name__}", expected="a mapping of sections")
    if params.get("scale") not in SCALES:
        raise InputError("scale in params.yaml", found=params.get("scale"), expected=f"one of {', '.join(SCALES)}")
    return dict(params)


def load_section(name: str, *, scale: str | None = None, optional: bool = False, root: Path = ROOT) -> dict[str, Any]:
    """The parameters of one stage: section `a` for "a", section `b` inside section `a` for "a/b".

    A value written `{smoke: 4, default: 48, full: 480}` is replaced by the one of the scale in force (`scale`, else
    the file's own). InputError if the section is missing (unless `optional`: then it is empty) or is not a mapping.
    """
    params = load_params(root)
    scale = scale or params["scale"]
    section: Any = params
    for part in name.split("/"):
        if not isinstance(section, Mapping) or part not in section:
            if optional:
                return {}
            there = sorted(map(str, section)) if isinstance(section, Mapping) else "none"
            raise InputError(f"section {name} of params.yaml", found=f"no `{part}`", expected=f"one of {there}")
        section = section[part]
    if not isinstance(section, Mapping):
        raise InputError(f"section {name} of params.yaml", found=repr(section), expected="a mapping of parameters")
    return {key: _at_scale(f"{key} in section {name}", value, scale) for key, value in section.items()}


def set_scale(scale: str, root: Path = ROOT) -> bool:
    """Rewrite the line `scale:` of params.yaml, nothing else. True if it changed. InputError for an unknown scale."""
    if scale not in SCALES:
        raise InputError("scale", found=scale, expected=f"one of {', '.join(SCALES)}")
    path = root / "params.yaml"
    load_params(root)
    text = path.read_text(encoding="utf-8")
    lines = list(SCALE_LINE.finditer(text))
    if len(lines) != 1:
        raise InputError("params.yaml", found=f"{len(lines)} lines that begin with `scale:`", expected="one")
    start, end = lines[0].span("value")
    changed = text[:start] + scale + text[end:]
    if changed == text:
        return False
    scratch = path.with_name(".params.yaml.new")
    scratch.write_text(changed, encoding="utf-8")
    scratch.replace(path)
    return True


def _at_scale(thing: str, value: Any, scale: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if scale not in value or not set(value) <= set(SCALES):
        raise InputError(thing, found=f"keys {sorted(map(str, value))}", expected=f"{', '.join(SCALES)}, with {scale}")
    return value[scale]

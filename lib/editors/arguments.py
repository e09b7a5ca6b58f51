"""Settings of an editor as words of a command line."""

import ast
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from lib.core.errors import InputError


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """`key=value` words as settings; values are Python literals, `true`, `false`, or else text."""
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InputError("--settings", found=repr(word), expected="key=value")
        if key in settings:
            raise InputError("--settings", found=f"{key} twice", expected="each setting once")
        settings[key] = {"true": True, "false": False}.get(value, value)
        with suppress(ValueError, SyntaxError):  # a word
            settings[key] = ast.literal_eval(value)
    return settings

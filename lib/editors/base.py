"""What every editor gives back, tells and may be asked: the result, the callback, the check of its settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, get_type_hints

from torch import Tensor

from lib.core.errors import InputError

if TYPE_CHECKING:
    from lib.backbones.base import Backbone

Callback = Callable[[float, Tensor], None]


@dataclass(frozen=True, eq=False)
class EditResult:
    """An edited batch."""

    image: Tensor  # [B, 3, H, W] in [0, 1]
    latents: Tensor | None = None  # [B, C, h, w]; None where no latents were made
    nfe: float | None = None  # transformer evaluations per image, filled in by the runner, which counts them


def notify(callback: Callback | None, t: float | Tensor, x: Tensor) -> None:
    """Tell the callback, if there is one, the noise level reached and the latents [B, C, h, w] there."""
    if callback is not None:
        callback(float(t), x)


def rows_per_call(backbone: Backbone, guidance: float) -> int:
    """Transformer rows that one velocity of one image costs: 2 with true classifier-free guidance, else 1."""
    return 2 if backbone.guidance_mode == "classifier-free" and guidance != 1 else 1


class Settings:
    """Base of every settings dataclass: settings that make no sense never come into being."""

    def __post_init__(self) -> None:
        check_settings(self)


# What a setting of this name must satisfy in every editor that has it: the test, and the words for it.
RULES: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "steps": (lambda value, _: value >= 1, "1 or more"),
    "start": (lambda value, _: 0 < value <= 1, "a noise level in (0, 1]"),
    "tail": (
        lambda value, all_: 0 <= value < getattr(all_, "start", 1),
        "a noise level in [0, `start`)",
    ),
    "n_avg": (lambda value, _: value >= 1, "1 or more"),
    "guidance": (lambda value, _: value >= 0, "0 or more"),
    "source_guidance": (lambda value, _: value >= 0, "0 or more"),
    "target_guidance": (lambda value, _: value >= 0, "0 or more"),
}


def check_settings(settings: Any) -> None:
    """Raise InputError if a field of this dataclass has a wrong type or breaks its rule. An int may be a float."""
    kind = type(settings).__name__
    hints = get_type_hints(type(settings))
    for field in fields(settings):
        value, wanted = getattr(settings, field.name), hints[field.name]
        if wanted is float and type(value) is int:
            object.__setattr__(settings, field.name, value := float(value))  # so that 1 and 1.0 give one recipe
        if isinstance(wanted, type) and type(value) is not wanted:
            expected = f"{wanted.__name__} (fields of {kind}: {describe(type(settings))})"
            raise InputError(f"setting {field.name!r}", found=f"{value!r} ({type(value).__name__})", expected=expected)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"setting {field.name!r} of {kind}", found=value, expected="a finite number")
    for name, (holds, words) in RULES.items():
        if hasattr(settings, name) and not holds(getattr(settings, name), settings):
            raise InputError(f"setting {name!r} of {kind}", found=getattr(settings, name), expected=words)


def describe(kind: type) -> str:
    """The fields of a settings class, for an error message: "steps: int = 28, start: float = 0.75"."""
    hints = get_type_hints(kind)
    types = {name: getattr(hint, "__name__", hint) for name, hint in hints.items()}
    return ", ".join(f"{field.name}: {types[field.name]} = {field.default!r}" for field in fields(kind))

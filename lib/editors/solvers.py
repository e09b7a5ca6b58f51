"""Solvers of dx = v dt that inversion editors go up (0 -> 1) and down (1 -> 0) with, on one grid.

Each walks any monotone grid `times` [n + 1]; up is `times.flip(0)`. An interval has the same number both ways, 0 next
to the noise, so that what was recorded there on the way up is found on the way down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lib.core.errors import InputError
from lib.editors.base import Callback, notify

if TYPE_CHECKING:
    from lib.backbones.base import Backbone, Conditioning

Evaluate = Callable[[Tensor, Tensor, int, str], Tensor]  # (x, t, interval, "first" or "mid") -> velocity
Settle = Callable[[Tensor, int], Tensor]  # (x, interval) -> what the latents at the end of this interval shall be


def euler(
    evaluate: Evaluate, x: Tensor, times: Tensor, callback: Callback | None = None, settle: Settle | None = None
) -> Tensor:
    """Order 1: x + h v(x, t). One evaluation per interval. Latents [B, C, h, w] at the last of `times`."""
    for t, t_next, i in intervals(times):
        x = x + (t_next - t) * evaluate(x, t, i, "first")
        x = arrive(x, t_next, i, callback, settle)
    return x


def midpoint(
    evaluate: Evaluate, x: Tensor, times: Tensor, callback: Callback | None = None, settle: Settle | None = None
) -> Tensor:
    """Order 2: x + h v(x + h/2 v(x, t), t + h/2). Two evaluations per interval.

    RF-Solver (arXiv 2411.04746) writes it as a Taylor step, x + h v1 + h²/2 (v2 - v1) / (h/2), which is x + h v2.
    """
    for t, t_next, i in intervals(times):
        half = (t_next - t) / 2
        v = evaluate(x, t, i, "first")
        x = x + 2 * half * evaluate(x + half * v, t + half, i, "mid")
        x = arrive(x, t_next, i, callback, settle)
    return x


def fireflow(
    evaluate: Evaluate, x: Tensor, times: Tensor, callback: Callback | None = None, settle: Settle | None = None
) -> Tensor:
    """FireFlow (arXiv 2412.07517): the midpoint rule, its first velocity being the midpoint velocity of the interval
    before. n + 1 evaluations for n intervals.
    """
    v = None
    for t, t_next, i in intervals(times):
        half = (t_next - t) / 2
        if v is None:  # once per direction
            v = evaluate(x, t, i, "first")
        v = evaluate(x + half * v, t + half, i, "mid")
        x = x + 2 * half * v
        x = arrive(x, t_next, i, callback, settle)
    return x


SOLVERS = {"euler": euler, "midpoint": midpoint, "fireflow": fireflow}


def evaluations(solver: str, n: int) -> int:
    """How many velocities the solver of this name takes for n intervals in one direction."""
    return {"euler": n, "midpoint": 2 * n, "fireflow": n + 1}[solver]


def arrive(x: Tensor, t: Tensor, interval: int, callback: Callback | None, settle: Settle | None) -> Tensor:
    """The end of an interval: settle the latents if asked to, and tell the callback."""
    if settle is not None:
        x = settle(x, interval)
    notify(callback, t, x)
    return x


def intervals(times: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
    """(t, t_next, number) of each interval in the order of `times`; number 0 is the one next to the noise."""
    n = len(times) - 1
    upward = bool(times[-1] > times[0])
    for i, (t, t_next) in enumerate(pairwise(times)):
        yield t, t_next, n - 1 - i if upward else i


def follow(
    backbone: Backbone, cond: Conditioning, around: Callable[[int, str], AbstractContextManager] | None = None
) -> Evaluate:
    """The velocity of this conditioning for a solver, each evaluation made inside `around(interval, stage)`."""

    def evaluate(x: Tensor, t: Tensor, interval: int, stage: str) -> Tensor:
        if around is None:
            return backbone.velocity(x, t, cond)
        with around(interval, stage):
            return backbone.velocity(x, t, cond)

    return evaluate


def check_ranges(settings: Any, **ranges: tuple[float, float]) -> None:
    """InputError unless each setting named lies in its closed range."""
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            thing = f"setting {name!r} of {type(settings).__name__}"
            raise InputError(thing, found=value, expected=f"a number in [{low:g}, {high:g}]")


def check_inject(settings: Any) -> None:
    """InputError if `inject`, the number of intervals that share attention, is negative or above `steps`."""
    if not 0 <= settings.inject <= settings.steps:
        thing = f"setting 'inject' of {type(settings).__name__}"
        raise InputError(thing, found=settings.inject, expected=f"0 to {settings.steps}, the number of steps")


def check_choices(settings: Any, **choices: tuple[str, ...]) -> None:
    """InputError unless each setting named is one of its words."""
    for name, words in choices.items():
        value = getattr(settings, name)
        if value not in words:
            thing = f"setting {name!r} of {type(settings).__name__}"
            raise InputError(thing, found=repr(value), expected=f"one of {', '.join(words)}")

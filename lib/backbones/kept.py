"""Results kept by key, as many as fit into so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Kept(Generic[V]):
    """At most `limit_bytes` of values; the one not asked for longest goes first. Too large a value is not kept."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = 0  # of what is kept now
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """What is kept under this key; None if nothing is."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value of `size` bytes in place of what the key had."""
        if key in self._values:
            self.bytes -= self._values.pop(key)[1]
        if size > self.limit_bytes:
            return
        self._values[key] = value, size
        self.bytes += size
        while self.bytes > self.limit_bytes:
            self.bytes -= self._values.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Drop all."""
        self._values.clear()
        self.bytes = 0

"""The errors that a user may meet."""


class PalimpsestError(Exception):
    """Every error that this project raises on purpose."""


class InputError(PalimpsestError, ValueError):
    """Something that came from outside is not as it must be.

    `str(error)` is one line: `"{thing}: found {found}; expected {expected}"`.
    """

    def __init__(self, thing: object, *, found: object, expected: object) -> None:
        self.thing, self.found, self.expected = (" ".join(str(part).split()) for part in (thing, found, expected))
        super().__init__(f"{self.thing}: found {self.found}; expected {self.expected}")

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), self.thing, self.found, self.expected)


def _rebuild(cls: type[InputError], thing: str, found: str, expected: str) -> InputError:
    """Pickle cannot pass keyword arguments to an exception by itself; worker processes need it."""
    return cls(thing, found=found, expected=expected)

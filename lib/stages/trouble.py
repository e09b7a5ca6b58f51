"""What goes wrong outside of this code and outside of what a user wrote, in one line: the disk and damaged weights."""

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from lib.core.errors import InputError

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
EXPECTED = "a disk with room, and leave to write there"


@contextmanager
def in_one_line(thing: str) -> Iterator[None]:
    """Trouble inside the block leaves it as the InputError that `as_input_error` makes of it; all else passes."""
    try:
        yield
    except Exception as error:
        if (trouble := as_input_error(error, thing)) is None:
            raise
        raise trouble from error


def as_input_error(error: Exception, thing: str) -> InputError | None:
    """The error in our own form, or None if it is none of these: a disk that is full, read-only or broken, a file that
    may not be written, a file of weights that is damaged. `thing` is named if the error itself names no file.
    """
    if isinstance(error, shutil.Error):  # of copying a folder: a list of (from, to, reason)
        _, place, reason = error.args[0][0]
        code = re.match(r"\[Errno (\d+)\]", str(reason))
        error = OSError(int(code[1]), os.strerror(int(code[1])), str(place)) if code else error
    if isinstance(error, OSError) and error.errno in DISK:
        place = error.filename2 or error.filename  # of copying and renaming: where to
        return InputError(f"file {place}" if place else thing, found=error.strerror, expected=EXPECTED)
    if isinstance(error, sqlite3.OperationalError):
        return InputError(f"{thing}, in DVC's records below .dvc/tmp", found=error, expected=EXPECTED)
    if type(error).__name__ == "SafetensorError":  # by name: safetensors need not be loaded to say what it is not
        if "No space left" in str(error):
            return InputError(thing, found=os.strerror(errno.ENOSPC), expected=EXPECTED)
        return InputError(thing, found=f"damaged weights ({error})", expected="whole files")
    return None

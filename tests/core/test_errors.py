import pickle

import pytest

from lib.core.errors import InputError, PalimpsestError


def test_input_error_is_one_line_with_what_was_found_and_expected():
    error = InputError("image cat.png", found="RGB\nin [0, 255]", expected="values in [0, 1]")
    assert str(error) == "image cat.png: found RGB in [0, 255]; expected values in [0, 1]"


def test_input_error_is_caught_as_value_error_and_as_ours():
    for kind in (ValueError, PalimpsestError):
        with pytest.raises(kind):
            raise InputError("steps", found=0, expected="1 or more")


def test_input_error_survives_the_way_from_a_worker_process():
    error = InputError("steps", found=0, expected="1 or more")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.found) == (InputError, str(error), "0")

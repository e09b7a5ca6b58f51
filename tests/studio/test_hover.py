import base64
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from lib.core.errors import InputError
from lib.stages.pages_html import body_of
from lib.studio.hover import before_after


def test_pairs_hold_their_pictures_in_order_and_their_names():
    torch.manual_seed(0)
    before, after = (torch.rand(2, 3, 8, 8) for _ in range(2))
    made = before_after(before, after, [("drawn", "decoded, 30 dB"), ("a < b", "b")]).data
    shown = [Image.open(BytesIO(base64.b64decode(data))) for data in re.findall(r'base64,([^"]*)"', made)]
    for picture, wanted in zip(shown, (before[0], after[0], before[1], after[1]), strict=True):
        assert np.array_equal(np.asarray(picture), (wanted * 255).round().byte().permute(1, 2, 0))
    assert re.findall(r'alt="([^"]*)"', made)[:3] == ["before: drawn", "after: decoded, 30 dB", "before: a &lt; b"]


def test_a_page_of_the_review_takes_them_as_they_are():
    made = before_after(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8), [("one", "other")]).data
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/html": made}}
    cell = {"cell_type": "code", "source": "x", "metadata": {}, "outputs": [output]}
    assert (
        '<div class="grid"><figure class="before-after"><img alt="before: one"' in body_of({"cells": [cell]}, "a").html
    )


def test_as_many_before_as_after():
    with pytest.raises(InputError, match="found 1, 2 and 1"):
        before_after(torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8), [("a", "b")])

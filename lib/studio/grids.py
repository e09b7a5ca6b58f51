"""Pictures side by side: sources, right answers and what each editor made of them."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from lib.bench.cases import EditCase
from lib.world.edits import EDIT_TYPES


def comparison(cases: Sequence[EditCase], columns: Mapping[str, Mapping[str, Tensor]], *, cell: float = 1.15) -> Figure:
    """One row per case: its instruction, the source, the result of each editor, the right answer if one is known.

    `columns` maps an editor's name to its images [3, H, W] in [0, 1] by case id. Cases without a target image leave
    that cell empty.
    """
    answers = ["right answer"] if any(case.target_image is not None for case in cases) else []
    titles = ["source", *columns, *answers]
    figure, axes = plt.subplots(
        len(cases),
        len(titles) + 1,
        figsize=(cell * (len(titles) + 2.2), cell * len(cases) + 0.3),
        width_ratios=[2.2, *[1] * len(titles)],
        layout="constrained",
        squeeze=False,
    )
    for row, case in zip(axes, cases, strict=True):
        kind = "" if case.edit_type is None else f"{EDIT_TYPES[case.edit_type]}: "
        row[0].text(0, 0.5, fill(kind + (case.instruction or case.target_prompt), 30), va="center", fontsize=8)
        images = [case.image, *(column[case.id] for column in columns.values()), case.target_image]
        for axis, image in zip(row[1:], images[: len(titles)], strict=True):
            if image is not None:
                axis.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
        for axis in row:
            axis.set_axis_off()
    for axis, title in zip(axes[0, 1:], titles, strict=True):
        axis.set_title(title, fontsize=9)
    plt.close(figure)  # a cell shows it by ending with it, once
    return figure

"""Small folders in the layouts of the benchmarks, made for a test, with the traps that the real ones hold."""

import copy
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from lib.bench.pie_bench import FOLDERS

LAST = 512 * 512 - 1
BLOCK = [512 * 100 + 50, 20, 512 * 101 + 50, 20]  # two rows of 20 pixels: rows 100 and 101, columns 50 to 69

# Traps: no run at all, a run that goes on beyond the end, the full frame; brackets that are nested, doubled, absent and
# never closed; an empty blended word; an instruction that is empty.
PIE: dict[str, dict[str, Any]] = {
    "000000000000": {
        "image_path": "0_random_140/000000000000.jpg",
        "original_prompt": "a cat on a [red] sofa",
        "editing_prompt": "a cat on a [blue [velvet]] sofa with [a lamp]",
        "editing_instruction": "make the sofa blue",
        "editing_type_id": "0",
        "blended_word": "red blue",
        "mask": BLOCK,
    },
    "111000000000": {
        "image_path": "1_change_object_80/1_artificial/1_animal/111000000000.jpg",
        "original_prompt": "a dog",
        "editing_prompt": "a [fox]",
        "editing_instruction": "",
        "editing_type_id": "1",
        "blended_word": "",
        "mask": [LAST - 9, 100],
    },
    "224000000003": {
        "image_path": "2_add_object_80/2_natural/4_outdoor/224000000003.jpg",
        "original_prompt": "a field",
        "editing_prompt": "a field with a [tree",
        "editing_instruction": "add a tree",
        "editing_type_id": "2",
        "blended_word": "",
        "mask": [],
    },
    "921000000007": {
        "image_path": "9_change_style_80/2_natural/1_animal/921000000007.jpg",
        "original_prompt": "a photo of a goat",
        "editing_prompt": "a goat",
        "editing_instruction": "remove the style",
        "editing_type_id": "9",
        "blended_word": "",
        "mask": [0, LAST + 1],
    },
}
PIE_COUNTS = {0: 1, 1: 1, 2: 1, 9: 1}


def picture(side: int, mode: str = "RGB", colour: str = "teal") -> Image.Image:
    """A disc on a plain ground; with an alpha channel, the ground is transparent."""
    image = Image.new(mode, (side, side), (255, 0, 0, 0) if mode == "RGBA" else colour)
    ImageDraw.Draw(image).ellipse([side // 4] * 2 + [side // 2] * 2, fill="orange")
    return image


def write_pie(folder: Path, samples: dict[str, Any] = PIE, *, side: int = 512) -> Path:
    """PIE-Bench: the mapping file and a picture for every path that it names."""
    for sample in samples.values():
        path = folder / "annotation_images" / sample["image_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(side).save(path)
    return write_mapping(folder, samples)


def write_mapping(folder: Path, samples: Any) -> Path:
    text = samples if isinstance(samples, str) else json.dumps(samples, indent=1)
    (folder / "mapping_file.json").write_text(text, encoding="utf-8")
    return folder


def changed(key: str, **values: Any) -> dict[str, Any]:
    """PIE's samples with other values in one of them; None takes the key away."""
    samples = copy.deepcopy(PIE)
    samples[key] |= values
    samples[key] = {name: value for name, value in samples[key].items() if value is not None}
    return samples


@cache
def jpeg() -> bytes:
    data = io.BytesIO()
    picture(512).save(data, format="JPEG")
    return data.getvalue()


def plus_row(edit_type: int, **values: Any) -> dict[str, Any]:
    """One row of PIE-Bench++: JSON in some cells, Python literals in others, numbers between blanks as mask."""
    key = f"{edit_type}11000000000" if edit_type else "000000000000"
    row = {
        "image": {"bytes": jpeg(), "path": f"{key}.jpg"},
        "id": key,
        "source_prompt": "a [red] sofa",
        "target_prompt": "a [blue] sofa with [a lamp]",
        "edit_action": "{'blue': {'position': 1, 'edit_type': 6, 'action': 'red'}}",
        "aspect_mapping": '{"sofa": ["blue"]}',
        "blended_words": '["red,blue"]',
        "mask": " ".join(str(number) for number in BLOCK),
    }
    return row | values


def write_plus(folder: Path, rows: dict[int, list[dict[str, Any]]] | None = None) -> Path:
    """PIE-Bench++: ten parquet files of one row each, but for the types whose rows are given."""
    for edit_type in range(10):
        write_type(folder, edit_type, (rows or {}).get(edit_type, [plus_row(edit_type)]))
    return folder


def write_type(folder: Path, edit_type: int, rows: list[dict[str, Any]]) -> Path:
    """One of the ten files, which is returned."""
    import pyarrow
    from pyarrow import parquet

    path = folder / FOLDERS[edit_type] / "V1-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


# Traps: paths into a folder of another name, two pictures of other names, a picture with an alpha channel, fewer codes
# than prompts, the key of the authors' script, doubled apostrophes, a prompt over several lines.
FLOWEDIT = """\
-
    init_img:  flowedit_data/coconut_out.png
    source_prompt: A coconut filled with water.
        The coconut is on a table.

    target_prompts:
     - A baseball filled with water. The cat''s cup.
     - A giant cup filled with water.

    target_codes:
     - 1_baseball
     - 2_cup
-
    init_img : flowedit_data/meditation1.png
    source_prompt: A woman.
    target_prompts:
     - A robot.
     - A statue.
     - A tree.
    target_codes:
     - 1_robot
     - 2_statue
-
    input_img: flowedit_data/bear.png
    source_prompt: A "brown" bear.
    target_prompts: [A panda.]
    target_codes: [1_panda]
"""
FLOWEDIT_COUNTS = {"pictures": 3, "prompts": 6}


def write_flowedit(folder: Path, text: str = FLOWEDIT) -> Path:
    (folder / "Images").mkdir(parents=True)
    for name, mode in (("coconut", "RGB"), ("meditation2", "RGBA"), ("bear", "RGB")):
        picture(1024, mode).save(folder / "Images" / f"{name}.png", compress_level=1)
    (folder / "flowedit.yaml").write_text(text, encoding="utf-8")
    return folder


def write_photos(folder: Path) -> Path:
    """The three photographs' stand-ins: sizes differ, one has an alpha channel, one mask has another's name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, side, mode in (("car.png", 800, "RGB"), ("cup.png", 800, "RGBA"), ("catdog.jpg", 700, "RGB")):
        picture(side, mode).save(folder / name)
    for name, side in (("car_mask.png", 800), ("cup_mask.png", 800), ("dog_mask.png", 700)):
        mask = Image.new("L", (side, side))
        ImageDraw.Draw(mask).rectangle([10, 20, 29, 59], fill=255)  # 20 wide, 40 high
        mask.save(folder / name)
    return folder

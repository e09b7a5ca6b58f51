"""One picture file in, one edited picture out: the shortest way to an edit of one's own.

python -m lib.editors.picture cat.png "a cat on the grass" "a dog on the grass" dog.png --backbone models/tiny-flux
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.backbones.base import Backbone
from lib.backbones.load import load_backbone
from lib.bench.cases import EditCase
from lib.core.errors import PalimpsestError
from lib.core.images import fit_to, load_image, load_mask, save_png
from lib.editors.run import Edited, run_editor


def edit_picture(
    picture: str | Path,
    source_prompt: str,
    target_prompt: str,
    out: str | Path,
    *,
    backbone: str | Path | Backbone,
    editor: str = "flowedit",
    settings: Mapping[str, Any] | None = None,
    mask: str | Path | None = None,
    seed: int = 0,
    max_side: int | None = None,
) -> Edited:
    """Edit a picture file and write a PNG that carries its recipe.

    The picture is shrunk to `max_side` pixels if given and cropped in the centre to the sizes that the backbone can
    read.
    Raises InputError, with nothing written, for a bad file, prompt, editor, setting or backbone.
    """
    model = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    image = fit_to(load_image(picture), model.multiple, max_side)
    region = None if mask is None else fit_to(load_mask(mask), model.multiple, max_side)
    case = EditCase(
        id=Path(picture).stem,
        image=image,
        target_prompt=target_prompt,
        source_prompt=source_prompt,
        mask=region,
        benchmark="picture",
        licence="the user's own",
    )
    (edited,) = run_editor(editor, model, [case], settings, seed=seed, progress=False)
    save_png(edited.image, out, edited.recipe)
    return edited


def main(arguments: list[str] | None = None) -> int:
    """Command line of `edit_picture`."""
    parser = argparse.ArgumentParser(prog="python -m lib.editors.picture", description="Edit one picture by text.")
    for name in ("picture", "source_prompt", "target_prompt", "out"):
        parser.add_argument(name)
    parser.add_argument("--backbone", default="models/tiny-flux", help="a folder or a hub name")
    parser.add_argument("--editor", default="flowedit")
    parser.add_argument("--mask")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-side", type=int)
    try:
        edited = edit_picture(**vars(parser.parse_args(arguments)))
    except PalimpsestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{edited.nfe:g} transformer evaluations; wrote the edit with its recipe")
    return 0


if __name__ == "__main__":
    sys.exit(main())

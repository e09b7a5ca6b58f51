"""A training as a stage: `python -m lib.stages.train autoencoder | parser | clip | identity_a | identity_b | flow`.

The module lib.learning.<name> says what its outputs are; this one gives it a scratch folder that survives a kill and
puts the finished outputs in their place. The scratch is kept for as long as the world, the inputs, the settings and the
training's code are the same; a longer run continues a shorter one. The gates judge what is finished: they may change.
"""

import sys
from dataclasses import asdict, fields
from importlib import import_module

from lib.core.errors import InputError, PalimpsestError
from lib.core.memory import keep_freed_memory
from lib.stages.config import load_section
from lib.stages.imports import closure
from lib.stages.publish import die_with_parent, guard_sources, publish, stage_scratch
from lib.stages.trouble import in_one_line
from lib.world.fingerprint import world_fingerprint

TRAININGS = ("autoencoder", "parser", "flow", "clip", "identity_a", "identity_b")


def settings_from(section: dict[str, object], kind: type) -> object:
    """The settings dataclass of a training from its section of params.yaml.

    Raises:
        InputError: for a name that the dataclass does not have or a value of another type.
    """
    known = {field.name: field for field in fields(kind)}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in section.items()}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"setting {name} of {kind.__name__}", found="no such setting", expected=", ".join(known))
        wanted = type(known[name].default)
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise InputError(f"setting {name} of {kind.__name__}", found=repr(value), expected=f"a {wanted.__name__}")
    return kind(**given)


def training_code(name: str) -> list[str]:
    """The files of lib/learning that a training runs through, without those that only judge."""
    files = (path.as_posix() for path in closure([f"lib.learning.{name}"]))
    return [file for file in files if file.startswith("lib/learning/") and not file.endswith("gates.py")]


def train(name: str) -> None:
    """Run one training to its published outputs, or raise with nothing published."""
    if name not in TRAININGS:
        raise InputError("training", found=repr(name), expected=f"one of {', '.join(TRAININGS)}")
    module = import_module(f"lib.learning.{name}")
    guard = guard_sources(values=lambda: load_section(name))
    settings = settings_from(load_section(name), module.SETTINGS)
    fixed = {key: value for key, value in asdict(settings).items() if key not in module.CONTINUABLE}
    code = {path: guard.files[path] for path in training_code(name)}
    fingerprint = {"world": world_fingerprint(), "settings": fixed, "code": code, **module.inputs()}
    with stage_scratch(name, fingerprint=fingerprint) as scratch:
        outputs = module.stage(scratch, settings)
        guard.check()
        publish(outputs)


def main(arguments: list[str]) -> int:
    """Command line; the last line of an error names the thing, what was found and what was expected."""
    die_with_parent()
    keep_freed_memory()
    name = " ".join(arguments)
    try:
        with in_one_line(f"training {name}, whose unfinished work is .scratch/{name} (removing that begins anew)"):
            train(name)
    except PalimpsestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

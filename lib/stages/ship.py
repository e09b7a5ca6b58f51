"""store/, the small DVC remote that a fresh clone pulls from: pushed to, tidied and measured. Once per issue."""

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.stages.docs import export_docs
from lib.stages.plan import look
from lib.stages.store import check_objects, inside, place

LIMIT_MB = 32.0
DOCS = {"docs/edits.png": "runs/flowedit/method/figures/edits.png"}  # what README.md shows, made by the pipeline
MB = 1e6


def ship(root: Path = ROOT, limit: float = LIMIT_MB) -> int:
    """Push what is shipped to store/, drop what nothing refers to any more, print sizes, write docs/.

    InputError if results are not up to date, if the default remote is another one, or if the store exceeds `limit` MB.
    """
    pending = [step.name for step in look(root) if step.certain]
    if pending:
        raise InputError("results", found=f"{', '.join(pending)} to be run", expected="all up to date: make repro")
    outputs = _push(root)
    referenced = {name: _objects(root, name, md5) for name, md5 in outputs}
    dropped = _drop_others(root, {md5 for objects in referenced.values() for md5 in objects})
    sizes = {name: sum(place(root, md5).stat().st_size for md5 in objects) for name, objects in referenced.items()}
    for name, size in sorted(sizes.items(), key=lambda row: -row[1]):
        print(f"{size / MB:10.3f} MB  {name}")
    total = sum(path.stat().st_size for path in _files(root))
    print(f"{total / MB:10.3f} MB  store/, of at most {limit:g} MB; {dropped} files dropped")
    if total > limit * MB:
        raise InputError("store/", found=f"{total / MB:.2f} MB", expected=f"at most {limit:g} MB")
    for shown, made in DOCS.items():
        if (root / made).is_file():
            (root / shown).parent.mkdir(exist_ok=True)
            shutil.copyfile(root / made, root / shown)
    export_docs(root)
    return 0


def _push(root: Path) -> list[tuple[str, str]]:
    """Push; return (path, md5) of every output that is shipped. The run cache is never pushed."""
    from dvc.repo import Repo

    with chdir(root), Repo() as repo:
        remote = repo.cloud.get_remote(command="push")
        if Path(remote.path).resolve() != (root / "store").resolve():
            raise InputError("default DVC remote", found=remote.path, expected="store/; see .dvc/config.local")
        repo.push(run_cache=False)
        outs = [out for out in repo.index.outs if out.use_cache and out.can_push and out.hash_info]
        return [(Path(out.fs_path).relative_to(root).as_posix(), out.hash_info.value) for out in outs]


def _objects(root: Path, name: str, md5: str) -> set[str]:
    """The objects of one output: itself, and for a folder also its files. InputError if one is not in the store."""
    check_objects(root, [md5])
    objects = inside(root, md5)
    for one in sorted(objects):
        if not place(root, one).is_file():
            expected = "a complete push; is it in the cache?"
            raise InputError(f"store/, for {name}", found=f"no object {one}", expected=expected)
    return objects


def _drop_others(root: Path, referenced: set[str]) -> int:
    keep = {place(root, md5) for md5 in referenced}
    others = [path for path in _files(root) if path not in keep]
    for path in others:
        path.unlink()
    for folder in sorted((root / "store").rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return len(others)


def _files(root: Path) -> Iterator[Path]:
    return (path for path in list((root / "store").rglob("*")) if path.is_file())

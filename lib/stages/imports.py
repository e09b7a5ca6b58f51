"""Which files of lib a module or a notebook imports, directly or through others: found by reading, without running."""

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.paths import ROOT

PACKAGE = "lib"


def closure(modules: Iterable[str], root: Path = ROOT) -> list[Path]:
    """The files (relative to `root`, sorted) of `modules` and of all of lib that they import, also inside functions.

    Imports under `if TYPE_CHECKING:` do not count, nor does an `__init__.py` that holds nothing but its docstring.
    InputError if a module that is imported does not exist.
    """
    files: dict[str, Path] = {}
    waiting = [(module, "the command line") for module in modules]
    while waiting:
        module, importer = waiting.pop()
        if module in files:
            continue
        path = _file_of(module, root)
        if path is None:
            raise InputError(
                f"module {module}", found=f"no such file; imported by {importer}", expected="a module of lib"
            )
        files[module] = path
        tree = _parse((root / path).read_text(encoding="utf-8"), str(path))
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        waiting += [(name, str(path)) for name in _imported(tree, package, root)]
    return sorted(path for path in files.values() if not _only_docstring(root / path))


def notebook_imports(notebook: Mapping[str, Any], name: str, root: Path = ROOT) -> list[str]:
    """The modules of lib that the code cells of a notebook name in their imports."""
    found: set[str] = set()
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            lines = ["pass" if line.startswith(("%", "!", "?")) else line for line in source.split("\n")]
            code = "\n".join(lines) if not source.startswith("%%") else ""
            found |= set(_imported(_parse(code, f"notebook {name}, cell {number}"), "", root))
    return sorted(found)


def _imported(tree: ast.AST, package: str, root: Path) -> list[str]:
    names: list[str] = []
    for node in _walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                below = f"{base}.{alias.name}"
                names.append(below if _ours(below) and _file_of(below, root) else base)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "import_module":
                names.append(str(node.args[0].value))
    ours = [name for name in names if _ours(name)]
    packages = [name.rsplit(".", depth)[0] for name in ours for depth in range(1, name.count(".") + 1)]
    return ours + [name for name in packages if _file_of(name, root)]


def _walk(tree: ast.AST) -> Iterable[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                yield other
                yield from _walk(other)
            continue
        yield node
        yield from _walk(node)


def _ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(PACKAGE + ".")


def _file_of(module: str, root: Path) -> Path | None:
    path = Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if (root / candidate).is_file():
            return candidate
    return None


def _only_docstring(path: Path) -> bool:
    if path.name != "__init__.py":
        return False
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def _parse(code: str, where: str) -> ast.Module:
    try:
        return ast.parse(code)
    except SyntaxError as error:
        raise InputError(
            where, found=f"line {error.lineno}: {error.msg}", expected="Python that can be read"
        ) from error

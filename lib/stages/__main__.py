"""What `python -m lib.stages` offers. Notebooks run by `python -m lib.stages.notebook`, which is a stage's command."""

import argparse
import sys
from collections.abc import Iterable

from lib.core.errors import PalimpsestError
from lib.stages.trouble import in_one_line

SCALE = "default"  # what is committed, and what the results in git were made at


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        with in_one_line(f"what `{given.verb}` writes"):
            return _run(given) or 0
    except PalimpsestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.stages", description="The pipeline and its notebooks.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("repro", help="bring every result up to date; long stages only with LONG=1")
    verbs.add_parser("fetch", help="pull what is shipped and not here yet")
    verbs.add_parser("plan", help="what would run, why, and its expected minutes")
    verbs.add_parser("scale", help="rewrite the line `scale:` of params.yaml").add_argument("scale")
    verbs.add_parser("review", help="executed notebooks as web pages in review/")
    verbs.add_parser("docs", help="what the notebooks found, as Markdown in docs/")
    verbs.add_parser("ship", help="bring store/ up to date: push, drop what nobody refers to, check the size")
    verbs.add_parser("strip", help="write runs/sources/ (the same as python -m lib.stages.sources)")
    verbs.add_parser("check-notebooks", help="fail if a source notebook holds outputs")
    verbs.add_parser("deps", help="the files of lib that a module or a notebook needs").add_argument("entry")
    verbs.add_parser("check-dvc", help="compare the deps in dvc.yaml with what the code imports")
    verbs.add_parser("lock", help="write requirements.txt from this environment")
    return parser


def _run(given: argparse.Namespace) -> int | None:
    from lib.core.paths import ROOT

    match given.verb:
        case "repro":
            from lib.stages.repro import repro

            return repro()
        case "fetch":
            from lib.stages.plan import look

            look()
        case "plan":
            from lib.stages.plan import print_plan

            return print_plan()
        case "scale":
            from lib.stages.config import set_scale

            print(f"params.yaml: scale {given.scale}" + ("" if set_scale(given.scale) else ", as before"))
            if given.scale != SCALE:
                print(f"scale stays {given.scale}; make repro SCALE={SCALE} goes back")
        case "review":
            from lib.stages.review import review

            print(f"open {review()}")
        case "docs":
            from lib.stages.docs import export_docs

            print("\n".join(path.relative_to(ROOT).as_posix() for path in export_docs()))
        case "ship":
            from lib.stages.ship import ship

            return ship()
        case "strip":
            from lib.stages.sources import strip_all

            print(f"runs/sources: {', '.join(strip_all())}")
        case "check-notebooks":
            from lib.stages.sources import with_outputs

            return _report(
                f"notebooks/{name}.ipynb holds outputs: clear them before committing" for name in with_outputs()
            )
        case "deps":
            from lib.stages.graph import dependencies

            print("\n".join(dependencies(given.entry)))
        case "check-dvc":
            from lib.stages.graph import check_dvc

            return _report(check_dvc(ROOT / "dvc.yaml"))
        case "lock":
            from lib.stages.lock import write_lock

            print(f"requirements.txt: {write_lock()} packages")
    return None


def _report(problems: Iterable[str]) -> int:
    lines = list(problems)
    print("\n".join(lines) if lines else "nothing to complain about")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())

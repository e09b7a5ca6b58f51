"""Claims and evidence with known answers."""

import numpy as np
import pandas as pd

from lib.claims.evidence import Evidence
from lib.claims.ledger import parse_claims

NOTEBOOK = "lore/method"


def claim(name="x-1", kind="superiority", arms=("a", "b"), *, confirmatory=True, paper="X", value=None, **test):
    """A claim on metric `m` of NOTEBOOK; superiority and trend claim "higher" unless told."""
    if kind in ("superiority", "trend"):
        test.setdefault("direction", "higher")
    entry = {"id": name, "paper": paper, "kind": kind, "statement": f"claim {name}", "paper_value": value}
    test = {"notebook": NOTEBOOK, "arms": list(arms), "metric": "m"} | test
    if "command" in test:
        entry |= {"needs_weights": True, "command": test.pop("command")}
    return parse_claims([entry | {"confirmatory": confirmatory, "test": test}])[0]


def table(values, *, seeds=1, metric="m", **columns):
    """Tidy rows of {arm: values of each case}; `columns` hold one value per case."""
    rows = [
        {"case": f"c{i:03}", "arm": arm, "seed": seed, "metric": metric, "value": float(value)}
        | {name: column[i] for name, column in columns.items()}
        for arm, per_case in values.items()
        for i, value in enumerate(per_case)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def evidence(*tables, **more):
    return Evidence({NOTEBOOK: pd.concat(tables, ignore_index=True)}, **more)


def pair(n=60, lift=1.0, seed=0):
    generator = np.random.default_rng(seed)
    b = generator.normal(size=n)
    return {"a": b + lift + 0.5 * generator.normal(size=n), "b": b}

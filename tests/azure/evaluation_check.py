#!/usr/bin/env python3
"""Checks the way to azure-ai-evaluation and back, with the package itself (see requirements.txt; no cloud is asked).

Runs generated claims on the built-in model, writes them with `-o results.jsonl`, lets `evaluate()` read that file, and
imports what it wrote. Checked, case by case against that file: values, labels and reasons of all evaluators; what has no score
there is unscored here, and no zero; nothing is taken in twice; every score stands on the span of its trial.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "acceptance"))
sys.dont_write_bytecode = True

import common  # noqa: E402
from common import Checks, Spanscore  # noqa: E402

# The field that each evaluator answers with: value, label, reason; `None` where it gives none.
FIELDS = {
    "f1": ("f1_score", "f1_score_result", None),
    "exact": ("exact", None, "exact_reason"),
    "fragile": ("fragile", None, None),
    "verdict": (None, "verdict", None),
}


def expected(row):
    """The scores that a row of `evaluate()` holds: evaluator -> (value, label, reason)."""
    scores = {}
    for name, fields in FIELDS.items():
        found = [row.get(f"outputs.{name}.{field}") if field else None for field in fields]
        value, label, reason = (None if isinstance(x, float) and math.isnan(x) else x for x in found)
        if value is not None or label is not None:
            scores[name] = (value, label, reason)
    return scores


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--claims", type=int, default=200)
    options = parser.parse_args()
    binary, check = common.binary(options), Checks()
    with common.workspace(options) as folder:
        spanscore = Spanscore(binary, folder)
        common.write_claims(folder / "claims.jsonl", options.claims)
        report = spanscore.json("run", "--dataset", "claims.jsonl", "--no-progress", "-o", "results.jsonl")
        check(report["trials"]["completed"] == options.claims, f"trials {report['trials']}")

        script = Path(__file__).with_name("evaluators.py")
        done = subprocess.run([sys.executable, str(script), "results.jsonl", "out.json"], cwd=folder, capture_output=True, text=True)
        if not check(done.returncode == 0, "evaluate() reads results.jsonl"):
            sys.exit(done.stderr[-3000:])
        rows = json.loads((folder / "out.json").read_text())["rows"]
        wanted = {row["inputs.case_id"]: expected(row) for row in rows}
        check(len(wanted) == options.claims, f"evaluate() gives {len(wanted)} rows")

        total = sum(map(len, wanted.values()))
        first = spanscore.json("import", "evaluation", "out.json")
        again = spanscore.json("import", "evaluation", "out.json")
        check(first["total"]["scores"] == total, f"taken in: {first['total']} of {total} scores")
        check(again["total"]["scores"] == 0 and again["total"]["duplicates"] == total, f"taken in again: {again['total']}")

        cases = spanscore.json("cases")
        own = set(common.EVALUATORS.split(","))
        wrong = []
        for case in cases:
            scores = {name: score for name, score in case["scores"].items() if name not in own}
            found = {name: (s["value"], s["label"], s["explanation"]) for name, s in scores.items()}
            if found != wanted[case["case_id"]]:
                wrong.append((case["case_id"], found, wanted[case["case_id"]]))
        check(len(cases) == options.claims and not wrong, f"scores of {len(cases)} cases equal those of evaluate() {wrong[:1] or ''}")
        missing = sum("fragile" not in scores for scores in wanted.values())
        unscored = sum("fragile" not in case["scores"] for case in cases)
        check(0 < missing == unscored < options.claims, f"{missing} without a score are unscored, not zero: {unscored}")

        spans, astray = {}, []
        for case in cases:
            trace = case["trace_id"]
            if trace not in spans:
                spans[trace] = {span["span_id"]: span for span in spanscore.json("trace", trace)["spans"]}
            names = spans[trace][case["span_id"]]["scores"].keys()
            if not wanted[case["case_id"]].keys() <= names:
                astray.append((case["case_id"], sorted(names)))
        check(not astray, f"each score stands on the span of its trial, in {len(spans)} traces {astray[:1] or ''}")
        proof = spanscore.json("verify")
        check(proof["linked"] == proof["scores"] == 3 * options.claims, f"verify: {proof['linked']} of the run's scores linked")
    check.exit()


if __name__ == "__main__":
    main()

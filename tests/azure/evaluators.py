"""Evaluates rows with azure-ai-evaluation's own `evaluate()`, without a cloud: `evaluators.py ROWS.jsonl OUT.json`.

Besides one evaluator of the package, three that behave as users' own do: one that also explains itself, one that fails on some
rows and has no number for others, one that gives a label only.
"""

import sys

from azure.ai.evaluation import F1ScoreEvaluator, evaluate


class Exact:
    def __call__(self, *, response, ground_truth):
        return {"exact": float(response.strip() == ground_truth.strip()), "exact_reason": f"{ground_truth!r} was expected"}


class Fragile:
    def __call__(self, *, case_id):
        if case_id.endswith("3"):
            raise ValueError("no verdict on those")
        return {"fragile": float("nan") if case_id.endswith("4") else 0.25}


class Verdict:
    def __call__(self, *, response):
        return {"verdict": "firm" if response.strip() in ("True", "False") else "open"}


if __name__ == "__main__":
    rows, out = sys.argv[1:]
    evaluators = {"f1": F1ScoreEvaluator(), "exact": Exact(), "fragile": Fragile(), "verdict": Verdict()}
    evaluate(data=rows, evaluators=evaluators, output_path=out)

#!/usr/bin/env python3
"""Real claims and real answers.

Runs the built-in model over two public datasets, and replays the recorded answers of two real models to a third.
Checked:

- every planned trial is completed, failed or skipped, and the dataset's labels are all read;
- `verify` finds every score on its span: 0 missing, 0 mismatched;
- the accuracy shown is that which follows from the cases, and its interval holds it;
- replayed answers give the accuracy known from the recordings, with a cluster-robust interval over the groups.

Accuracy of the built-in model is printed beside the share of the majority class, which is what it has to beat.
"""

import collections
import json
import math

import common
from common import Checks, Spanscore, note

BUILTIN = ["scifact_dev_bm25_top3.jsonl", "checkcovid_sentences.jsonl"]
# The accuracies are facts of the recordings: the share of `pred` equal to `label`.
REPLAYED = [("wice_gpt-4-0613.jsonl", 0.650), ("wice_gpt-3.5-turbo-0613.jsonl", 0.413)]


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check_run(check, name, spanscore, report, gold):
    trials = report["trials"]
    check(trials["planned"] == len(gold) == trials["completed"] + trials["failed"] + trials["skipped"],
          f"{name}: {trials} of {len(gold)} cases")
    verified = spanscore.json("verify", report["run"]["id"])
    check(verified["scores"] == verified["linked"] > 0 and not verified["missing"] and not verified["mismatched"],
          f"{name}: verify finds {verified['linked']} of {verified['scores']} scores,"
          f" {len(verified['missing'])} missing, {len(verified['mismatched'])} mismatched")
    cases = spanscore.json("cases", report["run"]["id"])
    check({c["case_id"]: c["expected"] for c in cases} == {r["id"]: r["label"] for r in gold},
          f"{name}: {len(cases)} cases with their labels")
    accuracy = report["metrics"]["accuracy"]
    counted = [c for c in cases if c["status"] == "completed" and c["expected"]]
    value = sum(c["output"] == c["expected"] for c in counted) / len(counted)
    low, high = accuracy["ci95"]
    check(math.isclose(accuracy["value"], value) and accuracy["n"] == len(counted) and low < value < high,
          f"{name}: accuracy {value:.3f} [{low:.3f}, {high:.3f}], {accuracy['method']}, n = {accuracy['n']}")
    return accuracy, cases


def robust_interval(cases, group_of):
    """Accuracy with the standard error over clusters: √(G/(G−1) Σ(Σ residuals)²)/n, for comparison."""
    scores = [float(c["output"] == c["expected"]) for c in cases]
    mean = sum(scores) / len(scores)
    sums = collections.defaultdict(float)
    for case, score in zip(cases, scores):
        sums[group_of[case["case_id"]]] += score - mean
    g = len(sums)
    return mean, math.sqrt(g / (g - 1) * sum(s * s for s in sums.values())) / len(scores), g


def main():
    parser = common.arguments(__doc__, data=True)
    options = parser.parse_args()
    binary, data = common.binary(options), options.data.resolve()
    if not data.is_dir():
        common.skip(f"no real data at {data}: name its folder with --data")
    check = Checks()
    with common.workspace(options) as folder:
        for name in BUILTIN:
            gold = rows(data / name)
            labels = collections.Counter(row["label"] for row in gold)
            spanscore = Spanscore(binary, folder, folder / f"store-{name}")
            validated = spanscore.json("validate", "--dataset", data / name)
            check(validated["cases"] == len(gold) and not validated["errors"]
                  and all(validated["labels"].get(k) == n for k, n in labels.items()),
                  f"{name}: validate finds {validated['cases']} cases, {validated['labels']}, {len(validated['errors'])} errors,"
                  f" {len(validated['warnings'])} warnings")
            code, out, err = spanscore.call("run", "--dataset", data / name, "--format", "json", "--quiet")
            if not check(code == 0, f"{name}: run ends with {code} {err.strip()[:300]}"):
                continue
            accuracy, _ = check_run(check, name, spanscore, json.loads(out), gold)
            majority = max(labels.values()) / len(gold)
            low, high = accuracy["ci95"]
            verdict = "above" if low > majority else "below" if high < majority else "not told apart from"
            note(f"{name}: {verdict} the majority class, {majority:.3f}")

        gold = rows(data / "replay" / "wice_cases.jsonl")
        group_of = {row["id"]: row["group"] for row in gold}
        (folder / "wice.toml").write_text(
            f"""[suite]
name = "wice"
dataset = {json.dumps(str(data / "replay" / "wice_cases.jsonl"))}
evaluators = ["label_match", "valid_label", "abstention"]
primary = "label_match"
[model]
provider = "replay"
[workflow]
kind = "assess_claims_with_context"
answer_pattern = "<answer>(.*?)</answer>"
labels = {{ True = ["supported"], False = ["not_supported"], NEE = ["partially_supported"] }}
"""
        )
        spanscore = Spanscore(binary, folder, folder / "store-wice")
        for name, known in REPLAYED:
            answers = {row["id"]: row for row in rows(data / "replay" / name)}
            code, out, err = spanscore.call("run", "wice.toml", "--replay", data / "replay" / name, "--format", "json", "--quiet")
            if not check(code == 0, f"{name}: run ends with {code} {err.strip()[:300]}"):
                continue
            accuracy, cases = check_run(check, name, spanscore, json.loads(out), gold)
            check(abs(accuracy["value"] - known) < 0.0005, f"{name}: accuracy {accuracy['value']:.4f}, known {known:.3f}")
            wrong = [c["case_id"] for c in cases if c["output"] != answers[c["case_id"]]["pred"]]
            check(not wrong, f"{name}: answers read differently than they were: {len(wrong)} {wrong[:3]}")
            mean, error, groups = robust_interval(cases, group_of)
            low, high = accuracy["ci95"]
            check("cluster" in accuracy["method"].lower() and 0.8 < (high - low) / (2 * 1.96 * error) < 1.25,
                  f"{name}: {accuracy['method']}: [{low:.3f}, {high:.3f}]; {mean:.3f} ± 1.96 · {error:.4f} over {groups} groups"
                  f" = [{mean - 1.96 * error:.3f}, {mean + 1.96 * error:.3f}]")
    check.exit()


if __name__ == "__main__":
    main()

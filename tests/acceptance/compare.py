#!/usr/bin/env python3
"""`compare` and `gate` of two runs of 100 000 cases, beside the same resamples in numpy.

Records two runs of recorded answers (80 % and 79 % right, in clusters of four and without clusters), and checks:

- `compare` with its bootstrap intervals: at most 3 s and 300 MB; `gate` at most 1 s more than that;
- both agree with numpy on the accuracies and on the interval of the difference of macro-F1 (numpy resamples the joint cells).

Beside it stands the time that numpy takes for the same number of resamples, by cells and by cases. Needs numpy for that part
(`pip install numpy`); without it that part is skipped, saying so.
"""

import json
import random
import subprocess
import sys
import time

import common
from common import Checks, Spanscore, note

LABELS = common.LABELS


def answers(path, rows, right, seed):
    """Recorded answers that are right with this probability, else another label."""
    draw = random.Random(seed)
    given = []
    with open(path, "w", encoding="utf-8") as out:
        for row in rows:
            label = row["label"]
            answer = label if draw.random() < right else draw.choice([other for other in LABELS if other != label])
            given.append(answer)
            out.write(json.dumps({"id": row["id"], "output": answer, "usage": {"prompt_tokens": 100 + draw.randrange(50), "completion_tokens": 1}}) + "\n")
    return given


def timed(spanscore, *arguments):
    """Runs a command. Returns (exit code, stdout, stderr, seconds, peak memory in MB)."""
    process = spanscore.start(*arguments)
    begun = time.monotonic()
    out, err = process.communicate(timeout=600)
    seconds = time.monotonic() - begun
    return process.returncode, out, err, seconds


def peak(spanscore, *arguments):
    """Peak memory in MB of a command, taken by /proc of a child that waits for it."""
    code = ("import resource,subprocess,sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)")
    command = [sys.executable, "-c", code, str(spanscore.path), *map(str, arguments)]
    done = subprocess.run(command, cwd=spanscore.folder, env=spanscore.environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def macro_f1(numpy, matrices):
    """Macro-F1 of matrices [..., expected, predicted (4 columns, the last unparseable)]."""
    right = numpy.einsum("...ii->...i", matrices[..., :3]).astype(float)
    expected, predicted = matrices.sum(-1), matrices[..., :3].sum(-2)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        f1 = numpy.where(expected + predicted > 0, 2 * right / (expected + predicted), 0.0)
    return f1.mean(-1)


def beside_numpy(check, rows, base, head, document, resamples):
    try:
        import numpy
    except ImportError:
        note("SKIPPED: the comparison with numpy needs numpy")
        return
    code = {label: i for i, label in enumerate(LABELS)}
    e = numpy.array([code[row["label"]] for row in rows])
    b, h = (numpy.array([code[label] for label in given]) for given in (base, head))
    n, rng = len(e), numpy.random.default_rng(1)
    cells = numpy.bincount(e * 16 + b * 4 + h, minlength=48)

    def difference(counts):
        joint = counts.reshape(*counts.shape[:-1], 3, 4, 4)
        return macro_f1(numpy, joint.sum(-2)) - macro_f1(numpy, joint.sum(-1))

    begun = time.monotonic()
    by_cells = difference(rng.multinomial(n, cells / n, size=resamples))
    cell_time = time.monotonic() - begun
    some = max(1, resamples // 20)
    begun = time.monotonic()
    key = e * 16 + b * 4 + h
    for _ in range(some):
        difference(numpy.bincount(key[rng.integers(0, n, n)], minlength=48))
    case_time = (time.monotonic() - begun) * resamples / some
    low, high = numpy.quantile(by_cells, [0.025, 0.975])
    note(f"numpy, {resamples} resamples of macro-F1 alone: by cells {cell_time:.2f} s, by cases {case_time:.1f} s (from {some})")
    metrics = {metric["name"]: metric for metric in document["metrics"]}
    ours = metrics["macro_f1"]
    delta = float(difference(cells))
    check(abs(ours["delta"] - delta) < 1e-9, f"difference of macro-F1: ours {ours['delta']:.9f}, numpy {delta:.9f}")
    width = high - low
    check(abs(ours["ci95"][0] - low) < 0.1 * width and abs(ours["ci95"][1] - high) < 0.1 * width,
          f"its interval: ours {ours['ci95'][0]:.6f} to {ours['ci95'][1]:.6f}, numpy's percentiles {low:.6f} to {high:.6f}")
    accuracy = metrics["accuracy"]
    check(abs(accuracy["base"] - (e == b).mean()) < 1e-12 and abs(accuracy["head"] - (e == h).mean()) < 1e-12,
          f"accuracies {accuracy['base']:.5f} and {accuracy['head']:.5f}")
    one, other = int(((e == b) & (e != h)).sum()), int(((e != b) & (e == h)).sum())
    check(accuracy["discordant"] == [one, other], f"discordant pairs {accuracy['discordant']}, counted {[one, other]}")


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=9_999, help="what `compare` draws for macro-F1")
    options = parser.parse_args()
    check, path = Checks(), common.binary(options)
    with common.workspace(options) as folder:
        rows = [common.claim(i) for i in range(options.cases)]
        for name, grouped in (("flat", False), ("grouped", True)):
            dataset = folder / f"{name}.csv"
            with open(dataset, "w", encoding="utf-8") as out:
                out.write("id,claim,context,label" + (",group" if grouped else "") + "\n")
                for row in rows:
                    fields = ["id", "claim", "context", "label"] + (["group"] if grouped else [])
                    out.write(",".join(row[field] for field in fields) + "\n")
            spanscore = Spanscore(path, folder, store=folder / f"store-{name}")
            given = {}
            for side, right, seed in (("base", 0.80, 1), ("head", 0.79, 2)):
                given[side] = answers(folder / f"{side}.jsonl", rows, right, seed)
                suite = folder / "suite.toml"
                suite.write_text(f'[suite]\nname = "compare"\ndataset = "{dataset.name}"\nevaluators = ["label_match", "valid_label"]\nprimary = "label_match"\n'
                                 '[model]\nprovider = "replay"\nname = "recorded"\n[workflow]\nkind = "assess_claims_with_context"\nbatch_size = 64\n'
                                 '[gate]\nmetrics = { accuracy = { margin = 0.02 }, macro_f1 = { margin = 0.02 } }\n')
                code, _, err = spanscore.call("run", suite, "--replay", folder / f"{side}.jsonl", "--name", side, "--quiet")
                if code:
                    sys.exit(f"recording {side}: exit {code}: {err[-400:]}")
            code, out, err, seconds = timed(spanscore, "compare", "base", "head", "--format", "json")
            if code:
                sys.exit(f"compare: exit {code}: {err[-400:]}")
            seconds = min([seconds] + [timed(spanscore, "compare", "base", "head", "--format", "json")[3] for _ in range(2)])
            memory = peak(spanscore, "compare", "base", "head", "--format", "json")
            check(seconds <= 3, f"compare of two runs of {options.cases} cases, {name}: {seconds:.2f} s (limit 3 s)")
            check(memory <= 300, f"its peak memory: {memory:.0f} MB (limit 300 MB)")
            code, _, err = spanscore.call("baseline", "save", "base", "-o", folder / f"baseline-{name}.json")
            if code:
                sys.exit(f"baseline save: exit {code}: {err[-400:]}")
            size = (folder / f"baseline-{name}.json").stat().st_size
            code, verdict, err, gate = timed(spanscore, "gate", "head", "--baseline", folder / f"baseline-{name}.json", "--format", "json")
            check(code in (0, 1, 3) and gate <= seconds + 1, f"gate: {gate:.2f} s (limit {seconds + 1:.2f} s), exit {code}, {json.loads(verdict)['verdict']}; baseline file {size / 1e6:.1f} MB")
            check(peak(spanscore, "gate", "head", "--baseline", folder / f"baseline-{name}.json") <= 300, "gate within 300 MB")
            if not grouped:
                beside_numpy(check, rows, given["base"], given["head"], json.loads(out), options.resamples)
    check.exit()


if __name__ == "__main__":
    main()

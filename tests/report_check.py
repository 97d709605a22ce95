#!/usr/bin/env python3
"""The files that `spanscore report` and `run -o` write, as those read them for whom they are.

Two runs of ten thousand cases with recorded answers, some of them hostile, the second judged against the first:

- HTML: smaller than 5 MB, one document that fetches nothing; in Chromium no console error, no request, no markup of the dataset's;
  the filter answers in less than 100 ms; it fits a phone, prints, and reads without scripts. Screenshots in the target folder;
- JUnit: holds against junit.xsd, the counts are those of its cases, every case has its trace;
- Markdown: its tables are tables, nothing of the dataset becomes markup, it fits a comment;
- CSV: a row per trial, no cell that a spreadsheet would calculate; Parquet and JSON: written, as many rows.

Needs tests/requirements.txt, and for the browser what browser/check.py needs; without that it says so loudly.
"""

import csv
import json
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "acceptance"), str(HERE / "browser")]
sys.dont_write_bytecode = True

import common  # noqa: E402
from common import Checks, Spanscore, note  # noqa: E402

CASES = 10_000
HOSTILE = [
    "<script>__pwned('script')</script>", "\"><img src=x onerror=__pwned(1)>", "=HYPERLINK(\"http://e.test\")", "@SUM(A1:A9) | x",
    "</script><!-- <script> ]]> & \u0000\u001b[31m", "[a](http://e.test/?x) **b** `c` @everyone #12", "\u202egnp.exe", "-2+3|cmd",
    "好" * 300,
]
WORDS = ("the protein binds receptor cells membrane mice human expression levels increase treatment clinical trial evidence suggests "
         "kinase signalling pathway tumour growth metabolism insulin response gene variant risk").split()


def write(folder):
    """The dataset and what two models answered to it."""
    chance = random.Random(4)
    with open(folder / "claims.jsonl", "w") as claims, open(folder / "a.jsonl", "w") as before, open(folder / "b.jsonl", "w") as after:
        for i in range(CASES):
            claim = HOSTILE[i // 40 % len(HOSTILE)] if i % 40 == 0 else " ".join(chance.choices(WORDS, k=chance.randint(12, 40))) + "."
            expected = chance.choice(common.LABELS)
            others = [label for label in common.LABELS if label != expected]
            then = expected if chance.random() < 0.82 else chance.choice(others)
            now = then
            if then == expected and (chance.random() < 0.08 or i % 40 == 0):
                now = chance.choice(others)
            elif then != expected and chance.random() < 0.1:
                now = expected
            if chance.random() < 0.003:
                now = f"I cannot say. {HOSTILE[i % len(HOSTILE)]}"
            row = {"id": f"case-{i:05}", "claim": claim.replace("\u0000", ""), "context": " ".join(chance.choices(WORDS, k=40)), "label": expected,
                   "field": chance.choice(["biology", "=chemistry", "physics"])}
            claims.write(json.dumps(row) + "\n")
            before.write(json.dumps({"id": row["id"], "raw": then, "model": "first"}) + "\n")
            after.write(json.dumps({"id": row["id"], "raw": now, "model": "second"}) + "\n")
    (folder / "big.toml").write_text(
        """[suite]
name = "big <b>claims</b>"
dataset = "claims.jsonl"
evaluators = ["label_match", "valid_label", "abstention"]
primary = "label_match"
[model]
provider = "replay"
[workflow]
kind = "assess_claims_with_context"
[gate]
metrics = { accuracy = { margin = 0.02 } }
"""
    )


def junit(check, path):
    import xmlschema

    problems = list(xmlschema.XMLSchema(HERE / "junit.xsd").iter_errors(str(path)))
    check(not problems, f"JUnit: holds against junit.xsd {[str(p.reason)[:120] for p in problems[:3]]}")
    root = ET.parse(path).getroot()
    for suite in root:
        cases = suite.findall("testcase")
        counted = [len(cases), *(len([c for c in cases if c.find(kind) is not None]) for kind in ("failure", "error", "skipped"))]
        said = [int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")]
        check(said == counted, f"JUnit: suite {suite.get('name')!r} says {said} and has {counted}")
    gate, trials = root
    check(gate.find("testcase").find("failure").get("type") == "FAIL", "JUnit: the verdict is a failed test")
    traced = [case for case in trials.iter("testcase") if "trace_id: " in (case.findtext("system-out") or "")]
    check(len(traced) == CASES, f"JUnit: {len(traced)} of {CASES} cases have their trace")


def markdown(check, path):
    from html.parser import HTMLParser

    from markdown_it import MarkdownIt

    text = path.read_text()
    # GitHub's flavour lets some markup through and keeps the rest out; what the report writes itself is all there may be.
    shown = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").render(text)
    seen = {}

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            seen[tag] = seen.get(tag, 0) + 1

    Tags().feed(shown)
    own = {"h2", "p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "code", "details", "summary", "sub"}
    check(set(seen) <= own, f"Markdown: no markup of the dataset's {sorted(set(seen) - own)}")
    check(seen.get("table", 0) >= 4 and shown.count("|:--") == 0, f"Markdown: {seen.get('table')} tables")
    check(len(text) < 60_000, f"Markdown: {len(text)} characters fit a comment")
    check(text.startswith("## ❌ FAIL"), "Markdown: the verdict comes first")


def tables(check, folder):
    with open(folder / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    check(len(rows) == CASES, f"CSV: {len(rows)} rows")
    formulas = [value for row in rows for name, value in row.items()
                if value[:1] in "=+-@\t\r" and value and not name.startswith("score.") and not value.replace(".", "").lstrip("-").isdigit()]
    check(not formulas, f"CSV: no cell is a formula {formulas[:3]}")
    check({"change", "base_output", "col.field", "trace_id"} <= set(rows[0]), "CSV: columns of the comparison and the dataset")
    regressed = sum(row["change"] == "regressed" for row in rows)
    document = json.loads((folder / "out.json").read_text())
    check(document["comparison"]["cases"]["counts"]["regressed"] == regressed > 0, f"CSV and JSON: {regressed} cases regressed")
    check(len(document["cases"]) == CASES and document["gate"]["verdict"] == "FAIL", "JSON: every case and the verdict")
    table = (folder / "out.parquet").read_bytes()
    check(table[:4] == table[-4:] == b"PAR1", f"Parquet: {len(table)} bytes")


def browser(check, path, target, screens):
    import check as pages

    config = {"modules": str(pages.modules(target)), "chromium": pages.chromium(), "ui": path.as_uri(), "report": path.as_uri(),
              "screens": str(screens), "cases": CASES}
    written = path.with_suffix(".config.json")
    written.write_text(json.dumps(config))
    done = subprocess.run(["node", str(HERE / "browser" / "report.cjs"), str(written)])
    check(done.returncode == 0, "the report in Chromium")


def main():
    parser = common.arguments(__doc__)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or common.ROOT / "target").resolve()
    parser.add_argument("--screens", type=Path, default=target / "test-screens", help="folder for the screenshots")
    options = parser.parse_args()
    check = Checks()
    path = common.binary(options)
    options.screens.mkdir(parents=True, exist_ok=True)
    with common.workspace(options) as folder:
        spanscore = Spanscore(path, folder)
        write(folder)
        run = ["run", "big.toml", "--no-progress", "--quiet", "--format", "json"]
        code, _, err = spanscore.call(*run, "--replay", "a.jsonl", "--name", "first")
        check(code == 0, f"the first run ends with {code} {err[:200]}")
        spanscore.call("baseline", "save", "latest", "-o", "baseline.json")
        files = ["out.html", "out.md", "out.xml", "out.json", "out.csv", "out.parquet"]
        code, out, err = spanscore.call(*run, "--replay", "b.jsonl", "--name", "second", "--gate", "baseline.json", "-o", *files)
        check(code == 1, f"the second run fails its gate: exit {code} {err[:300]}")
        missing = [name for name in files if not (folder / name).is_file()]
        if check(not missing, f"run -o writes every format {missing}"):
            size = (folder / "out.html").stat().st_size
            check(size < 5_000_000, f"HTML: {size / 1e6:.2f} MB for {CASES} cases")
            junit(check, folder / "out.xml")
            markdown(check, folder / "out.md")
            tables(check, folder)
        for name, words in [("out.pdf", ".html, .md, .xml"), ("nowhere/out.html", "make it first")]:
            code, _, err = spanscore.call("report", "-o", name)
            check(code == 2 and words in err, f"{name}: exit {code}, {err.strip()[:120]}")
        # GitHub names a file for the summary of a job and reads annotations from the job's output.
        code, _, err = spanscore.call("report", "latest", "-o", "again.md", env={"GITHUB_STEP_SUMMARY": str(folder / "summary.md"), "GITHUB_ACTIONS": "true"})
        summary = folder / "summary.md"
        check(code == 0 and summary.is_file() and summary.read_text().startswith("## ❌ FAIL"), f"the summary of a job on GitHub (exit {code})")
        check("::error title=" in err, f"annotations on GitHub: {err.strip()[:100]}")
        note(f"screenshots in {options.screens}")
        if (folder / "out.html").is_file():
            browser(check, folder / "out.html", target, options.screens)
    check.exit()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The Python example end to end: an application's own spans in the trace of each case, and the score on top of them.

Runs examples/python (OpenAI's SDK with OpenTelemetry's instrumentation) over 100 claims at concurrency 8, against the
built-in model's server. Checked, by `spanscore trace --format json`:

- every case's trace holds `assess_claims_with_context` → `assess_claim` → the Python process's span `chat …`, with the
  process's own resource, and the scores on `assess_claim`;
- no span is astray: none in a trace that is not the run's, none without its parent in its trace, none missing;
- the run's linkage is whole (`spanscore verify`), and nothing of the program is left running.

Needs the packages of examples/python/requirements.txt; tests/run installs them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "python"
CASES = 100
CONCURRENCY = 8

faults = []


def check(holds, what):
    if not holds:
        faults.append(what)
        print(f"FAIL {what}", file=sys.stderr)


def spanscore(binary, folder, *words):
    command = [binary, "--store", str(Path(folder) / "store"), *words, "--format", "json"]
    done = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, timeout=600, env=environment())
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def environment(**more):
    """The program is found where this interpreter's packages are; nothing of the machine's own settings decides a test."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENAI_", "SPANSCORE_"))}
    own.pop("TRACEPARENT", None)
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', '')}"
    return {**own, **more}


def run(binary, folder, base_url):
    command = [binary, "--store", str(Path(folder) / "store"), "run", "--limit", str(CASES), "--concurrency", str(CONCURRENCY),
               "--format", "json"]
    env = environment(OPENAI_API_KEY="none", OPENAI_BASE_URL=base_url, MODEL="lexical-baseline")
    done = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, timeout=600, env=env)
    if done.returncode != 0:
        sys.exit(f"the run ended with {done.returncode}:\n{done.stderr}")
    print(f"the run: {done.stderr.strip().splitlines()[0] if done.stderr.strip() else 'nothing on stderr'}")
    return json.loads(done.stdout)


def check_case(case, trace):
    """One case's path through its trace; gives the id of the application's span."""
    name, spans = case["case_id"], {span["span_id"]: span for span in trace["spans"]}
    own = spans.get(case["span_id"])
    if own is None:
        return check(False, f"{name}: its span {case['span_id']} is not in its trace")
    check(own["name"] == "assess_claim", f"{name}: its span is `{own['name']}`")
    check("label_match" in json.dumps(own["scores"]), f"{name}: no score sits on its span: {own['scores']}")
    root = spans.get(own["parent_span_id"])
    check(root is not None and root["name"] == "assess_claims_with_context", f"{name}: its parent is {root and root['name']}")
    below = [span for span in spans.values() if span["parent_span_id"] == case["span_id"]]
    check(len(below) == 1, f"{name}: {len(below)} spans below it: {[span['name'] for span in below]}")
    for span in below:
        check(span["name"] == "chat lexical-baseline", f"{name}: the span below it is `{span['name']}`")
        check(span["kind"] == "CLIENT", f"{name}: its kind is {span['kind']}")
        attributes = span["attributes"]
        check(attributes.get("gen_ai.request.model") == "lexical-baseline", f"{name}: {attributes}")
        check(attributes.get("gen_ai.usage.input_tokens", 0) > 0, f"{name}: no tokens: {attributes}")
        return span["span_id"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    binary = str(Path(parser.parse_args().binary).resolve())
    folder = tempfile.mkdtemp(prefix="spanscore-python-")
    server = subprocess.Popen([binary, "serve-model", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, env=environment())
    try:
        report = run(binary, folder, server.stdout.readline().strip())
    finally:
        server.terminate()
        server.wait(30)
    run_id = report["run"]["id"]
    check(report["trials"]["completed"] == CASES, f"trials: {report['trials']}")
    check(report["run"]["provider"] == "command", f"provider: {report['run']['provider']}")
    check(report["tokens"]["input"] > 0, f"tokens: {report['tokens']}")

    cases = spanscore(binary, folder, "cases", run_id)
    check(len(cases) == CASES, f"{len(cases)} cases")
    listed = spanscore(binary, folder, "traces", "--limit", "10000")
    traces = {row["trace_id"]: spanscore(binary, folder, "trace", row["trace_id"]) for row in listed}
    chats = [check_case(case, traces[case["trace_id"]]) for case in cases]
    check(len(set(chats)) == CASES, f"{len(set(chats))} different chat spans for {CASES} cases")

    astray = [row["trace_id"] for row in listed if row["run_id"] != run_id]
    check(not astray, f"traces that are not the run's: {astray}")
    names = Counter()
    for trace_id, trace in traces.items():
        ids = {span["span_id"] for span in trace["spans"]}
        orphans = [span["name"] for span in trace["spans"] if span["parent_span_id"] and span["parent_span_id"] not in ids]
        check(not orphans, f"trace {trace_id}: spans without their parent: {orphans}")
        names.update(span["name"] for span in trace["spans"])
    batches = names["assess_claims_with_context"]
    expected = {"assess_claim": CASES, "chat lexical-baseline": CASES, "assess_claims_with_context": batches,
                "evaluation_run python-app": 1}
    check(dict(names) == expected, f"spans by name: {dict(names)}, expected {expected}")
    stored = sum(names.values())
    check(report["spans"]["created"] == stored and report["spans"]["stored"] == stored, f"{report['spans']}, {stored} in traces")
    spanscore(binary, folder, "verify", run_id)

    exported = Path(folder) / "all.jsonl"
    spanscore(binary, folder, "export", "--run", run_id, "-o", str(exported))
    services = Counter()
    for line in exported.read_text().splitlines():
        for group in json.loads(line).get("resourceSpans", []):
            service = next(a["value"]["stringValue"] for a in group["resource"]["attributes"] if a["key"] == "service.name")
            services[service] += sum(len(scope["spans"]) for scope in group["scopeSpans"])
    check(services["claims-app"] == CASES, f"spans by service: {dict(services)}")

    shutil.rmtree(folder, ignore_errors=True)
    if faults:
        sys.exit(f"{len(faults)} faults")
    print(f"ok: {CASES} cases at concurrency {CONCURRENCY}, {stored} spans in {len(traces)} traces, 0 astray; "
          f"by service {dict(services)}")


if __name__ == "__main__":
    main()

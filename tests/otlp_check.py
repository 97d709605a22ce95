#!/usr/bin/env python3
"""Checks that what an independent OTLP receiver understands is what the store holds, attribute by attribute.

For each of `http/protobuf`, `http/json` and `grpc`, runs generated claims on the built-in model with export to
tests/otlp_server.py, which reads requests with OpenTelemetry's own Python classes. Checked:

- the spans received are those that `trace ID --format json` shows: ids, parents, names, kinds, times, statuses, attributes
  with their types and order, events, links, resource;
- one log record `gen_ai.evaluation.result` for each score that `cases --format json` shows, on the trace and `chat` span
  of its trial, with the same value, label and explanation;
- counts: stored = delivered, nothing pending, rejected or sent twice, and as many items as arrived;
- headers and gzip, as the environment variables ask;
- the file that `spanscore export -o` writes of the run reads strictly with the same classes, and is complete.
"""

import calendar
import collections
import gzip
import json
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "acceptance"))
sys.dont_write_bytecode = True

import common  # noqa: E402
from common import Checks, Collector, Spanscore  # noqa: E402

KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}
STATUSES = {0: "UNSET", 1: "OK", 2: "ERROR"}
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


def nanoseconds(text):
    """RFC 3339 in UTC as nanoseconds since the epoch."""
    seconds, fraction = TIME.fullmatch(text).groups()
    return calendar.timegm(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S")) * 10**9 + int((fraction or "").ljust(9, "0"))


def same(a, b):
    """Equal, types included (1 is not 1.0), and dictionaries in the same order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def difference(received, stored, trace_id, resource):
    """The first difference between a span as received and as the store shows it."""
    start = nanoseconds(stored["start_time"])
    pairs = [
        ("trace_id", received["trace_id"], trace_id),
        ("parent", received["parent_span_id"], stored["parent_span_id"]),
        ("name", received["name"], stored["name"]),
        ("kind", KINDS.get(received["kind"]), stored["kind"]),
        ("start", received["start_time_unix_nano"], start),
        ("end", received["end_time_unix_nano"], start + round(stored["duration_ms"] * 1e6)),
        ("status", STATUSES.get(received["status"]["code"]), stored["status"]),
        ("status message", received["status"]["message"], stored["status_message"] or ""),
        ("attributes", received["attributes"], stored["attributes"]),
        ("events", [[e["name"], e["time_unix_nano"], e["attributes"]] for e in received["events"]],
         [[e["name"], nanoseconds(e["time"]), e["attributes"]] for e in stored["events"]]),
        ("links", [[l["trace_id"], l["span_id"], l["attributes"]] for l in received["links"]],
         [[l["trace_id"], l["span_id"], l["attributes"]] for l in stored["links"]]),
        ("resource", received["resource"], resource),
        ("scope", received["scope"]["name"], "spanscore"),
        ("dropped", received["dropped"], [0, 0, 0]),
    ]
    for name, a, b in pairs:
        if not same(a, b):
            return f"{received['name']} {received['span_id']}: {name}: received {a!r}, stored {b!r}"
    return None


def check_spans(check, name, spanscore, received):
    """Compares trace by trace. Returns the `chat` span of each trial's span."""
    by_id, chats = {(s["trace_id"], s["span_id"]): s for s in received}, {}
    stored, problems = 0, []
    listed = spanscore.json("traces", "--limit", 1_000_000)
    for row in listed:
        trace = spanscore.json("trace", row["trace_id"])
        for span in trace["spans"]:
            stored += 1
            if span["kind"] == "CLIENT":
                chats[span["parent_span_id"]] = span["span_id"]
            got = by_id.get((row["trace_id"], span["span_id"]))
            problem = "not received" if got is None else difference(got, span, row["trace_id"], trace["resource"])
            if problem:
                problems.append(problem)
    check(stored == len(received) == len(by_id) and not problems,
          f"{name}: {stored} spans of {len(listed)} traces stored, {len(received)} received, {len(problems)} different {problems[:2]}")
    return chats, stored


def check_scores(check, name, spanscore, records, chats, run_id):
    """One log record per score, with the score's content and the trial's ids."""
    cases = spanscore.json("cases", "latest")
    expected = {
        (case["trace_id"], chats.get(case["span_id"]), case["case_id"], evaluator): score
        for case in cases for evaluator, score in case["scores"].items() if score["state"] == "scored"
    }
    got, problems = collections.defaultdict(list), []
    for record in records:
        a = record["attributes"]
        got[(record["trace_id"], record["span_id"], a.get("test.case.id"), a.get("gen_ai.evaluation.name"))].append(record)
    for key, score in expected.items():
        for record in got.get(key, [None]):
            a = record["attributes"] if record else {}
            found = [a.get("gen_ai.evaluation.score.value"), a.get("gen_ai.evaluation.score.label"), a.get("gen_ai.evaluation.explanation")]
            if not same(found, [score["value"], score["label"], score["explanation"]]) or a.get("test.suite.run.id") != run_id:
                problems.append(f"{key}: {found} instead of {score}")
            elif record["event_name"] != "gen_ai.evaluation.result" or not a.get("gen_ai.response.id"):
                problems.append(f"{key}: {record['event_name']} {a}")
    check(len(expected) == len(records) == len(got) and set(got) == set(expected) and not problems,
          f"{name}: {len(expected)} scores of {len(cases)} cases, {len(records)} log records, {len(problems)} different {problems[:2]}")
    return len(records)


def check_file(check, folder, spanscore, spans, logs):
    """The file of a run, read with OpenTelemetry's own classes: every line a request, every span and record well formed."""
    import otlp_server  # needs its packages

    path = folder / "run.jsonl.gz"
    code, _, err = spanscore.call("export", "--run", "latest", "-o", path)
    ids, parents, records, problems = set(), set(), [], [err.strip()] if code else []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            signal = "traces" if "resourceSpans" in json.loads(line) else "logs"
            # Strict: an unknown field or a value of the wrong type is an error.
            request = otlp_server.from_json(line, otlp_server.SIGNALS[signal][0]())
            for group in request.resource_spans if signal == "traces" else request.resource_logs:
                if not any(a.key == "service.name" for a in group.resource.attributes):
                    problems.append("a resource without service.name")
                for scope in group.scope_spans if signal == "traces" else group.scope_logs:
                    for item in scope.spans if signal == "traces" else scope.log_records:
                        if len(item.trace_id) != 16 or len(item.span_id) != 8:
                            problems.append(f"ids of {len(item.trace_id)} and {len(item.span_id)} bytes")
                        if signal == "logs":
                            records.append((item.trace_id, item.span_id))
                            continue
                        if not item.name or not item.start_time_unix_nano <= item.end_time_unix_nano:
                            problems.append(f"span `{item.name}` from {item.start_time_unix_nano} to {item.end_time_unix_nano}")
                        ids.add((item.trace_id, item.span_id))
                        if item.parent_span_id:
                            parents.add((item.trace_id, item.parent_span_id))
    check(len(ids) == spans and len(records) == logs and parents <= ids and set(records) <= ids and not problems,
          f"file: {len(ids)} spans and {len(records)} log records, parents and judged spans among them, {len(problems)} problems {problems[:2]}")


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--claims", type=int, default=1000)
    parser.add_argument("--protocol", choices=["http/protobuf", "http/json", "grpc"], action="append", help="these only")
    options = parser.parse_args()
    common.needs_otlp_server()
    binary, check = common.binary(options), Checks()
    with common.workspace(options) as folder:
        data = common.write_claims(folder / "claims.jsonl", options.claims)
        for protocol in options.protocol or ["http/protobuf", "http/json", "grpc"]:
            name = protocol.replace("/", "-")
            spanscore = Spanscore(binary, folder, folder / f"store-{name}")
            with Collector(folder, name, grpc=0) as collector:
                port = collector.ports["grpc" if protocol == "grpc" else "http"]
                env = {
                    "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
                    "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                    "OTEL_EXPORTER_OTLP_HEADERS": "x-check=one%20two",
                    "OTEL_EXPORTER_OTLP_COMPRESSION": "none" if protocol == "http/json" else "gzip",
                    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=check%2C1,service.name=other",
                    "OTEL_SERVICE_NAME": "claims-check",
                    "OTEL_METRICS_EXPORTER": "none",
                }
                report = spanscore.json("run", "--dataset", data, "--no-progress", env=env)
                counts = spanscore.json("export", "--pending", env=env)["destinations"]["otlp"]
                lines = collector.lines()
            by_signal = collections.defaultdict(list)
            for line in lines:
                by_signal[line["signal"]].append(line)
            check(report["trials"]["completed"] == options.claims, f"{protocol}: trials {report['trials']}")
            chats, spans = check_spans(check, protocol, spanscore, by_signal["traces"])
            logs = check_scores(check, protocol, spanscore, by_signal["logs"], chats, report["run"]["id"])
            check(counts == {"stored": spans + logs, "delivered": spans + logs, "pending": 0, "rejected": 0, "not_sampled": 0, "duplicates": 0},
                  f"{protocol}: {counts}")
            check_file(check, folder, spanscore, spans, logs)
            exported = report["spans"]["exported"]["otlp"]
            check(report["spans"]["created"] == report["spans"]["stored"] == spans and exported["pending"] == 0,
                  f"{protocol}: report: {report['spans']}")
            requests = by_signal["request"]
            # gRPC's Python server takes a request's encoding off before anybody can see it.
            encodings = {"gzip"} if protocol == "http/protobuf" else {""}
            check(requests and all(r["headers"].get("x-check") == "one two" for r in requests)
                  and {r["protocol"] for r in requests} == {protocol} and {r["encoding"] for r in requests} == encodings,
                  f"{protocol}: {len(requests)} requests, encoding {sorted({r['encoding'] for r in requests})}, header x-check")
            resource = by_signal["traces"][0]["resource"]
            check(resource.get("service.name") == "claims-check" and resource.get("deployment.environment.name") == "check,1",
                  f"{protocol}: resource {resource}")
    check.exit()


if __name__ == "__main__":
    main()

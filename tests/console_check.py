#!/usr/bin/env python3
"""Checks that `--trace-to console` prints spans as the console exporters of OpenTelemetry's Python SDK do.

Runs two claims on the built-in model and reads stdout with Python's own json module. Checked:

- stdout is a sequence of JSON objects and nothing else, each byte for byte what `json.dumps(object, indent=4)` prints,
  with a newline after it; the report is on stderr; exit 0;
- names, order and formats of keys are those of the Python exporter; ids, times, kinds and statuses look like its own;
- each kind of span has the attributes of the GenAI conventions in their order, with the right types;
- children stand before their parents, and every parent is there;
- the same with content on the spans (text beyond ASCII is escaped), with log records, and with errors.
"""

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "acceptance"))
sys.dont_write_bytecode = True

import common  # noqa: E402
from common import Checks, Spanscore  # noqa: E402

SPAN_KEYS = ["name", "context", "kind", "parent_id", "start_time", "end_time", "status", "attributes", "events", "links", "resource"]
LOG_KEYS = ["body", "severity_number", "severity_text", "attributes", "dropped_attributes", "timestamp", "observed_timestamp",
            "trace_id", "span_id", "trace_flags", "resource", "event_name"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
TRACE_ID = re.compile(r"0x(?!0{32})[0-9a-f]{32}")
SPAN_ID = re.compile(r"0x(?!0{16})[0-9a-f]{16}")

EVALUATORS = ["label_match", "valid_label", "abstention"]


# Attributes of each kind of span in order, with their types; those with "?" may be absent.
CHAT = {
    "gen_ai.operation.name": str, "gen_ai.provider.name": str, "gen_ai.system": str, "gen_ai.request.model": str,
    "server.address": str, "server.port": int, "gen_ai.request.temperature?": float, "gen_ai.request.max_tokens?": int,
    "openai.api.type": str, "openinference.span.kind": str, "gen_ai.response.id": str, "gen_ai.response.model": str,
    "openai.response.service_tier?": str, "openai.response.system_fingerprint?": str,
    "gen_ai.response.finish_reasons": list, "gen_ai.usage.input_tokens": int, "gen_ai.usage.output_tokens": int,
}
CONTENT = {"gen_ai.input.messages": str, "gen_ai.output.messages": str}
CLAIM = {
    "test.case.id": str, "test.case.name": str, "openinference.span.kind": str, "spanscore.expected": str,
    "spanscore.case.group?": str, "spanscore.trial.repeat": int, "spanscore.output": str, "spanscore.trial.attempts": int,
    "test.case.result.status": str,
}
for evaluator in EVALUATORS:
    CLAIM[f"spanscore.score.{evaluator}?"] = float
    CLAIM[f"spanscore.label.{evaluator}?"] = str
for part, kind in {"name": str, "score.value": float, "score.label": str, "explanation?": str}.items():
    CLAIM[f"gen_ai.evaluation.{part}"] = kind
for i in range(len(EVALUATORS)):
    for part, kind in {"name": str, "score?": float, "label?": str, "explanation?": str, "annotator_kind": str, "identifier": str}.items():
        CLAIM[f"evaluations.{i}.evaluation.{part}"] = kind
MEANS = {f"spanscore.score.{evaluator}.mean?": float for evaluator in EVALUATORS}
WORKFLOW = {
    "operation.claims_count": int, "gen_ai.operation.name": str, "gen_ai.workflow.name": str, "test.suite.name": str,
    "test.suite.run.id": str, "openinference.span.kind": str, "spanscore.prompt.digest?": str, **MEANS,
}
RUN = {
    "test.suite.name": str, "test.suite.run.id": str, "spanscore.dataset.name": str, "spanscore.dataset.digest": str,
    "spanscore.prompt.digest?": str, "test.suite.run.status": str, **MEANS,
}
EVENT = {"gen_ai.evaluation.name": str, "gen_ai.evaluation.score.value?": float, "gen_ai.evaluation.score.label?": str,
         "gen_ai.evaluation.explanation?": str, "gen_ai.response.id": str}

CLAIMS = [
    {"id": "c-1", "claim": "Caf\u00e9 water boils at 100 \u00b0C.", "context": "Water boils at 100 \u00b0C; a \u2018caf\u00e9\u2019 sells it. \U0001f4a7",
     "label": "True", "group": "g"},
    {"id": "c-2", "claim": "A \"quoted\" claim, with\ttab.", "context": "Nothing is said about it.\nOn two lines.", "label": "NEE",
     "group": "g"},
]


def documents(text):
    """The concatenated JSON documents of a text, each with its own source."""
    decoder, place, found = json.JSONDecoder(), 0, []
    while place < len(text):
        document, end = decoder.raw_decode(text, place)
        found.append((document, text[place:end]))
        if text[end:end + 1] != "\n":
            raise ValueError(f"no newline after the document that ends at character {end}")
        place = end + 1
    return found


def ordered(attributes, expected):
    """What is wrong with keys, order and types of attributes; None if nothing is."""
    keys = list(attributes)
    known = [key.rstrip("?") for key in expected]
    unknown = [key for key in keys if key not in known]
    if unknown:
        return f"unexpected attributes {unknown}"
    missing = [key for key in expected if not key.endswith("?") and key not in attributes]
    if missing:
        return f"missing attributes {missing}"
    if keys != [key for key in known if key in attributes]:
        return f"order {keys}"
    for key, kind in expected.items():
        key = key.rstrip("?")
        if key in attributes and type(attributes[key]) is not kind:
            return f"{key} is {attributes[key]!r}, expected {kind.__name__}"
    return None


def span_problems(span, expected):
    """Everything that is not as Python prints it."""
    if list(span) != SPAN_KEYS:
        yield f"keys {list(span)}"
        return
    if list(span["context"]) != ["trace_id", "span_id", "trace_state"] or span["context"]["trace_state"] != "[]":
        yield f"context {span['context']}"
    if not TRACE_ID.fullmatch(span["context"]["trace_id"]) or not SPAN_ID.fullmatch(span["context"]["span_id"]):
        yield f"ids {span['context']}"
    if span["parent_id"] is not None and not SPAN_ID.fullmatch(span["parent_id"]):
        yield f"parent_id {span['parent_id']}"
    if not TIME.fullmatch(span["start_time"]) or not TIME.fullmatch(span["end_time"]) or span["start_time"] > span["end_time"]:
        yield f"times {span['start_time']} {span['end_time']}"
    if span["kind"] not in ("SpanKind.INTERNAL", "SpanKind.CLIENT"):
        yield f"kind {span['kind']}"
    if list(span["status"]) not in (["status_code"], ["status_code", "description"]):
        yield f"status {span['status']}"
    for event in span["events"]:
        if list(event) != ["name", "timestamp", "attributes"] or not TIME.fullmatch(event["timestamp"]):
            yield f"event {event}"
        if event["name"] == "gen_ai.evaluation.result" and (problem := ordered(event["attributes"], EVENT)):
            yield f"event {event['name']}: {problem}"
    for link in span["links"]:
        if list(link) != ["context", "attributes"] or list(link["context"]) != ["trace_id", "span_id", "trace_state"]:
            yield f"link {link}"
    resource = span["resource"]
    if list(resource) != ["attributes", "schema_url"] or resource["schema_url"] != "":
        yield f"resource {resource}"
    wanted = ["telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version", "service.name"]
    if any(type(resource["attributes"].get(key)) is not str for key in wanted):
        yield f"resource attributes {resource['attributes']}"
    if expected is not None and (problem := ordered(span["attributes"], expected)):
        yield problem


def log_problems(record):
    if list(record) != LOG_KEYS:
        yield f"keys {list(record)}"
        return
    if not TRACE_ID.fullmatch(record["trace_id"]) or not SPAN_ID.fullmatch(record["span_id"]):
        yield f"ids {record['trace_id']} {record['span_id']}"
    # Python's records may leave the time of the event open, never that of its observation.
    if not TIME.fullmatch(record["observed_timestamp"]) or not TIME.fullmatch(record["timestamp"] or record["observed_timestamp"]):
        yield f"times {record['timestamp']} {record['observed_timestamp']}"
    if record["event_name"] == "gen_ai.evaluation.result":
        more = {"test.case.id": str, "test.suite.run.id": str}
        if problem := ordered(record["attributes"], {**EVENT, **more}):
            yield problem


def expected_of(span, content):
    name = span["name"]
    if name.startswith("chat "):
        return {**CHAT, **CONTENT} if content else CHAT
    return {"assess_claim": CLAIM, "assess_claims_with_context": WORKFLOW}.get(name, RUN if name.startswith("evaluation_run ") else None)


def check_output(check, what, code, out, err, content=False, logs=0):
    """All checks of one run. Returns its spans."""
    if not check(code == 0, f"{what}: exit {code} {err.strip()[-300:] if code else ''}"):
        return []
    found = documents(out)
    reprinted = [json.dumps(document, indent=4) == source for document, source in found]
    check(all(reprinted), f"{what}: {sum(reprinted)} of {len(found)} documents are what json.dumps(…, indent=4) prints")
    check(out.isascii(), f"{what}: {len(out)} characters, all ASCII")
    spans = [document for document, _ in found if "context" in document]
    records = [document for document, _ in found if "context" not in document]
    names = sorted(span["name"].split(" ")[0] for span in spans)
    check(names == ["assess_claim"] * 2 + ["assess_claims_with_context"] + ["chat"] * 2 + ["evaluation_run"],
          f"{what}: {len(spans)} spans: {', '.join(names)}")
    problems = [f"{span['name']}: {p}" for span in spans for p in span_problems(span, expected_of(span, content))]
    problems += [f"{record['event_name']}: {p}" for record in records for p in log_problems(record)]
    check(not problems and len(records) == logs, f"{what}: {len(records)} log records; {len(problems)} problems {problems[:3]}")
    place = {span["context"]["span_id"]: i for i, span in enumerate(spans)}
    early = [span["name"] for i, span in enumerate(spans) if span["parent_id"] is not None and place.get(span["parent_id"], -1) <= i]
    check(not early, f"{what}: children before parents, and all parents there ({early})")
    roots = [span for span in spans if span["parent_id"] is None]
    check(len(roots) == 2 == len({span["context"]["trace_id"] for span in spans}), f"{what}: {len(roots)} roots of 2 traces")
    root = next((span for span in spans if span["name"] == "assess_claims_with_context"), None)
    run = next((span for span in spans if span["name"].startswith("evaluation_run")), None)
    check(root and run and [link["context"]["span_id"] for link in root["links"]] == [run["context"]["span_id"]]
          and root["attributes"]["operation.claims_count"] == 2, f"{what}: the workflow's span is linked to the run's")
    check("accuracy" in err.lower() and "{" not in err.replace("{trace_id}", ""), f"{what}: the report is on stderr ({len(err)} characters)")
    return spans


def main():
    parser = common.arguments(__doc__)
    options = parser.parse_args()
    binary, check = common.binary(options), Checks()
    with common.workspace(options) as folder:
        data = folder / "two.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in CLAIMS), encoding="utf-8")
        spanscore = Spanscore(binary, folder)
        run = ["run", "--dataset", data, "--trace-to", "console", "--no-progress"]

        spans = check_output(check, "plain", *spanscore.call(*run))
        text = json.dumps(spans, ensure_ascii=False)
        check(not any(row["claim"].split(" ")[0] in text for row in CLAIMS[:1]), "plain: no content of claims on the spans")
        check({s["kind"] for s in spans if s["name"].startswith("chat ")} == {"SpanKind.CLIENT"}
              and {s["kind"] for s in spans if not s["name"].startswith("chat ")} == {"SpanKind.INTERNAL"}, "plain: kinds")
        claims = [s for s in spans if s["name"] == "assess_claim"]
        check(sorted(s["attributes"]["test.case.id"] for s in claims) == ["c-1", "c-2"]
              and all(len(s["events"]) >= 2 for s in claims), "plain: both cases, with an event for each score")

        spans = check_output(check, "content", *spanscore.call(*run, "--capture-content"), content=True)
        messages = [json.loads(s["attributes"]["gen_ai.input.messages"]) for s in spans if s["name"].startswith("chat ")]
        texts = [part["content"] for m in messages for part in m[-1]["parts"]]
        check(all(m[-1]["role"] == "user" for m in messages)
              and all(any(row["claim"] in t and row["context"] in t for t in texts) for row in CLAIMS),
              f"content: {len(messages)} input messages hold claim and context to the letter")

        latest = check_output_latest(check, spanscore, run)
        check(latest, "latest: `--semconv latest` leaves gen_ai.system out and nothing else")

        logs = 2 * len(EVALUATORS)
        check_output(check, "logs", *spanscore.call(*run, env={"OTEL_LOGS_EXPORTER": "console"}), logs=logs)

        by_variable = spanscore.call("run", "--dataset", data, "--no-progress", env={"OTEL_TRACES_EXPORTER": "console"})
        check_output(check, "variable", *by_variable)

        code, out, err = spanscore.call(*run, "--format", "json")
        check(code == 2 and not out, f"`--format json` beside the console exporter ends with {code}: {err.strip()[:150]}")
    check.exit()


def check_output_latest(check, spanscore, run):
    code, out, _ = spanscore.call(*run, "--semconv", "latest")
    chats = [document for document, _ in documents(out) if document.get("name", "").startswith("chat ")]
    expected = {key: kind for key, kind in CHAT.items() if key != "gen_ai.system"}
    return code == 0 and len(chats) == 2 and all(ordered(chat["attributes"], expected) is None for chat in chats)


if __name__ == "__main__":
    main()

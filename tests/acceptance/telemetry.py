"""OTLP requests made by hand, as JSON: what the browser, security and viewer checks put into a store.

Needs nothing but Python; the SDKs' own requests are in ../sdk.
"""

import base64
import json
import math
import time


def value(x):
    """A Python value as an AnyValue."""
    if x is None:
        return {}
    if isinstance(x, bool):
        return {"boolValue": x}
    if isinstance(x, int):
        return {"intValue": str(x)}
    if isinstance(x, float):
        return {"doubleValue": x if math.isfinite(x) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(x)]}
    if isinstance(x, bytes):
        return {"bytesValue": base64.b64encode(x).decode()}
    if isinstance(x, dict):
        return {"kvlistValue": {"values": attributes(x)}}
    if isinstance(x, (list, tuple)):
        return {"arrayValue": {"values": [value(item) for item in x]}}
    return {"stringValue": x}


def attributes(pairs):
    return [{"key": key, "value": value(x)} for key, x in pairs.items()]


def trace_id(n):
    return f"{n:032x}"


def span_id(n):
    return f"{n:016x}"


def now():
    """Nanoseconds since the epoch."""
    return time.time_ns()


def span(trace, own, parent=None, name="work", start=None, milliseconds=1.0, attrs=None, kind=1, status=0, message="", events=(),
         links=(), **more):
    """A span. `trace`, `own` and `parent` are numbers or ids; `start` is in nanoseconds."""
    text = lambda x, form: form(x) if isinstance(x, int) else x
    start = now() if start is None else start
    return {
        "traceId": text(trace, trace_id), "spanId": text(own, span_id),
        **({} if parent is None else {"parentSpanId": text(parent, span_id)}),
        "name": name, "kind": kind, "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + int(milliseconds * 1e6)),
        "attributes": attributes(attrs or {}), "events": list(events), "links": list(links),
        "status": {"code": status, **({"message": message} if message else {})}, **more,
    }


def event(name, attrs=None, at=None):
    return {"name": name, "timeUnixNano": str(at or now()), "attributes": attributes(attrs or {})}


def evaluation(name, score, label=None, explanation=None):
    """The event `gen_ai.evaluation.result`."""
    pairs = {"gen_ai.evaluation.name": name, "gen_ai.evaluation.score.value": score}
    pairs |= {} if label is None else {"gen_ai.evaluation.score.label": label}
    pairs |= {} if explanation is None else {"gen_ai.evaluation.explanation": explanation}
    return event("gen_ai.evaluation.result", pairs)


def log(body=None, trace=None, own=None, name="", attrs=None, severity=9):
    record = {"timeUnixNano": str(now()), "body": value(body), "attributes": attributes(attrs or {}), "severityNumber": severity}
    if name:
        record["eventName"] = name
    if trace is not None:
        record["traceId"] = trace_id(trace) if isinstance(trace, int) else trace
    if own is not None:
        record["spanId"] = span_id(own) if isinstance(own, int) else own
    return record


def traces(spans, service="application", scope="library", resource=None):
    """A trace request."""
    return {"resourceSpans": [{
        "resource": {"attributes": attributes({"service.name": service, **(resource or {})})},
        "scopeSpans": [{"scope": {"name": scope, "version": "1"}, "spans": list(spans)}],
    }]}


def logs(records, service="application", scope="library"):
    """A logs request."""
    return {"resourceLogs": [{
        "resource": {"attributes": attributes({"service.name": service})},
        "scopeLogs": [{"scope": {"name": scope}, "logRecords": list(records)}],
    }]}


def send(server, request):
    """Posts a request to `spanscore serve`; raises unless all of it was taken."""
    kind = "traces" if "resourceSpans" in request else "logs"
    status, _, body = server.ask("POST", f"/v1/{kind}", json.dumps(request).encode(), {"Content-Type": "application/json"}, name="otlp/http")
    if status != 200 or b"rejected" in body:
        raise RuntimeError(f"POST /v1/{kind}: {status} {body[:300]!r}")


# --- ready-made traces --------------------------------------------------------------------------------------------------


def conversation(n, start=None, text="Why is the sky blue?", answer="Because of Rayleigh scattering.", low=0.2):
    """A trace of five spans: an agent, a model call with messages, a tool call, a retry with an error, a judge."""
    start = start or now()
    at = lambda milliseconds: start + int(milliseconds * 1e6)
    first, chat, tool, failed, judge = (n * 16 + i for i in range(1, 6))
    messages = [{"role": "system", "parts": [{"type": "text", "content": "Answer briefly."}]},
                {"role": "user", "parts": [{"type": "text", "content": text}]}]
    answers = [{"role": "assistant", "parts": [{"type": "text", "content": answer}], "finish_reason": "stop"}]
    return [
        span(n, first, None, "invoke_agent sky", start, 480, {"gen_ai.operation.name": "invoke_agent"}, kind=2),
        span(n, chat, first, "chat gpt-4.1", at(10), 200, {
            "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4.1", "gen_ai.usage.input_tokens": 42,
            "gen_ai.usage.output_tokens": 7, "gen_ai.input.messages": json.dumps(messages),
            "gen_ai.output.messages": json.dumps(answers)}, kind=3, events=[evaluation("faithfulness", low, "low", "not supported")]),
        span(n, tool, first, "execute_tool lookup", at(220), 90, {"gen_ai.tool.name": "lookup", "gen_ai.tool.call.arguments": '{"q": "sky"}'}),
        span(n, failed, first, "chat gpt-4.1", at(320), 30, {"error.type": "429"}, kind=3, status=2, message="too many requests",
             events=[event("exception", {"exception.type": "RateLimit", "exception.message": "slow down"})]),
        span(n, judge, first, "evaluate faithfulness", at(360), 100, {"openinference.span.kind": "EVALUATOR"}),
    ]


def deep(n, spans, width=5, start=None):
    """A trace of any number of spans, `width` children to each; every 97th failed, every 101st has a low score."""
    start = start or now()
    for i in range(spans):
        parent = None if i == 0 else n * 10_000_000 + (i - 1) // width + 1
        yield span(n, n * 10_000_000 + i + 1, parent, f"step {i}", start + i * 1000, 1 + i % 7,
                   {"step.number": i, "step.kind": "even" if i % 2 == 0 else "odd"},
                   status=2 if i % 97 == 96 else 0, events=[evaluation("grade", 0.1)] if i % 101 == 100 else ())


def odd(n, start=None):
    """Traces that no tree fits: a cycle, an orphan, a child before and one beyond its parent, a span of no length."""
    start = start or now()
    return [
        span(n, n * 16 + 1, n * 16 + 2, "cycle a", start, 5), span(n, n * 16 + 2, n * 16 + 1, "cycle b", start, 5),
        span(n, n * 16 + 3, n * 16 + 3, "its own parent", start, 5), span(n, n * 16 + 4, 0xDEAD, "orphan", start, 5),
        span(n, n * 16 + 5, None, "root", start, 5), span(n, n * 16 + 6, n * 16 + 5, "before its parent", start - 3_000_000, 1),
        span(n, n * 16 + 7, n * 16 + 5, "outlives its parent", start, 50), span(n, n * 16 + 8, n * 16 + 5, "", start, 0),
    ]

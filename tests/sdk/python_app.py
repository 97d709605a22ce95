"""An application traced with OpenTelemetry's Python SDK: everything that a span or log record can hold, sent once.

    python_app.py PROTOCOL COMPRESSION TRACES_ENDPOINT LOGS_ENDPOINT

PROTOCOL is `grpc`, `http/protobuf` or `http/json`, COMPRESSION `gzip` or `none`. Started by check.py.
"""

import logging
import math
import sys

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

STRANGE = "naïve 日本語 🧪 \u202eright\u202c \x1b[31m \"quotes\" <b>&amp;</b> \\ \u0000 end"


def exporters(protocol, compression, traces, logs):
    if protocol == "grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        chosen = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        return (OTLPSpanExporter(endpoint=traces, insecure=True, compression=chosen),
                OTLPLogExporter(endpoint=logs, insecure=True, compression=chosen))
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    else:
        from opentelemetry.exporter.otlp.common.http import Compression
        from opentelemetry.exporter.otlp.json.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
    chosen = Compression(compression)
    return OTLPSpanExporter(endpoint=traces, compression=chosen), OTLPLogExporter(endpoint=logs, compression=chosen)


def spans(provider):
    """Three scopes, four traces. Returns the context of a span for the log records."""
    tracer = provider.get_tracer("library.one", "1.2.3", schema_url="https://opentelemetry.io/schemas/1.41.1",
                                 attributes={"scope.attribute": STRANGE, "n": 1})
    other = provider.get_tracer("library.two")
    remote = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=True,
                         trace_flags=TraceFlags(1), trace_state=TraceState([("vendor", "a=b"), ("rojo", "00f067aa")]))
    with tracer.start_as_current_span("root " + STRANGE, kind=SpanKind.SERVER, links=[Link(remote, {"why": "retry"})]) as root:
        root.set_attributes({
            "int.small": -1, "int.least": -(2**63), "int.most": 2**63 - 1, "beyond.double": 2**53 + 1,
            "double.one": 1.0, "double.small": 5e-324, "double.large": 1.7976931348623157e308, "double.negative.zero": -0.0,
            "double.nan": math.nan, "double.infinity": math.inf, "double.minus.infinity": -math.inf, "third": 1 / 3,
            "true": True, "false": False, "text": STRANGE, "text.empty": "", "key " + STRANGE: "strange key",
            "ints": [1, 2, 3], "texts": ["a", "", STRANGE], "doubles": [0.5, math.nan], "booleans": [True, False], "none": [],
            "bytes": b"\x00\xff\xfe",
        })
        root.add_event("gen_ai.evaluation.result", {
            "gen_ai.evaluation.name": "faithfulness", "gen_ai.evaluation.score.value": 0.25,
            "gen_ai.evaluation.score.label": "low", "gen_ai.evaluation.explanation": STRANGE})
        root.add_event("empty event", {"none": [], "nan": math.nan})
        with other.start_as_current_span("chat model", kind=SpanKind.CLIENT, links=[Link(root.get_span_context())]) as chat:
            chat.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 7})
            try:
                raise ValueError("the model said " + STRANGE)
            except ValueError as error:
                chat.record_exception(error, {"retry": 1})
                chat.set_status(Status(StatusCode.ERROR, "failed: " + STRANGE))
            context = trace.set_span_in_context(chat)
        with tracer.start_as_current_span("fine", kind=SpanKind.PRODUCER) as fine:
            fine.set_status(Status(StatusCode.OK))
    # A parent in another process, and more of everything than the limits allow: the counts of what was dropped are data.
    parent = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    with tracer.start_as_current_span("with a remote parent", context=parent, kind=SpanKind.CONSUMER) as span:
        for i in range(40):
            span.set_attribute(f"attribute.{i}", i)
        for i in range(6):
            span.add_event(f"event {i}", {f"k{j}": j for j in range(6)})
        for i in range(6):
            span.add_link(remote, {f"k{j}": j for j in range(6)})
    with provider.get_tracer("").start_as_current_span("", kind=SpanKind.INTERNAL):
        pass
    instant = tracer.start_span("no time at all", start_time=1_700_000_000_123_456_789)
    instant.end(1_700_000_000_123_456_789)
    return context


def logs(provider, context):
    logger = provider.get_logger("library.logs", "0.1", schema_url="https://opentelemetry.io/schemas/1.41.1",
                                 attributes={"scope.attribute": 1.5})
    nested = {"role": "user", "content": [{"type": "text", "text": STRANGE}, {"type": "number", "value": 1}, [], {}],
              "deep": {"deeper": {"deepest": [[["x"]]]}}, "nothing": None, "bytes": b"\x01", "nan": math.nan}
    emit = lambda **fields: logger.emit(timestamp=1_700_000_000_000_000_001, observed_timestamp=1_700_000_000_000_000_002, **fields)
    emit(context=context, body=nested, event_name="gen_ai.user.message", severity_number=SeverityNumber.INFO,
         severity_text="INFO", attributes={"gen_ai.system": "openai", "none": [], "nan": math.nan, "map": {"a": [1, "b", None]}})
    emit(context=context, event_name="gen_ai.evaluation.result", attributes={
        "gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 1.0, "gen_ai.evaluation.score.label": "pass"})
    emit(body="no span " + STRANGE, severity_number=SeverityNumber.FATAL4, severity_text="F")
    emit(body=["a", 1, 2.5, True, None, b"\xff", {"k": []}])
    emit(body=None, attributes={f"k{i}": i for i in range(40)})
    emit(body=7)


def main():
    protocol, compression, traces_endpoint, logs_endpoint = sys.argv[1:]
    problems = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: problems.append(record.getMessage())
    logging.getLogger("opentelemetry").addHandler(handler)
    span_exporter, log_exporter = exporters(protocol, compression, traces_endpoint, logs_endpoint)
    resource = Resource({"service.name": "sdk check " + STRANGE, "service.version": "1", "list": ["a", "b"], "count": 3},
                        schema_url="https://opentelemetry.io/schemas/1.41.1")
    limits = SpanLimits(max_span_attributes=32, max_events=4, max_links=4, max_event_attributes=4, max_link_attributes=4)
    tracers = TracerProvider(resource=resource, span_limits=limits)
    tracers.add_span_processor(BatchSpanProcessor(span_exporter))
    loggers = LoggerProvider(resource=resource, log_record_limits=LogRecordLimits(max_attributes=32))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(log_exporter))
    context = spans(tracers)
    logs(loggers, context)
    tracers.shutdown()
    loggers.shutdown()
    # Limits and values that an SDK refuses warn; what matters here is that every export succeeded.
    failed = [line for line in problems if "xport" in line]
    sys.exit("\n".join(failed) if failed else 0)


if __name__ == "__main__":
    main()

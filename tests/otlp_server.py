#!/usr/bin/env python3
"""An OTLP receiver for tests: writes what arrives as JSON Lines and misbehaves on demand.

It uses the protobuf classes and the gRPC stack of OpenTelemetry's Python packages, so that what it understands is what
others understand:

    pip install -r tests/requirements.txt
    python3 tests/otlp_server.py --http 0 --grpc 0 --out received.jsonl

Prints `http 127.0.0.1:PORT` and `grpc 127.0.0.1:PORT`, one line each, and serves until it is terminated. Every request
becomes a line with `"signal": "request"`, every span, log record and metric data point a line of its own. Items of a
request that is answered with an error are not written; those of a request that is left without an answer are, for the
point of such a test is that they arrived.
"""

import argparse
import base64
import gzip
import json
import math
import signal
import socket
import sys
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

SIGNALS = {
    "traces": (trace_pb.ExportTraceServiceRequest, trace_pb.ExportTraceServiceResponse, "rejected_spans"),
    "logs": (logs_pb.ExportLogsServiceRequest, logs_pb.ExportLogsServiceResponse, "rejected_log_records"),
    "metrics": (metrics_pb.ExportMetricsServiceRequest, metrics_pb.ExportMetricsServiceResponse, "rejected_data_points"),
}
GRPC_OF_HTTP = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
}


def plain(value):
    """An AnyValue as JSON. Bytes and the doubles that JSON lacks become tagged objects, so that nothing is confused."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    content = getattr(value, kind)
    if kind == "array_value":
        return [plain(item) for item in content.values]
    if kind == "kvlist_value":
        return attributes(content.values)
    if kind == "bytes_value":
        return {"bytes": base64.b64encode(content).decode()}
    if kind == "double_value" and not math.isfinite(content):
        return {"double": repr(content)}
    return content


def attributes(pairs):
    return {pair.key: plain(pair.value) for pair in pairs}


def span_line(span):
    return {
        "signal": "traces",
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex() or None,
        "trace_state": span.trace_state,
        "flags": span.flags,
        "name": span.name,
        "kind": span.kind,
        "start_time_unix_nano": span.start_time_unix_nano,
        "end_time_unix_nano": span.end_time_unix_nano,
        "status": {"code": span.status.code, "message": span.status.message},
        "attributes": attributes(span.attributes),
        "events": [
            {"name": e.name, "time_unix_nano": e.time_unix_nano, "attributes": attributes(e.attributes)}
            for e in span.events
        ],
        "links": [
            {"trace_id": l.trace_id.hex(), "span_id": l.span_id.hex(), "attributes": attributes(l.attributes)}
            for l in span.links
        ],
        "dropped": [span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count],
    }


def log_line(record):
    return {
        "signal": "logs",
        "event_name": record.event_name,
        "trace_id": record.trace_id.hex() or None,
        "span_id": record.span_id.hex() or None,
        "time_unix_nano": record.time_unix_nano,
        "observed_time_unix_nano": record.observed_time_unix_nano,
        "severity_number": record.severity_number,
        "severity_text": record.severity_text,
        "body": plain(record.body),
        "attributes": attributes(record.attributes),
        "flags": record.flags,
    }


def metric_lines(metric):
    for point in metric.histogram.data_points:
        yield {
            "signal": "metrics",
            "name": metric.name,
            "unit": metric.unit,
            "attributes": attributes(point.attributes),
            "count": point.count,
            "sum": point.sum,
            "bounds": list(point.explicit_bounds),
            "buckets": list(point.bucket_counts),
        }


def lines(kind, request):
    """All items of a request, each with its resource and scope."""
    groups = {
        "traces": ("resource_spans", "scope_spans", "spans", lambda item: [span_line(item)]),
        "logs": ("resource_logs", "scope_logs", "log_records", lambda item: [log_line(item)]),
        "metrics": ("resource_metrics", "scope_metrics", "metrics", metric_lines),
    }
    by_resource, by_scope, items, convert = groups[kind]
    for resource_group in getattr(request, by_resource):
        resource = attributes(resource_group.resource.attributes)
        for scope_group in getattr(resource_group, by_scope):
            scope = {"name": scope_group.scope.name, "version": scope_group.scope.version}
            for item in getattr(scope_group, items):
                for line in convert(item):
                    yield {**line, "resource": resource, "scope": scope}


def from_json(text, message):
    """Reads OTLP's JSON, in which ids are hex, with protobuf's reader, which wants base64."""

    def ids_to_base64(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("traceId", "spanId", "parentSpanId") and isinstance(value, str):
                    node[key] = base64.b64encode(bytes.fromhex(value)).decode()
                else:
                    ids_to_base64(value)
        elif isinstance(node, list):
            for value in node:
                ids_to_base64(value)
        return node

    return json_format.ParseDict(ids_to_base64(json.loads(text)), message)


class Receiver:
    """Counts requests, decides how each is answered, and writes what arrived."""

    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        self.out = open(options.out, "a", encoding="utf-8") if options.out else sys.stdout
        self.requests = 0
        self.left_to_fail = options.fail_first
        self.left_to_hang = options.hang
        self.left_to_close = options.close
        self.left_to_reject = options.reject

    def receive(self, kind, protocol, request, headers, encoding=""):
        """Returns what to do: ("ok", rejected), ("fail", status), ("hang", None) or ("close", None)."""
        items = list(lines(kind, request))
        with self.lock:
            self.requests += 1
            verdict = self.verdict(kind, headers, request.ByteSize(), len(items))
            self.write({
                "signal": "request",
                "number": self.requests,
                "kind": kind,
                "protocol": protocol,
                "encoding": encoding,
                "headers": headers,
                "items": len(items),
                "verdict": verdict[0],
            })
            if verdict[0] != "fail":
                kept = items[: len(items) - verdict[1]] if verdict[0] == "ok" else items
                for item in kept:
                    self.write({**item, "request": self.requests})
            self.out.flush()
        return verdict

    def verdict(self, kind, headers, size, count):
        for required in self.options.require_header:
            name, _, value = required.partition("=")
            if headers.get(name.lower()) != value:
                return ("fail", 401)
        if self.options.max_bytes and size > self.options.max_bytes:
            return ("fail", 413)
        if kind == "metrics":
            return ("ok", 0)
        if self.left_to_fail > 0:
            self.left_to_fail -= 1
            return ("fail", self.options.fail_status)
        if self.left_to_hang > 0:
            self.left_to_hang -= 1
            return ("hang", None)
        if self.left_to_close > 0:
            self.left_to_close -= 1
            return ("close", None)
        rejected = min(self.left_to_reject, count)
        self.left_to_reject -= rejected
        return ("ok", rejected)

    def write(self, line):
        self.out.write(json.dumps(line) + "\n")

    def response(self, kind, rejected):
        _, response_class, field = SIGNALS[kind]
        response = response_class()
        if rejected:
            setattr(response.partial_success, field, rejected)
            response.partial_success.error_message = f"{rejected} items were rejected as the test asked"
        return response


def http_handler(receiver):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def body(self):
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                body = b"".join(parts)
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def answer(self, status, content, content_type):
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            if status in (429, 503) and receiver.options.retry_after is not None:
                self.send_header("Retry-After", str(receiver.options.retry_after))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self):
            body = self.body()
            kind = self.path.rsplit("/", 1)[-1]
            if kind not in SIGNALS:
                return self.answer(404, b"no such path", "text/plain")
            content_type = self.headers.get("Content-Type", "")
            is_json = content_type.startswith("application/json")
            try:
                message = SIGNALS[kind][0]()
                if is_json:
                    from_json(body, message)
                else:
                    message.ParseFromString(body)
            except Exception as error:  # whatever it is, the sender is told
                return self.answer(400, str(error).encode(), "text/plain")
            headers = {name.lower(): value for name, value in self.headers.items()}
            protocol = "http/json" if is_json else "http/protobuf"
            encoding = self.headers.get("Content-Encoding", "")
            verdict, detail = receiver.receive(kind, protocol, message, headers, encoding)
            if verdict == "hang":
                time.sleep(receiver.options.hang_seconds)
            if verdict in ("hang", "close"):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return None
            if verdict == "fail":
                return self.answer(detail, f"answering {detail} as the test asked".encode(), "text/plain")
            response = receiver.response(kind, detail)
            if is_json:
                return self.answer(200, json_format.MessageToJson(response).encode(), content_type)
            return self.answer(200, response.SerializeToString(), content_type)

    return Handler


def grpc_servicer(receiver, kind, base):
    class Servicer(base):
        def Export(self, request, context):
            headers = {key.lower(): value for key, value in context.invocation_metadata() if isinstance(value, str)}
            verdict, detail = receiver.receive(kind, "grpc", request, headers, headers.get("grpc-encoding", ""))
            if verdict == "hang":
                time.sleep(receiver.options.hang_seconds)
            if verdict in ("hang", "close"):
                # A gRPC servicer cannot cut the connection; CANCELLED leaves the client as much in the dark.
                context.abort(grpc.StatusCode.CANCELLED, "given up as the test asked")
            if verdict == "fail":
                code = GRPC_OF_HTTP.get(detail, grpc.StatusCode.UNAVAILABLE)
                message = "request too large" if detail == 413 else f"answering {detail} as the test asked"
                context.abort(code, message)
            return receiver.response(kind, detail)

    return Servicer()


def main():
    parser = argparse.ArgumentParser(description="An OTLP receiver for tests.")
    parser.add_argument("--http", type=int, metavar="PORT", help="serve OTLP over HTTP; 0 picks a port")
    parser.add_argument("--grpc", type=int, metavar="PORT", help="serve OTLP over gRPC; 0 picks a port")
    parser.add_argument("--out", metavar="FILE", help="append lines here instead of printing them")
    parser.add_argument("--fail-first", type=int, default=0, metavar="N", help="refuse the first N requests")
    parser.add_argument("--fail-status", type=int, default=503, metavar="CODE", help="with this HTTP status")
    parser.add_argument("--retry-after", type=int, metavar="SECONDS", help="and this Retry-After")
    parser.add_argument("--reject", type=int, default=0, metavar="K", help="reject K items by partial success")
    parser.add_argument("--hang", type=int, default=0, metavar="N", help="take N requests and do not answer in time")
    parser.add_argument("--hang-seconds", type=float, default=30.0, help="how long such a request is left waiting")
    parser.add_argument("--close", type=int, default=0, metavar="N", help="take N requests and close the connection")
    parser.add_argument("--max-bytes", type=int, default=0, metavar="N", help="refuse larger requests as too large")
    parser.add_argument("--require-header", action="append", default=[], metavar="NAME=VALUE", help="else 401")
    options = parser.parse_args()
    if options.http is None and options.grpc is None:
        parser.error("give --http PORT, --grpc PORT or both")

    receiver = Receiver(options)
    if options.http is not None:
        server = ThreadingHTTPServer(("127.0.0.1", options.http), http_handler(receiver))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http 127.0.0.1:{server.server_address[1]}", flush=True)
    if options.grpc is not None:
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        trace_grpc.add_TraceServiceServicer_to_server(
            grpc_servicer(receiver, "traces", trace_grpc.TraceServiceServicer), server)
        logs_grpc.add_LogsServiceServicer_to_server(
            grpc_servicer(receiver, "logs", logs_grpc.LogsServiceServicer), server)
        metrics_grpc.add_MetricsServiceServicer_to_server(
            grpc_servicer(receiver, "metrics", metrics_grpc.MetricsServiceServicer), server)
        port = server.add_insecure_port(f"127.0.0.1:{options.grpc}")
        server.start()
        print(f"grpc 127.0.0.1:{port}", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    signal.pause()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What real SDKs send to `spanscore serve` is stored and exported back equal, to the last byte of every value.

Python's SDK (gRPC, HTTP protobuf with and without gzip, HTTP JSON) and JavaScript's (gRPC, HTTP protobuf, HTTP JSON) trace
an application that uses all that a span and a log record can hold: NaN, infinities, empty arrays, nested maps, bytes,
events, links, exceptions, counts of what was dropped, text of all kinds. Each sends through a recorder that passes its
requests on unchanged, so that what was sent is known from the wire, decoded by OpenTelemetry's own Python classes. Checked:

- every export succeeds in the eyes of the SDK;
- `spanscore export --format otlp-json` gives the same spans and log records, each with its resource, scope and schemas;
- the evaluation results among them are scores of their spans;
- requests of other makes: OTLP JSON in the forms that SDKs write, and recorded requests in ../shared/golden;
- sent once more, nothing is stored twice.
"""

import collections
import gzip
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "acceptance"), str(HERE.parent)]
sys.dont_write_bytecode = True

import common  # noqa: E402
from common import BESIDE, Checks, Server, Spanscore, note  # noqa: E402

common.needs_otlp_server()

import grpc  # noqa: E402
import otlp_server  # noqa: E402

PYTHON = [("grpc", "none"), ("grpc", "gzip"), ("http/protobuf", "none"), ("http/protobuf", "gzip"),
          ("http/json", "none"), ("http/json", "gzip")]
JAVASCRIPT = [("grpc", "none"), ("grpc", "gzip"), ("http/protobuf", "none"), ("http/protobuf", "gzip"),
              ("http/json", "none"), ("http/json", "gzip")]
METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
}


class Recorder:
    """Passes OTLP requests on, unchanged, and keeps what they held."""

    def __init__(self, server):
        self.requests, self.refused, recorder = [], [], self
        host, port = server.address("otlp/http")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def chunks(self):
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def do_POST(self):
                chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
                body = b"".join(self.chunks()) if chunked else self.rfile.read(int(self.headers["Content-Length"]))
                kept = ("content-type", "content-encoding", "user-agent", "accept", "transfer-encoding")
                headers = {k: v for k, v in self.headers.items() if k.lower() in kept}
                onward = http.client.HTTPConnection(host, port, timeout=30)
                halves = iter([body[: len(body) // 2], body[len(body) // 2 :]])
                onward.request("POST", self.path, halves if chunked else body, headers, encode_chunked=chunked)
                answer = onward.getresponse()
                content = answer.read()
                onward.close()
                plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                recorder.record(self.path.rsplit("/", 1)[-1], self.headers["Content-Type"], plain, answer.status, content)
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.getheader("Content-Type", ""))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.http_url = f"http://127.0.0.1:{self.http.server_address[1]}"

        self.channel = grpc.insecure_channel(":".join(map(str, server.address("otlp/grpc"))))

        class Generic(grpc.GenericRpcHandler):
            def service(self, details):
                compressed = dict(details.invocation_metadata).get("grpc-encoding") == "gzip"
                compression = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression

                def pass_on(request, context):
                    call = recorder.channel.unary_unary(details.method)
                    try:
                        answer = call(request, timeout=30, compression=compression)
                    except grpc.RpcError as error:
                        recorder.refused.append(f"{error.code()}: {error.details()}")
                        context.abort(error.code(), error.details())
                    recorder.record(METHODS[details.method], "application/x-protobuf", request, 200, answer)
                    return answer

                return grpc.unary_unary_rpc_method_handler(pass_on)

        self.grpc = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        self.grpc.add_generic_rpc_handlers((Generic(),))
        self.grpc_port = self.grpc.add_insecure_port("127.0.0.1:0")
        self.grpc.start()

    def record(self, kind, content_type, body, status, answer):
        if status != 200:
            self.refused.append(f"{kind}: {status} {answer[:200]!r}")
        self.requests.append((kind, read(kind, content_type, body)))

    def take(self):
        """What was recorded since the last time."""
        taken, self.requests = self.requests, []
        return taken

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        self.grpc.stop(None).wait()
        self.channel.close()


def read(kind, content_type, body):
    message = otlp_server.SIGNALS[kind][0]()
    if content_type.startswith("application/json"):
        return otlp_server.from_json(body, message)
    message.ParseFromString(body)
    return message


GROUPS = {"traces": ("resource_spans", "scope_spans", "spans"), "logs": ("resource_logs", "scope_logs", "log_records")}


def items(kind, request):
    """Every span or log record with its resource, scope and schemas."""
    by_resource, by_scope, leaf = GROUPS[kind]
    for resource_group in getattr(request, by_resource):
        for scope_group in getattr(resource_group, by_scope):
            for item in getattr(scope_group, leaf):
                yield (kind, resource_group.resource, resource_group.schema_url, scope_group.scope, scope_group.schema_url, item)


def key(item):
    """Equal for equal items, NaN included: bytes on the wire, attributes in their order.

    An empty status and a body without a value say the same as none.
    """
    leaf = type(item[5])()
    leaf.CopyFrom(item[5])
    if item[0] == "traces" and not leaf.status.ByteSize():
        leaf.ClearField("status")
    if item[0] == "logs" and leaf.body.WhichOneof("value") is None:
        leaf.ClearField("body")
    item = (*item[:5], leaf)
    return tuple(part if isinstance(part, str) else part.SerializeToString(deterministic=True) for part in item)


def exported(spanscore, folder):
    """All that `export` gives back, read with OpenTelemetry's own classes."""
    path = folder / "exported.jsonl"
    code, out, err = spanscore.call("export", "--format", "otlp-json", "-o", path)
    if code:
        raise RuntimeError(f"`spanscore export --format otlp-json -o {path}` ended with {code}: {err.strip()}")
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        document = json.loads(line)
        kind = "traces" if "resourceSpans" in document else "logs"
        found += items(kind, otlp_server.from_json(line, otlp_server.SIGNALS[kind][0]()))
    return found


def unlike(item, others):
    """The item and the one of the others that is most like it, as text, where they differ."""
    kind = item[0]
    name = lambda i: (i[5].trace_id, i[5].span_id, "" if kind == "traces" else f"{i[5].event_name} {i[5].body} {i[1]}")
    like = next((other for other in others if other[0] == kind and name(other) == name(item)), None)
    if like is None:
        return f"no such item:\n{item[5]}"
    lines = lambda i: "\n".join(str(part) for part in i).splitlines()
    a, b = lines(item), lines(like)
    return "\n".join(f"{x!r}  ≠  {y!r}" for x, y in zip(a, b) if x != y) or f"{len(a)} and {len(b)} lines"


def equal(check, what, sent, back):
    """Whether each thing sent came back once and alike."""
    wanted, found = collections.Counter(map(key, sent)), collections.Counter(map(key, back))
    missing = [item for item in sent if key(item) not in found]
    many = sum(1 for k in wanted if found[k] > wanted[k])
    spans = sum(item[0] == "traces" for item in sent)
    holds = check(bool(sent) and not missing and not many,
                  f"{what}: {spans} spans and {len(sent) - spans} log records sent, {len(missing)} not given back equal, {many} more often than sent")
    for item in missing[:2]:
        note(unlike(item, back))
    return holds


def send_with_sdk(check, name, command, recorder, protocol, compression, timeout=120):
    traces, logs = recorder.http_url + "/v1/traces", recorder.http_url + "/v1/logs"
    if protocol == "grpc":
        traces = logs = f"http://127.0.0.1:{recorder.grpc_port}"
    done = subprocess.run([*command, protocol, compression, traces, logs], capture_output=True, text=True, timeout=timeout,
                          env={k: v for k, v in os.environ.items() if not k.startswith("OTEL_")})
    requests = recorder.take()
    refused, recorder.refused = recorder.refused, []
    check(done.returncode == 0 and not refused and requests,
          f"{name}: {len(requests)} requests, the SDK ends with {done.returncode} {(done.stderr or done.stdout).strip()[-300:]} {refused[:1]}")
    return [item for kind, request in requests for item in items(kind, request)]


def javascript(options):
    """The command that runs the application in JavaScript, with its packages installed; `None` without node or npm."""
    if not shutil.which("node") or not shutil.which("npm"):
        note("SKIPPED: JavaScript's SDK needs node and npm (https://nodejs.org)")
        return None
    folder = options.target / "test-js" / "sdk"
    wanted, there = HERE / "js" / "package.json", folder / "package.json"
    if not (folder / "installed.json").is_file() or (folder / "installed.json").read_bytes() != wanted.read_bytes():
        note(f"installing tests/sdk/js/package.json into {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(wanted, there)
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(install, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            note(f"SKIPPED: npm could not install JavaScript's SDK: {done.stderr.strip()[-300:]}")
            return None
        shutil.copyfile(wanted, folder / "installed.json")
    return ["node", str(HERE / "js" / "app.cjs"), str(folder)]


# Ids in either case, 64-bit integers as numbers and as text, null for what is unset, unknown fields, an empty array without
# `values`, doubles as text, both alphabets of base64, integers that are none.
LOOSE = {
    "resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "hand"}}], "unknownField": {"a": [1]}},
        "scopeSpans": [{
            "scope": None,
            "spans": [{
                "traceId": "ABCDEF00000000000000000000000001", "spanId": "ABCDEF0000000001", "parentSpanId": None, "name": "loose",
                "kind": 3, "startTimeUnixNano": 1795357110144889283, "endTimeUnixNano": "1795357110144929362", "status": None,
                "events": None, "links": [], "flags": 257, "unknown": "x",
                "attributes": [
                    {"key": "int.text", "value": {"intValue": "-9223372036854775808"}}, {"key": "int.number", "value": {"intValue": 42}},
                    {"key": "int.of.javascript", "value": {"intValue": 1e300}},
                    {"key": "nan", "value": {"doubleValue": "NaN"}}, {"key": "infinite", "value": {"doubleValue": "-Infinity"}},
                    {"key": "double.text", "value": {"doubleValue": "1.5"}}, {"key": "double.whole", "value": {"doubleValue": 2}},
                    {"key": "empty.array", "value": {"arrayValue": {}}}, {"key": "empty.map", "value": {"kvlistValue": {}}},
                    {"key": "null.array", "value": {"arrayValue": {"values": None}}}, {"key": "unset", "value": None},
                    {"key": "bytes", "value": {"bytesValue": "+/8="}}, {"key": "bytes.url", "value": {"bytesValue": "-_8"}},
                ],
            }],
        }],
    }],
}


def strict():
    """The same request in the forms that protobuf's own JSON reader takes."""
    document = json.loads(json.dumps(LOOSE))
    group = document["resourceSpans"][0]
    span = group["scopeSpans"][0]["spans"][0]
    group["resource"].pop("unknownField")
    for name in ("unknown", "parentSpanId", "events", "status"):
        span.pop(name)
    group["scopeSpans"][0].pop("scope")
    for attribute in span["attributes"]:
        attribute["value"] = {"null.array": {"arrayValue": {}}, "unset": {}, "bytes.url": {"bytesValue": "+/8="},
                              "double.text": {"doubleValue": 1.5}, "int.of.javascript": {"doubleValue": 1e300}}.get(attribute["key"], attribute["value"])
    return otlp_server.from_json(json.dumps(document), otlp_server.SIGNALS["traces"][0]())


def post(server, kind, content_type, body):
    return server.ask("POST", f"/v1/{kind}", body, {"Content-Type": content_type}, name="otlp/http")


def handmade(check, server):
    """Requests that no SDK at hand sends; returns what they held."""
    sent = []
    status, headers, body = post(server, "traces", "application/json", json.dumps(LOOSE).encode())
    check(status == 200 and headers["content-type"].startswith("application/json") and json.loads(body) in ({}, {"partialSuccess": {}}),
          f"JSON in the loose forms: {status} {body[:200]!r}")
    sent += items("traces", strict())
    golden = BESIDE / "golden"
    recorded = golden / "golden_python_http.pb"
    if recorded.is_file():
        body = recorded.read_bytes()
        status, _, answer = post(server, "traces", "application/x-protobuf", body)
        check(status == 200, f"{recorded.name}: {status} {answer[:200]!r}")
        sent += items("traces", read("traces", "application/x-protobuf", body))
    else:
        note(f"skipped: no {recorded.name} in {golden}")
    recorded = golden / "otlp_json_python.txt"
    if recorded.is_file():
        lines = recorded.read_text(encoding="utf-8").splitlines()
        count = 0
        for head, body in zip(lines, lines[1:]):
            if not head.startswith("/v1/") or not body.startswith("{"):
                continue
            kind = head.split()[0].rsplit("/", 1)[-1]
            status, _, answer = post(server, kind, "application/json", body.encode())
            count += check(status == 200, f"{recorded.name}: {kind} {status} {answer[:200]!r}")
            if kind in GROUPS:
                sent += items(kind, read(kind, "application/json", body))
        check(count > 0, f"{recorded.name}: {count} requests accepted")
    else:
        note(f"skipped: no {recorded.name} in {golden}")
    return sent


def scored(check, spanscore, name, sent):
    """The evaluation results of the application are scores of their spans."""
    by_name = {item[5].name.split(" ")[0]: item[5] for item in sent if item[0] == "traces"}
    logs = any(item[0] == "logs" for item in sent)
    if "root" not in by_name:
        return
    document = spanscore.json("trace", by_name["root"].trace_id.hex())
    scores = {span["span_id"]: span["scores"] for span in document["spans"]}
    root = scores.get(by_name["root"].span_id.hex(), {}).get("faithfulness", {})
    check((root.get("value"), root.get("label")) == (0.25, "low"), f"{name}: the span event is the score faithfulness {root}")
    if logs:
        chat = scores.get(by_name["chat"].span_id.hex(), {}).get("relevance", {})
        check((chat.get("value"), chat.get("label")) == (1.0, "pass"), f"{name}: the log record is the score relevance {chat}")


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--target", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR") or common.ROOT / "target"),
                        help="where npm installs to; default: the target folder")
    options = parser.parse_args()
    options.target = options.target.resolve()
    check, path = Checks(), common.binary(options)
    with common.workspace(options) as folder:
        spanscore = Spanscore(path, folder)
        everything = []
        with Server(spanscore) as server:
            recorder = Recorder(server)
            applications = [(f"python {p} {c}", [sys.executable, "-W", "ignore", str(HERE / "python_app.py")], p, c) for p, c in PYTHON]
            if command := javascript(options):
                applications += [(f"javascript {p} {c}", command, p, c) for p, c in JAVASCRIPT]
            batches = []
            for name, command, protocol, compression in applications:
                batches.append((name, send_with_sdk(check, name, command, recorder, protocol, compression)))
            batches.append(("requests made by hand", handmade(check, server)))
            recorder.stop()
            # The same once more is the same store.
            again = [item for _, batch in batches for item in batch if item[0] == "traces"]
            for item in again:
                request = otlp_server.SIGNALS["traces"][0]()
                group = request.resource_spans.add(resource=item[1], schema_url=item[2])
                group.scope_spans.add(scope=item[3], schema_url=item[4]).spans.add().CopyFrom(item[5])
                status, _, answer = post(server, "traces", "application/x-protobuf", request.SerializeToString())
                if status != 200:
                    check(False, f"sent once more: {status} {answer[:200]!r}")
            # While the server runs, as a user would.
            back = exported(spanscore, folder)
            for name, sent in batches:
                if name != "requests made by hand":
                    scored(check, spanscore, name, sent)
                equal(check, name, sent, back)
                everything += sent
            # Log records that are equal in everything, times included, are one; spans were all sent twice.
            distinct = len(set(map(key, everything)))
            check(len(back) == distinct, f"{len(everything)} items sent, {distinct} of them distinct, {len(back)} given back")
    check.exit()


if __name__ == "__main__":
    main()

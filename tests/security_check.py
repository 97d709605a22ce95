#!/usr/bin/env python3
"""What attacks `spanscore serve` from outside: other sites in the user's browser, hostile requests, hostile text.

- Host, Origin and Sec-Fetch-Site of other sites are refused on every port, gRPC by its `:authority`; no CORS header anywhere;
  nothing changes without our header; the security headers are on every answer of the pages;
- an address that other machines reach is refused without --token; with a token every port wants it;
- undecodable, too deep, too large, oddly named: refused or kept, at once, and the server lives on; gzip of 1000:1 is answered
  413 in under 100 ms and costs no memory;
- what commands print of such text holds no control bytes; the store is readable by its owner alone.

The gRPC part needs tests/requirements.txt and is skipped without.
"""

import gzip
import json
import os
import re
import socket
import stat
import struct
import sys
import threading
import time
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "acceptance"), str(HERE / "browser")]
sys.dont_write_bytecode = True

import common  # noqa: E402
import telemetry as t  # noqa: E402
from common import Checks, Server, Spanscore, note  # noqa: E402

try:
    import grpc
except ImportError:
    grpc = None

POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
          "frame-ancestors 'none'; base-uri 'none'")
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PROTOBUF = "application/x-protobuf"
# Milliseconds after which something hangs. How fast a bomb is refused is measured by tests/acceptance/ingest.py.
PATIENCE = 10_000
# Megabytes. Under load 150 are promised, and measured there as well; all attacks after each other must stay near that.
BOUND = 200


def raw(address, request, timeout=10):
    """Sends bytes and reads the answer to its end. Returns (status, headers with lowercase names, body)."""
    with socket.create_connection(address, timeout=timeout) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except (TimeoutError, ConnectionResetError):
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split()[1]) if len(lines[0].split()) > 1 else 0
    return status, {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}, body


def get(address, path, *headers, method="GET", host=None, body=b""):
    host = f"127.0.0.1:{address[1]}" if host is None else host
    lines = [f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host != "" else []), *headers, "Connection: close"]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return raw(address, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


def refused(status):
    return 400 <= status < 500 and status not in (404, 405, 415)


# --- who asks -----------------------------------------------------------------------------------------------------------


def other_sites(check, server, name):
    """Host, Origin and Sec-Fetch-Site on a port that speaks HTTP/1.1."""
    address = server.address(name)
    port = address[1]
    path, method, more, body = ("/traces", "GET", (), b"") if name == "ui" else (
        "/v1/traces", "POST", ("Content-Type: application/json",), b'{"resourceSpans":[]}')
    ask = lambda *headers, host=None: get(address, path, *more, *headers, method=method, host=host, body=body)
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LocalHost:{port}", f"[::1]:{port}"):
        status, _, answer = ask(host=host)
        check(status == 200, f"{name}: Host {host} is ours: {status}")
    wrong = []
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", f"localhost.evil.example:{port}",
                 f"evil.example@127.0.0.1:{port}", f"127.0.0.1:{port}@evil.example", f"127.0.0.1:{port}.evil.example", "127.0.0.1:1",
                 f"169.254.169.254:{port}", f"[::ffff:169.254.169.254]:{port}", f"localhost\t:{port}", f"localhost,evil:{port}", "%6cocalhost",
                 f"evil.example#:{port}", f"\xe9:{port}", " "):
        status, _, answer = ask(host=host)
        if not refused(status):
            wrong.append(f"{host!r}: {status}")
    for lines, what in ((("Host: evil.example",), "two Hosts"), ((), "no Host")):
        status, _, _ = ask(*lines, host=None if lines else "")
        if not refused(status):
            wrong.append(f"{what}: {status}")
    status, _, _ = raw(address, f"{method} http://evil.example{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    if not refused(status):
        wrong.append(f"absolute form: {status}")
    status, _, _ = raw(address, f"{method} {path} HTTP/1.0\r\n\r\n".encode())
    if not refused(status):
        wrong.append(f"HTTP/1.0 without Host: {status}")
    check(not wrong, f"{name}: requests for another Host are refused {wrong}")

    wrong = []
    for origin in ("http://evil.example", f"http://evil.example:{port}", "null", f"http://127.0.0.1:{port + 1}", "http://localhost",
                   f"http://localhost.evil.example:{port}", f"http://127.0.0.1:{port}.evil.example", "file://", "chrome-extension://abc",
                   f"http://127.0.0.1:{port}@evil.example", ""):
        status, headers, _ = ask(f"Origin: {origin}")
        if not refused(status) or any(h.startswith("access-control") for h in headers):
            wrong.append(f"{origin!r}: {status}")
    for site in ("cross-site", "same-site", "nonsense"):
        for mode in ("no-cors", "cors", "navigate", "websocket"):
            status, headers, _ = ask(f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}")
            if not refused(status):
                wrong.append(f"Sec-Fetch-Site {site} {mode}: {status}")
    check(not wrong, f"{name}: requests of other sites' pages are refused {wrong}")
    for header in (f"Origin: http://127.0.0.1:{port}", f"Origin: http://localhost:{port}", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none"):
        status, headers, _ = ask(header)
        check(status == 200 and not any(h.startswith("access-control") for h in headers), f"{name}: {header} is ours: {status}")
    status, headers, _ = get(address, path, "Origin: http://evil.example", "Access-Control-Request-Method: POST",
                             "Access-Control-Request-Headers: content-type, x-spanscore", method="OPTIONS")
    check(status >= 400 and not any(h.startswith("access-control") for h in headers), f"{name}: a preflight is not answered: {status}")
    # What a form of another site can send without a preflight.
    if name != "ui":
        status, _, _ = get(address, path, "Content-Type: text/plain", method="POST", body=body)
        check(status == 415, f"{name}: JSON as text/plain, which forms can send: {status}")


def other_sites_grpc(check, server):
    address = server.address("otlp/grpc")
    target = f"127.0.0.1:{address[1]}"

    def call(authority, *metadata):
        options = [("grpc.default_authority", authority)] if authority else []
        with grpc.insecure_channel(target, options=options) as channel:
            try:
                channel.unary_unary(EXPORT)(b"", timeout=10, metadata=metadata)
                return "OK"
            except grpc.RpcError as error:
                return error.code().name

    for authority in ("", target, f"localhost:{address[1]}"):
        check(call(authority) == "OK", f"otlp/grpc: authority {authority or 'as connected'} is ours: {call(authority)}")
    wrong = [f"{authority}: {code}" for authority in ("evil.example", f"evil.example:{address[1]}", "127.0.0.1:1", f"localhost.evil:{address[1]}")
             if (code := call(authority)) != "PERMISSION_DENIED"]
    wrong += [f"{m}: {code}" for m in (("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")) if (code := call("", m)) != "PERMISSION_DENIED"]
    check(not wrong, f"otlp/grpc: other authorities and origins are refused {wrong}")
    # A browser speaks HTTP/1.1 to it.
    status, _, answer = get(address, EXPORT, method="POST")
    check(status == 0 or status >= 400, f"otlp/grpc: HTTP/1.1 is not spoken: {status} {answer[:40]!r}")


def changes(check, server):
    """State changes of the pages want POST and our header."""
    address = server.address("ui")
    before = json.loads(server.ask("GET", "/traces?format=json")[2])
    wrong, paths = [], set()
    for page in ("/", "/runs", "/traces", "/setup", "/health"):
        body = server.ask("GET", page)[2].decode("utf-8", "replace")
        paths |= set(re.findall(r'(?:action|formaction|data-post|data-action)="([^"]+)"', body))
    # Whatever forms and buttons name, and what one would guess.
    for path in sorted(paths | {"/setup", "/setup/test", "/setup/test-span", "/test-span", "/traces", "/runs/latest", "/health", "/live"}):
        for headers in ((), ("Content-Type: application/x-www-form-urlencoded",), ("X-Spanscore: ",), ("X-Spanscore: 0",)):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                status, _, _ = get(address, path, *headers, method=method)
                if status < 400:
                    wrong.append(f"{method} {path} {headers}: {status}")
    after = json.loads(server.ask("GET", "/traces?format=json")[2])
    check(not wrong and before == after, f"ui: nothing changes without our header ({sorted(paths)}) {wrong[:3]}")


def headers_everywhere(check, server, known):
    wrong, asked = [], 0
    script = re.findall(r'(?:src|href)="(/assets/[^"]+)"', server.ask("GET", "/")[2].decode())
    for path in ["/", "/runs", "/traces", "/traces?q=score.x", "/setup", "/health", "/no", "/traces/ffff", "/runs/none", "/traces?format=json",
                 "/assets/none", "/assets/../../../etc/passwd", "/assets/%2e%2e/%2e%2e/etc/passwd", "/%00", "/traces/%0d%0aX-Injected:%20y",
                 "/traces/%ff", "/cases/%2e%2e/%2e%2e", "//evil.example/", "/live/none", *known, *script]:
        status, headers, body = server.ask("GET", path)
        asked += 1
        said = [headers.get("content-security-policy") == POLICY, headers.get("x-content-type-options") == "nosniff",
                headers.get("referrer-policy") in ("no-referrer", "same-origin"), headers.get("cross-origin-resource-policy") == "same-origin",
                "x-injected" not in headers, b"root:" not in body, status < 500, "location" not in headers]
        if not all(said):
            wrong.append(f"{path}: {status} {said}")
    check(not wrong, f"ui: the security headers are on {asked} answers {wrong[:5]}")
    status, headers, _ = get(server.address("ui"), "/", host="evil.example")
    check(headers.get("content-security-policy") == POLICY, f"ui: and on a refusal ({status})")


def addresses(check, spanscore, folder):
    for flag in ("--listen", "--otlp-http", "--otlp-grpc"):
        for address in ("0.0.0.0:0", "[::]:0"):
            others = [word for f in ("--listen", "--otlp-http", "--otlp-grpc") if f != flag for word in (f, "127.0.0.1:0")]
            code, out, err = spanscore.call("serve", flag, address, *others, timeout=20)
            check(code == 2 and not out and "--token" in err, f"{flag} {address} without --token ends with {code}: {err.strip()[:160]}")
    short = folder / "short"
    short.write_text("abc\n")
    code, _, err = spanscore.call("serve", "--token", short, timeout=20)
    check(code == 2 and str(short) in err and "abc" not in err.replace(str(short), ""), f"a short token ends with {code}: {err.strip()[:160]}")
    first = spanscore.start("serve", "--no-otlp", "--listen", "127.0.0.1:0")
    try:
        port = first.stdout.readline().strip().rsplit(":", 1)[1]
        code, _, err = spanscore.call("serve", "--no-otlp", "--listen", f"127.0.0.1:{port}", timeout=20)
        check(code in (2, 4) and port in err and "--listen" in err, f"a port in use ends with {code}: {err.strip()[:200]}")
    finally:
        common.stop(first)


def token(check, spanscore, folder):
    secret = "0123456789abcdef-secret"
    path = folder / "token"
    path.write_text(secret + "\n")
    with Server(spanscore, "--token", path) as server:
        for name, request in (("ui", ("GET", "/traces", None, {})),
                              ("otlp/http", ("POST", "/v1/traces", b"{}", {"Content-Type": "application/json"}))):
            method, where, body, headers = request
            ask = lambda **more: server.ask(method, where, body, {**headers, **more}, name=name)[0]
            codes = [ask(), ask(Authorization="Bearer wrong"), ask(Authorization=f"Basic {secret}"), ask(Authorization=f"Bearer {secret}x"),
                     ask(Cookie=f"spanscore_token={secret}")]
            check(codes == [401] * len(codes) and ask(Authorization=f"Bearer {secret}") == 200, f"{name}: the token is wanted {codes}")
        status, headers, _ = server.ask("GET", f"/traces?token={secret}&q=error")
        cookie = headers.get("set-cookie", "")
        check(status == 303 and headers.get("location") == "/traces?q=error" and "HttpOnly" in cookie and "SameSite=Strict" in cookie and secret not in cookie,
              f"ui: ?token= becomes a cookie: {status} {headers.get('location')} {cookie[:30]}…")
        check(server.ask("GET", "/traces", None, {"Cookie": cookie.split(";")[0]})[0] == 200, "ui: the cookie opens the pages")
        port = server.address("ui")[1]
        status = get(server.address("ui"), "/traces", f"Authorization: Bearer {secret}", "Sec-Fetch-Site: cross-site")[0]
        check(refused(status), f"ui: a token does not excuse another site: {status} (port {port})")
        if grpc:
            with grpc.insecure_channel("%s:%d" % server.address("otlp/grpc")) as channel:
                def call(*metadata):
                    try:
                        channel.unary_unary(EXPORT)(b"", timeout=10, metadata=metadata)
                        return "OK"
                    except grpc.RpcError as error:
                        return error.code().name
                codes = [call(), call(("authorization", "Bearer wrong")), call(("authorization", f"Bearer {secret}"))]
                check(codes == ["UNAUTHENTICATED", "UNAUTHENTICATED", "OK"], f"otlp/grpc: the token is wanted {codes}")


# --- what they send -----------------------------------------------------------------------------------------------------


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def request_around(any_value):
    """A trace request with one span and one attribute of that encoded value."""
    attribute = field(9, field(1, b"k") + field(2, any_value))
    span = field(1, bytes(range(1, 17))) + field(2, bytes(range(1, 9))) + field(5, b"deep") + attribute
    return field(1, field(2, field(2, span)))


def deep_protobuf(depth):
    value = field(1, b"x")
    for _ in range(depth):
        value = field(5, field(1, value))
    return request_around(value)


def deep_json(depth):
    value = '{"arrayValue":{"values":[' * depth + "{}" + "]}}" * depth
    return ('{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"' + "1" * 32 + '","spanId":"' + "1" * 16
            + '","attributes":[{"key":"k","value":' + value + "}]}]}]}]}").encode()


def timed(server, body, content_type, path="/v1/traces", **headers):
    begun = time.monotonic()
    status, answered, answer = server.ask("POST", path, body, {"Content-Type": content_type, **{k.replace("_", "-"): v for k, v in headers.items()}}, name="otlp/http")
    return status, (time.monotonic() - begun) * 1000, answered, answer


def odd_requests(check, server):
    """Undecodable and odd requests, and the answers that standards ask for."""
    for what, body, content_type, path, expected in [
        ("an empty request", b"", PROTOBUF, "/v1/traces", (200,)), ("an empty request", b"{}", "application/json", "/v1/traces", (200,)),
        ("logs", b"", PROTOBUF, "/v1/logs", (200,)), ("metrics", b"", PROTOBUF, "/v1/metrics", (200,)),
        ("a media type with parameters", b"{}", "application/json; charset=utf-8", "/v1/traces", (200,)),
        ("no JSON", b"{", "application/json", "/v1/traces", (400,)), ("no protobuf", b"\xff\xff\xff", PROTOBUF, "/v1/traces", (400,)),
        ("a list", b"[]", "application/json", "/v1/traces", (400,)), ("text", b"x", "text/plain", "/v1/traces", (415,)),
        ("a form", b"x=y", "application/x-www-form-urlencoded", "/v1/traces", (415,)), ("another path", b"", PROTOBUF, "/v1/profiles", (404,)),
        ("invalid UTF-8", field(1, field(2, field(2, field(1, bytes(16)) + field(5, b"\xff\xfe")))), PROTOBUF, "/v1/traces", (400,)),
        ("values 100 000 deep", deep_json(100_000), "application/json", "/v1/traces", (400,)),
        ("values 100 000 deep", deep_protobuf(100_000), PROTOBUF, "/v1/traces", (400,)),
        ("logs 100 000 deep", deep_json(100_000).replace(b"resourceSpans", b"resourceLogs"), "application/json", "/v1/logs", (200, 400)),
        ("brackets 1 000 000 deep", b"[" * 1_000_000, "application/json", "/v1/traces", (400,)),
        ("unknown fields 100 000 deep", b'{"x":' * 100_000 + b"1" + b"}" * 100_000, "application/json", "/v1/traces", (200, 400)),
    ]:
        status, took, headers, answer = timed(server, body, content_type, path)
        kind = content_type.split(";")[0]
        spoken = headers.get("content-type", "").startswith(kind) if status in (200, 400) else True
        if status == 400 and spoken and kind == "application/json":
            spoken = isinstance(json.loads(answer).get("message"), str)
        check(status in expected and spoken and took < PATIENCE, f"{what} ({kind}, {len(body)} bytes): {status} {headers.get('content-type')} in {took:.0f} ms {answer[:80]!r}")
    status, _, headers, _ = (*server.ask("GET", "/v1/traces", name="otlp/http")[:1], None, *server.ask("GET", "/v1/traces", name="otlp/http")[1:])
    check(status == 405 and "POST" in headers.get("allow", ""), f"GET of /v1/traces: {status}, Allow {headers.get('allow')}")
    for encoding, expected in (("br", (415, 400)), ("gzip, gzip", (415, 400)), ("gzip", (400,)), ("identity", (200,))):
        status, _, _, _ = timed(server, b"{}", "application/json", Content_Encoding=encoding)
        check(status in expected, f"Content-Encoding {encoding} of plain text: {status}")
    status, _, _, _ = timed(server, gzip.compress(b'{"resourceSpans":[]}') + b"trailing", "application/json", Content_Encoding="gzip")
    check(status in (200, 400, 413), f"gzip with bytes behind it: {status}")

    bad = t.span(77, 78, name="kept")
    status, _, _, answer = timed(server, json.dumps(t.traces([bad, {**bad, "traceId": "0" * 32}, {**bad, "spanId": "0" * 16, "name": "lost"}])).encode(), "application/json")
    partial = json.loads(answer).get("partialSuccess", {})
    check(status == 200 and int(partial.get("rejectedSpans", 0)) == 2 and partial.get("errorMessage"), f"spans without ids are rejected and counted: {status} {partial}")


def odd_names(check, server):
    """Names that trip programs: they are kept, shown, and nothing slows down."""
    names = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "", ".", "..", "." * 10_000, "a." * 10_000, "[" * 500, "k" * (1 << 20),
             "\x00", "\ufffe", "\u202e", "💥" * 1000, "'; DROP TABLE span; --", "%s%n", "../../etc/passwd", "$(id)", "\n\r\n"]
    attrs = {name: i for i, name in enumerate(names)}
    begun = time.monotonic()
    nested = {"__proto__": {"__proto__": {"polluted": True}}, "constructor": {"prototype": {"polluted": True}}}
    t.send(server, t.traces([t.span(99, 1, name="odd names", attrs={**attrs, "nested": nested}, events=[t.event(name[:2000], {name[:2000]: 1}) for name in names]),
                             t.span(99, 2, 1, name="k" * (1 << 20))], service="s" * 100_000))
    took = time.monotonic() - begun
    check(took < 2, f"odd and huge names taken in {took * 1000:.0f} ms")
    for path in (f"/traces/{t.trace_id(99)}", f"/traces/{t.trace_id(99)}?span={t.span_id(1)}", f"/traces/{t.trace_id(99)}?format=json", "/traces", "/traces?format=json",
                 f"/traces/{t.trace_id(99)}?span={t.span_id(2)}"):
        begun = time.monotonic()
        status, _, body = server.ask("GET", path)
        took = (time.monotonic() - begun) * 1000
        check(status == 200 and took < PATIENCE, f"{path}: {status}, {len(body)} bytes in {took:.0f} ms")
        if status == 200 and path.endswith("format=json") and "00" in path:
            document = json.loads(body)
            found = next(span for span in document["spans"] if span["name"] == "odd names")["attributes"]
            missing = [name[:20] for name in names if found.get(name) != attrs[name]]
            check(not missing and found["nested"] == nested, f"all {len(names)} names are in the document {missing}")
        if path == "/traces":
            check(len(body) < 1_000_000, f"a list with a name of 1 MiB has {len(body)} bytes")
    for query in ["(" * 100_000, "not " * 100_000, 'text ~ "' + "x" * 60_000 + '"', "error or " * 10_000 + "error", "attr." + "a." * 10_000 + " = 1"]:
        begun = time.monotonic()
        # Long addresses are refused by the server; short ones of the same kind are read.
        for cut in (len(query), 20_000, 4_000):
            status, _, _ = get(server.address("ui"), "/traces?q=" + query[:cut].replace(" ", "+").replace('"', "%22"))
            if status in (400, 414, 431, 200):
                break
        took = (time.monotonic() - begun) * 1000
        check(status in (400, 414, 431, 200) and took < PATIENCE, f"the query {query[:12]}… of {len(query)} characters: {status} in {took:.0f} ms")


def bombs(check, server):
    """gzip that is small here and large there; bodies that are too long."""
    limit = 20 << 20
    zeros = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(zeros.compress(bytes(1 << 20)) for _ in range(64)) + zeros.flush()
    spaces = gzip.compress(b"{" + b" " * (64 << 20), 9)
    # The end of a gzip file tells its length; here it tells that of a small member behind the large one.
    hidden = bomb + gzip.compress(b"x")
    note(f"bombs of {len(bomb)} and {len(spaces)} bytes hold 64 MiB: {(64 << 20) // len(bomb)}:1")
    # One of each to warm up, so that what stays is the allocator's and is not counted.
    kinds = ((bomb, PROTOBUF), (hidden, PROTOBUF), (spaces, "application/json"), (spaces + gzip.compress(b"}"), "application/json"))
    for body, kind in kinds:
        timed(server, body, kind, Content_Encoding="gzip")
    before, slow, wrong = server.memory("VmHWM"), 0, []
    for _ in range(10):
        for body, kind in kinds:
            status, took, headers, _ = timed(server, body, kind, Content_Encoding="gzip")
            slow = max(slow, took)
            if status != 413 or took >= PATIENCE:
                wrong.append(f"{kind}: {status} in {took:.0f} ms")
    grown = server.memory("VmHWM") - before
    check(not wrong, f"40 bombs: 413 each, the slowest in {slow:.0f} ms {wrong[:3]}")
    check(grown < 8, f"40 bombs raise the peak of memory by {grown:.1f} MB to {server.memory('VmHWM'):.1f} MB")
    threads, codes = [], []
    for _ in range(16):
        threads.append(threading.Thread(target=lambda: codes.extend(timed(server, hidden, PROTOBUF, Content_Encoding="gzip")[0] for _ in range(4))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    grown = server.memory("VmHWM") - before
    check(set(codes) <= {413, 503} and len(codes) == 64 and server.memory("VmHWM") < BOUND, f"64 bombs, 16 at once: {sorted(set(codes))}, memory +{grown:.1f} MB to {server.memory('VmHWM'):.1f} MB")

    address = server.address("otlp/http")
    head = f"POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1:{address[1]}\r\nContent-Type: {PROTOBUF}\r\n"
    begun = time.monotonic()
    status, _, _ = raw(address, f"{head}Content-Length: 10000000000\r\n\r\n".encode(), timeout=5)
    took = (time.monotonic() - begun) * 1000
    check(status == 413 and took < 2000, f"10 GB announced: {status} in {took:.0f} ms")
    status, _, _, _ = timed(server, bytes(limit + 1), PROTOBUF)
    check(status == 413, f"a body of 20 MiB and a byte: {status}")
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        sent, chunk, answer = 0, b"100000\r\n" + bytes(1 << 20) + b"\r\n", b""
        try:
            while sent < 200 << 20:
                connection.sendall(chunk)
                sent += 1 << 20
        except (ConnectionError, TimeoutError):
            pass
        try:
            answer = connection.recv(1000)
        except (ConnectionError, TimeoutError):
            pass
    # What a client is still sending is read for a while, so that it gets to read the answer.
    check(sent < 128 << 20, f"a body without end is cut off after {sent >> 20} MiB {answer[:20]!r}")
    if grpc:
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel("%s:%d" % server.address("otlp/grpc"), options=options) as channel:
            for what, body, compression in (("64 MiB in gzip", bytes(64 << 20), grpc.Compression.Gzip), ("21 MiB", bytes(21 << 20), None)):
                try:
                    channel.unary_unary(EXPORT)(body, timeout=30, compression=compression)
                    code = "OK"
                except grpc.RpcError as error:
                    code = error.code().name
                check(code in ("RESOURCE_EXHAUSTED", "OUT_OF_RANGE"), f"otlp/grpc: {what}: {code}")
            try:
                channel.unary_unary(EXPORT)(deep_protobuf(100_000), timeout=30)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
            check(code in ("INVALID_ARGUMENT", "INTERNAL"), f"otlp/grpc: values 100 000 deep: {code}")
            try:
                channel.unary_unary(EXPORT)(b"\xff\xff\xff", timeout=30)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
            check(code in ("INVALID_ARGUMENT", "INTERNAL"), f"otlp/grpc: no protobuf: {code}")
    # The most that is let in at once.
    before = server.memory("VmHWM")
    full = json.dumps(t.traces([t.span(500 + i, 1, name="full", attrs={"text": "x" * 100_000}) for i in range(190)])).encode()
    threads, codes = [], []
    for _ in range(8):
        threads.append(threading.Thread(target=lambda: codes.append(timed(server, full, "application/json")[0])))
        threads[-1].start()
    for thread in threads:
        thread.join()
    check(200 in codes and set(codes) <= {200, 503} and server.memory("VmHWM") < BOUND, f"8 requests of {len(full) >> 20} MiB at once: {sorted(codes)}, peak {server.memory('VmHWM'):.0f} MB (was {before:.0f})")


def idle(check, server):
    """Connections that say nothing, or little at a time, keep nobody out."""
    held = []
    try:
        for name in ("ui", "otlp/http", "otlp/grpc"):
            for i in range(100):
                connection = socket.create_connection(server.address(name), timeout=5)
                if i % 2:
                    connection.sendall(b"POST /v1/traces HT")
                held.append(connection)
        begun = time.monotonic()
        codes = [server.ask("GET", "/traces")[0], server.ask("POST", "/v1/traces", b"{}", {"Content-Type": "application/json"}, name="otlp/http")[0]]
        check(codes == [200, 200] and time.monotonic() - begun < 2, f"with 300 idle connections the others are answered {codes} in {(time.monotonic() - begun) * 1000:.0f} ms")
    finally:
        for connection in held:
            connection.close()


# --- what is shown ------------------------------------------------------------------------------------------------------

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
SGR = re.compile("\x1b\\[[0-9;]*m")
EVIL = "\x1b[31mred\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\u2028 \x08\x7f\r\nforged ✓"


def terminal(check, spanscore, server, folder):
    """Text with escape sequences, bells, carriage returns and bidirectional overrides, in every field, through every command."""
    n = 4242
    t.send(server, t.traces([
        t.span(n, 1, None, EVIL, attrs={EVIL: EVIL, "nested": {EVIL: [EVIL]}, "gen_ai.evaluation.name": EVIL, "gen_ai.evaluation.score.value": 0.1,
               "gen_ai.evaluation.explanation": EVIL, "gen_ai.input.messages": json.dumps([{"role": EVIL, "parts": [{"type": "text", "content": EVIL}]}])},
               status=2, message=EVIL, events=[t.event(EVIL, {EVIL: EVIL}), t.evaluation(EVIL, 0.5, EVIL, EVIL)], links=[
                   {"traceId": t.trace_id(1), "spanId": t.span_id(1), "attributes": t.attributes({EVIL: EVIL})}]),
        t.span(n, 2, 1, EVIL, kind=3)], service=EVIL, scope=EVIL, resource={EVIL: EVIL}))
    t.send(server, t.logs([t.log(EVIL, n, 1, EVIL, {EVIL: EVIL}), t.log({EVIL: EVIL}, n, 2)], service=EVIL))
    case = "case " + "".join(c for c in EVIL if c.isprintable())
    rows = [{"id": f"{case} {i}", "claim": EVIL, "context": EVIL, "label": "True", "group": case, EVIL: EVIL} for i in range(3)]
    write = lambda name, lines: (folder / name).write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    write("evil.jsonl", rows)
    write("evil-answers.jsonl", [{"id": row["id"], "raw": EVIL, "model": "m"} for row in rows])
    (folder / "evil.toml").write_text(f"""[suite]
name = {json.dumps(EVIL)}
dataset = "evil.jsonl"
evaluators = ["label_match", "valid_label"]
primary = "label_match"
[model]
provider = "replay"
name = "m"
[workflow]
kind = "assess_claims_with_context"
[trace]
capture_content = true
""", encoding="utf-8")
    outputs = {}
    code, out, err = spanscore.call("run", folder / "evil.toml", "--replay", folder / "evil-answers.jsonl", "--no-progress")
    outputs["run"] = (code, out + err)
    if code == 2:
        # A suite's name may be refused; the rest is what matters.
        (folder / "evil.toml").write_text((folder / "evil.toml").read_text(encoding="utf-8").replace(json.dumps(EVIL), '"evil"', 1), encoding="utf-8")
        code, out, err = spanscore.call("run", folder / "evil.toml", "--replay", folder / "evil-answers.jsonl", "--no-progress")
        outputs["run again"] = (code, out + err)
    trace = t.trace_id(n)
    commands = [("runs",), ("show", "latest"), ("cases", "latest"), ("cases", "latest", "--where", f"claim ~ '{EVIL[:9]}'"), ("case", rows[0]["id"]), ("traces",),
                ("trace", trace), ("trace", trace, "--raw"), ("trace", trace, "--span", t.span_id(1)), ("trace", trace, "--diff", t.trace_id(99)), ("verify", "latest"),
                ("traces", "--where", EVIL), ("trace", EVIL.replace("\x00", "")), ("show", EVIL), ("case", EVIL), ("validate", folder / "evil.toml")]
    for command in commands:
        for color in ("never", "always"):
            code, out, err = spanscore.call(*command, "--color", color)
            shown = " ".join(map(str, command)).replace(EVIL, "EVIL").replace(str(folder), "").encode("ascii", "backslashreplace").decode()[:60]
            outputs[f"{shown} --color {color}"] = (code, SGR.sub("", out + err) if color == "always" else out + err)
    wrong = []
    for name, (code, text) in outputs.items():
        found = sorted({f"U+{ord(c):04X}" for c in CONTROL.findall(text)})
        # What the user typed may keep its lines.
        own_line = "\nforged" in text and "EVIL" not in name
        if found or own_line:
            wrong.append(f"{name}: {' '.join(found)}{' a line of its own' if own_line else ''}")
        elif not text.strip():
            wrong.append(f"{name}: nothing printed, exit {code}")
    shown = sum("forged" in text for _, text in outputs.values())
    check(not wrong and shown > 10, f"{len(outputs)} outputs of commands hold no control bytes ({shown} of them show the text) {wrong[:8]}")


def files(check, store):
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in Path(store).rglob("*") if path.is_file()}
    check(modes and all(mode == "0o600" for mode in modes.values()), f"the store's files are its owner's alone: {modes}")
    mode = stat.S_IMODE(Path(store).stat().st_mode)
    check(mode == 0o700, f"and so is its folder: {oct(mode)}")


def main():
    parser = common.arguments(__doc__)
    options = parser.parse_args()
    check, path = Checks(), common.binary(options)
    if grpc is None:
        note("skipped: gRPC, which needs tests/requirements.txt")
    os.umask(0o022)
    with common.workspace(options) as folder:
        spanscore = Spanscore(path, folder)
        with Server(spanscore) as server:
            for name in ("ui", "otlp/http"):
                other_sites(check, server, name)
            if grpc:
                other_sites_grpc(check, server)
            odd_requests(check, server)
            odd_names(check, server)
            changes(check, server)
            headers_everywhere(check, server, [f"/traces/{t.trace_id(99)}", f"/traces/{t.trace_id(99)}?span={t.span_id(1)}"])
            bombs(check, server)
            idle(check, server)
            terminal(check, spanscore, server, folder)
            files(check, spanscore.store)
            check(server.process.poll() is None, f"the server lives; {server.memory():.0f} MB resident, {server.memory('VmHWM'):.0f} MB at its peak")
        addresses(check, spanscore, folder)
        token(check, spanscore, folder)
    check.exit()


if __name__ == "__main__":
    main()

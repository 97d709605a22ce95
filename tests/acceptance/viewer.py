#!/usr/bin/env python3
"""The pages of a large store: how long they take, beside an empty page of the same server in the same minutes.

Fills a store with a million spans in traces of five and one trace of 100 000, through `spanscore serve`, and checks:

- `/traces`: 95 % of the first pages in under 20 ms, of those with a low-score filter too; a trace of five spans in under 5 ms;
- the trace of 100 000 spans: less than 300 KB of HTML, painted in Chromium in under 150 ms (with node and chromium);
- resident memory of the server under 150 MB all along.

Each is taken on a quiet store and, so that no cache hides the work, with a span arriving before every request.
"""

import http.client
import json
import shutil
import statistics
import subprocess
import sys
import time

import common
import telemetry as t
from common import Checks, Server, Spanscore, note

sys.path.insert(0, str(common.ROOT / "tests" / "browser"))

BIG = 7
LOW = 'q=score.quality+%3C+0.5'


def body(first, count, start):
    """A request of traces of five spans as JSON, by hand, for a million spans are many for Python."""
    spans = []
    for n in range(first, first + count):
        at = start + n * 1_000_000
        trace = f'"traceId":"{n + 1000:032x}"'
        for i in range(5):
            parent = f',"parentSpanId":"{1:016x}"' if i else ""
            event = ""
            if i == 1:
                value = 0.1 if n % 100 == 0 else 0.9
                event = (',"events":[{"timeUnixNano":"%d","name":"gen_ai.evaluation.result","attributes":[{"key":"gen_ai.evaluation.name","value":'
                         '{"stringValue":"quality"}},{"key":"gen_ai.evaluation.score.value","value":{"doubleValue":%s}}]}]' % (at, value))
            status = ',"status":{"code":2,"message":"no"}' if i == 4 and n % 50 == 0 else ""
            spans.append(
                f'{{{trace},"spanId":"{i + 1:016x}"{parent},"name":"step {i}","kind":1,"startTimeUnixNano":"{at + i * 1000}",'
                f'"endTimeUnixNano":"{at + 5_000_000 + n % 1000 * 1000 - i}","attributes":[{{"key":"gen_ai.request.model","value":{{"stringValue":"m{n % 7}"}}}},'
                f'{{"key":"n","value":{{"intValue":"{n}"}}}}]{event}{status}}}')
    return ('{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"app%d"}}]},"scopeSpans":[{"scope":{"name":"s"},"spans":[%s]}]}]}'
            % (first % 3, ",".join(spans))).encode()


def fill(server, spans):
    connection = http.client.HTTPConnection(*server.address("otlp/http"), timeout=120)
    start, traces, batch = t.now() - 10**15, spans // 5, 1000
    begun = time.monotonic()
    for first in range(0, traces, batch):
        while True:
            connection.request("POST", "/v1/traces", body(first, min(batch, traces - first), start), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            if response.status != 503:
                break
            time.sleep(float(response.headers.get("Retry-After", 1)))
        if response.status != 200:
            raise RuntimeError(f"filling the store: {response.status} {answer[:200]!r}")
    connection.close()
    return time.monotonic() - begun


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Asker:
    """Requests on one connection, as a browser makes them."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection(*server.address("ui"), timeout=60)

    def __call__(self, path):
        begun = time.perf_counter()
        self.connection.request("GET", path)
        response = self.connection.getresponse()
        content = response.read()
        return (time.perf_counter() - begun) * 1000, response.status, content


def measure(check, server, what, paths, limit, rounds, write):
    """Asks for the paths in turn with an empty page between, and holds 95 % of the times against the limit."""
    ask, times, empty, sizes = Asker(server), [], [], []
    for i in range(rounds + 5):
        if write:
            t.send(server, t.traces([t.span(10**9 + time.time_ns() % 10**9, 1, name="arriving")]))
        took, status, content = ask(paths[i % len(paths)])
        if status != 200:
            check(False, f"{what}: {paths[i % len(paths)]} answers {status}")
            return
        nothing, _, _ = ask("/no/such/page")
        # The first few fill what is kept between requests, as any user's first click does.
        if i >= 5:
            times.append(took)
            empty.append(nothing)
            sizes.append(len(content))
    p95 = percentile(times, 0.95)
    line = (f"{what}{', a span arriving before each' if write else ''}: p50 {statistics.median(times):.1f} ms, p95 {p95:.1f} ms (limit {limit} ms), "
            f"{max(sizes) / 1000:.0f} kB; an empty page: p50 {statistics.median(empty):.1f} ms, p95 {percentile(empty, 0.95):.1f} ms")
    if limit:
        check(p95 < limit, line)
    else:
        note(line)


def paint(check, server, trace, folder):
    """First paint in Chromium, of the large trace and of the empty page, each in fresh browser contexts."""
    import check as browser

    target = common.Path(common.os.environ.get("CARGO_TARGET_DIR") or common.ROOT / "target").resolve()
    if not shutil.which("node") or not shutil.which("npm"):
        note("SKIPPED: first paint needs node, npm and chromium")
        return
    config = {"ui": server.urls["ui"].rstrip("/"), "modules": str(browser.modules(target)), "chromium": browser.chromium(),
              "paths": {"large": f"/traces/{trace}", "empty": "/no/such/page"}, "rounds": 15}
    (folder / "paint.json").write_text(json.dumps(config))
    done = subprocess.run(["node", str(common.ROOT / "tests" / "browser" / "paint.cjs"), str(folder / "paint.json")], capture_output=True, text=True, timeout=300)
    if done.returncode:
        check(False, f"measuring the first paint: {done.stderr.strip()[-300:]}")
        return
    times = json.loads(done.stdout)
    middle = {name: {of: statistics.median(value[of] for value in values) for of in values[0]} for name, values in times.items()}
    slowest = max(value["paint"] for value in times["large"])
    check(middle["large"]["paint"] < 150, f"first paint of the trace of 100 000 spans: p50 {middle['large']['paint']:.0f} ms, slowest of {len(times['large'])}"
                                          f" {slowest:.0f} ms (limit 150 ms), its rows at {middle['large']['whole']:.0f} ms;"
                                          f" of an empty page: p50 {middle['empty']['paint']:.0f} ms")


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--big", type=int, default=100_000, help="spans of the large trace")
    parser.add_argument("--rounds", type=int, default=100, help="requests of each kind")
    options = parser.parse_args()
    check, path = Checks(), common.binary(options)
    with common.workspace(options) as folder:
        spanscore = Spanscore(path, folder)
        with Server(spanscore) as server:
            seconds = fill(server, options.spans)
            note(f"{options.spans} spans over HTTP JSON in {seconds:.1f} s; {server.memory():.0f} MB resident, {server.memory('VmHWM'):.0f} MB at the peak")
            begun, big = time.monotonic(), list(t.deep(BIG, options.big))
            for first in range(0, options.big, 2000):
                t.send(server, t.traces(big[first:first + 2000], service="deep"))
            note(f"a trace of {options.big} spans in {time.monotonic() - begun:.1f} s")
        # A new process, so that memory is that of serving pages.
        with Server(spanscore) as server:
            count = options.spans // 5
            small = [f"/traces/{n + 1000:032x}" for n in range(0, count, max(1, count // 97))]
            large = f"/traces/{t.trace_id(BIG)}"
            for write in (False, True):
                measure(check, server, "first page of /traces", ["/traces"], 20, options.rounds, write)
                measure(check, server, "low scores (score.quality < 0.5)", [f"/traces?{LOW}"], 20, options.rounds, write)
                measure(check, server, "a trace of 5 spans", small, 5, options.rounds, write)
            measure(check, server, "the large trace", [large], None, 20, False)
            ask = Asker(server)
            # A browser sends no Accept-Encoding by default here: this is the size before any compression.
            _, status, content = ask(large)
            check(status == 200 and len(content) < 300_000, f"the trace of {options.big} spans: {status}, {len(content) / 1000:.0f} kB of HTML (limit 300 kB)")
            for what, where in [
                ("errors", "/traces?q=error"), ("sorted by duration", "/traces?sort=-duration"), ("lowest quality first", "/traces?sort=score.quality"),
                ("a service", "/traces?q=service+%3D+app1"), ("a model", "/traces?q=attr.%22gen_ai.request.model%22+%3D+m3"), ("text", "/traces?q=text+~+%22step+3%22"),
                ("text that is nowhere", "/traces?q=text+~+nowhere"), ("no such score", "/traces?q=score.quality+%3C+0"), ("a span of the large trace", f"{large}?span={BIG * 10_000_000 + 77_777:016x}"),
                ("the large trace searched", f"{large}?q=step+77777"), ("raw view of the large trace", f"{large}?view=raw"), ("critical path of it", f"{large}?view=critical"),
                ("front", "/"), ("health", "/health"),
            ]:
                took, status, content = min(ask(where) for _ in range(3))
                note(f"{what}: {took:.0f} ms, {status}, {len(content) / 1000:.0f} kB")
            paint(check, server, t.trace_id(BIG), folder)
            check(server.memory("VmHWM") < 150, f"memory: {server.memory():.0f} MB resident, {server.memory('VmHWM'):.0f} MB at the peak (limit 150 MB)")
    check.exit()


if __name__ == "__main__":
    main()

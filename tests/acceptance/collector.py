#!/usr/bin/env python3
"""A collector that is down, slow, busy or forgetful costs no result and loses nothing.

Each scenario runs the same claims with OTLP export to tests/otlp_server.py, then delivers what is left with
`export --pending`. Checked in each:

- the report equals that of a run without a collector but for ids, times, latencies, attempts and span counts;
- what arrived are exactly the spans in the store's tables, and as many log records as it holds (less what was rejected);
- stored = delivered + pending + rejected + not_sampled, and pending is 0 in the end;
- items arrive twice only where an acknowledgement was lost, and no more of them than are counted as duplicates.
"""

import collections
import http.client
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import common
from common import Checks, Collector, Mock, Spanscore, note


# The most items of one signal that are under way at once.
BATCH = 512


class SlowProxy:
    """Passes requests on after a delay."""

    def __init__(self, port, delay):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(delay)
                onward = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
                onward.request("POST", self.path, body, headers)
                answer = onward.getresponse()
                content = answer.read()
                onward.close()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.getheader("Content-Type", ""))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        class Server(socketserver.ThreadingMixIn, HTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """A client that gave up is part of the test."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Scenario:
    """One run with its own store, and the checks that all scenarios share."""

    def __init__(self, name, bench, url, env=None):
        self.name, self.bench = name, bench
        self.env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **(env or {})}
        self.folder = bench.folder / name
        self.folder.mkdir(exist_ok=True)
        self.spanscore = Spanscore(bench.binary, bench.folder, self.folder / "store")

    def start(self):
        self.begun = time.monotonic()
        self.process = self.spanscore.start("run", self.bench.suite, "--format", "json", env=self.env)

    def finish(self):
        out, self.stderr = self.process.communicate(timeout=600)
        self.seconds = time.monotonic() - self.begun
        common.stop(self.process)
        self.bench.check(self.process.returncode == 0, f"{self.name}: run ends with {self.process.returncode} after {self.seconds:.1f} s")
        report = common.json.loads(out)
        found = common.differences(self.bench.reference, common.comparable(report))
        self.bench.check(not found, f"{self.name}: report differs from that without a collector in {len(found)} places {found[:3]}")
        self.after_run = report["spans"]["exported"]["otlp"]
        return report

    def run(self):
        self.start()
        return self.finish()

    def pending(self, codes=(0,)):
        """Delivers what is left."""
        document = self.spanscore.json("export", "--pending", env=self.env, codes=codes)
        return document["destinations"]["otlp"]

    def settle(self, counts, received, rejected=0, duplicates=None):
        """The books, after everything was delivered. `duplicates`: whether there may be, or must be, any."""
        check, name = self.bench.check, self.name
        spans, logs = common.stored_items(self.spanscore.store)
        stored = len(spans) + logs
        note(f"{name}: after the run {self.after_run}; in the end {counts}")
        check(counts["stored"] == stored and counts["pending"] == 0
              and counts["delivered"] + counts["rejected"] + counts["not_sampled"] == stored,
              f"{name}: {stored} stored = {counts['delivered']} delivered + {counts['pending']} pending"
              f" + {counts['rejected']} rejected + {counts['not_sampled']} not sampled")
        items = collections.Counter(common.identity(line) for line in received if line["signal"] in ("traces", "logs"))
        got_spans = {item for item in items if item[0] == "span"}
        got_logs = len(items) - len(got_spans)
        missing = len(spans - got_spans) + logs - got_logs
        check(counts["rejected"] == rejected and missing == rejected + counts["not_sampled"] and got_spans <= spans,
              f"{name}: {missing} of {stored} items did not arrive, {counts['rejected']} counted as rejected (expected {rejected}),"
              f" {counts['not_sampled']} as not sampled")
        twice = sum(1 for times in items.values() if times > 1)
        allowed = {None: counts["duplicates"] == twice == 0, "maybe": twice <= counts["duplicates"],
                   "some": 0 < twice <= counts["duplicates"], "crash": twice <= 2 * BATCH}
        check(allowed[duplicates],
              f"{name}: {twice} items arrived more than once, {counts['duplicates']} counted as possible duplicates")


class Bench:
    def __init__(self, options, folder, mock):
        self.check, self.folder, self.mock = Checks(), folder, mock
        self.binary, self.claims = common.binary(options), options.claims
        self.data = common.write_claims(folder / "claims.jsonl", options.claims)
        self.suite = common.suite(folder, self.data, mock.url, concurrency=32)
        self.reference = common.comparable(Spanscore(self.binary, folder, folder / "reference").json("run", self.suite))


def healthy(bench):
    with Collector(bench.folder, "healthy") as collector:
        scenario = Scenario("healthy", bench, collector.url)
        scenario.run()
        bench.check(scenario.after_run["pending"] == 0, f"healthy: nothing pending when the run ends ({scenario.after_run})")
        scenario.settle(scenario.pending(), collector.lines())


def killed(bench):
    """Killed at a quarter of the run, there again on the same port after three quarters."""
    first = Collector(bench.folder, "killed-1")
    scenario = Scenario("killed", bench, first.url)
    before = bench.mock.stats()["requests"]
    scenario.start()
    bench.mock.wait_for_requests(before + bench.claims // 4, scenario.process)
    first.kill()
    bench.mock.wait_for_requests(before + bench.claims * 3 // 4, scenario.process)
    with Collector(bench.folder, "killed-2", http=first.ports["http"]) as second:
        scenario.finish()
        scenario.settle(scenario.pending(), first.lines() + second.lines(), duplicates="maybe")
        note(f"killed: {len(first.lines())} lines before, {len(second.lines())} after")


def absent(bench):
    """Nobody listens during the whole run; delivered later."""
    with Collector(bench.folder, "absent-0") as gone:
        port = gone.ports["http"]
    scenario = Scenario("absent", bench, f"http://127.0.0.1:{port}")
    scenario.run()
    spans, logs = common.stored_items(scenario.spanscore.store)
    bench.check(scenario.after_run["pending"] > 0 and scenario.after_run["delivered"] == 0
                and "export --pending" in scenario.stderr,
                f"absent: all is pending and stderr says what to do ({scenario.after_run}, {len(spans)} spans, {logs} logs)")
    code = scenario.spanscore.call("export", "--pending", env=scenario.env)[0]
    bench.check(code == 4, f"absent: `export --pending` with nobody there ends with {code}")
    with Collector(bench.folder, "absent", http=port) as collector:
        scenario.settle(scenario.pending(), collector.lines())


def slow(bench):
    with Collector(bench.folder, "slow") as collector:
        proxy = SlowProxy(collector.ports["http"], 1.5)
        scenario = Scenario("slow", bench, proxy.url)
        scenario.run()
        bench.check(scenario.seconds < bench.reference_seconds + 20,
                    f"slow: the run took {scenario.seconds:.1f} s, {bench.reference_seconds:.1f} s without a collector")
        counts = scenario.pending(codes=(0, 4))
        for _ in range(60):
            if counts["pending"] == 0:
                break
            counts = scenario.pending(codes=(0, 4))
        # What was under way when the run gave up waiting may have arrived.
        scenario.settle(counts, collector.lines(), duplicates="maybe")
        proxy.stop()


def busy(bench):
    with Collector(bench.folder, "busy", fail_first=6, fail_status=503, retry_after=1) as collector:
        scenario = Scenario("busy", bench, collector.url)
        scenario.run()
        scenario.settle(scenario.pending(), collector.lines())
        refused = [line for line in collector.lines() if line["signal"] == "request" and line["verdict"] == "fail"]
        bench.check(len(refused) == 6, f"busy: {len(refused)} requests answered 503 with Retry-After, all sent again")


def partial(bench):
    with Collector(bench.folder, "partial", reject=37) as collector:
        scenario = Scenario("partial", bench, collector.url)
        scenario.run()
        scenario.settle(scenario.pending(), collector.lines(), rejected=37)


def forgetful(bench):
    """Takes three requests and closes the connection without an answer."""
    with Collector(bench.folder, "forgetful", close=3) as collector:
        scenario = Scenario("forgetful", bench, collector.url)
        scenario.run()
        scenario.settle(scenario.pending(), collector.lines(), duplicates="some")


def silent(bench):
    """Takes two requests and does not answer within the exporter's timeout."""
    with Collector(bench.folder, "silent", hang=2, hang_seconds=5) as collector:
        scenario = Scenario("silent", bench, collector.url, env={"OTEL_EXPORTER_OTLP_TIMEOUT": "1000"})
        scenario.run()
        scenario.settle(scenario.pending(), collector.lines(), duplicates="some")


def sampled(bench):
    """A quarter of the traces is sent, whole traces only; the store keeps all."""
    with Collector(bench.folder, "sampled") as collector:
        env = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}
        scenario = Scenario("sampled", bench, collector.url, env=env)
        scenario.run()
        counts, lines = scenario.pending(), collector.lines()
        scenario.settle(counts, lines)
        share = counts["delivered"] / counts["stored"]
        traces = {line["trace_id"] for line in lines if line["signal"] == "traces"}
        with common.tables(scenario.spanscore.store) as db:
            whole = sum(n for trace, n in db.execute("SELECT trace_id, operations FROM trace") if trace.hex() in traces)
        spans = sum(line["signal"] == "traces" for line in lines)
        bench.check(0.18 < share < 0.32 and spans == whole,
                    f"sampled: {share:.3f} of the items delivered (asked for 0.25), {spans} spans of {len(traces)} traces that have {whole}")


def crashed(bench):
    """The program itself is killed with `kill -9` in the middle and resumed: here nobody is left to count duplicates."""
    with Collector(bench.folder, "crashed") as collector:
        scenario = Scenario("crashed", bench, collector.url)
        before = bench.mock.stats()["requests"]
        scenario.start()
        bench.mock.wait_for_requests(before + bench.claims // 2, scenario.process)
        scenario.process.kill()
        scenario.process.wait()
        common.stop(scenario.process)
        code = scenario.spanscore.call("run", bench.suite, "--resume", "--quiet", env=scenario.env)[0]
        bench.check(code == 0, f"crashed: resumed with exit {code}")
        scenario.after_run = scenario.spanscore.json("show", "latest")["spans"]["exported"]["otlp"]
        scenario.settle(scenario.pending(), collector.lines(), duplicates="crash")


SCENARIOS = [healthy, killed, absent, slow, busy, partial, forgetful, silent, sampled, crashed]


def main():
    parser = common.arguments(__doc__, mock=True)
    parser.add_argument("--claims", type=int, default=4000)
    parser.add_argument("--latency-ms", type=int, default=40)
    parser.add_argument("--only", choices=[s.__name__ for s in SCENARIOS], action="append", help="these scenarios only")
    options = parser.parse_args()
    common.needs_otlp_server()
    common.binary(options)
    mockllm = common.tool("mockllm", options.mockllm)
    with common.workspace(options) as folder, Mock(mockllm, latency_ms=options.latency_ms) as mock:
        begun = time.monotonic()
        bench = Bench(options, folder, mock)
        bench.reference_seconds = time.monotonic() - begun
        for scenario in SCENARIOS:
            if not options.only or scenario.__name__ in options.only:
                scenario(bench)
    bench.check.exit()


if __name__ == "__main__":
    main()

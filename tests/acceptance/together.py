#!/usr/bin/env python3
"""`run`, `serve` under OTLP load and readers, all at once on one store: nobody is locked out and nothing is miscounted.

While a run of generated claims goes on and clients post traces to `serve` on the same store, three loops of
`spanscore cases`, one of `spanscore traces` and one that reads the same over the pages look at it. Checked:

- no command fails, and "database is locked" is said nowhere;
- every look at the run shows the whole plan, and the number of completed trials never falls;
- in the end the run is complete and verified, and the spans in the store are those of the run and those acknowledged;
- requests that were told to come back later, and came back, lost nothing.
"""

import json
import threading
import time

import common
import telemetry as t
from common import Checks, Mock, Server, Spanscore, note


class Load:
    """Clients that post traces of five spans until they are stopped; counts what was acknowledged."""

    def __init__(self, server, clients, traces):
        self.server, self.traces = server, traces
        self.acknowledged, self.overloads, self.problems = 0, 0, []
        self.lock, self.end = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(i,)) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self, number):
        batch = 0
        while not self.end.is_set():
            batch += 1
            first = (number + 1) * 10_000_000 + batch * self.traces
            spans = [s for n in range(first, first + self.traces) for s in t.conversation(n)]
            body = json.dumps(t.traces(spans, service="load")).encode()
            while True:
                try:
                    status, headers, answer = self.server.ask("POST", "/v1/traces", body, {"Content-Type": "application/json"}, name="otlp/http")
                except OSError as error:
                    self.problems.append(f"client {number}: {error}")
                    return
                if status == 503 and headers.get("retry-after"):
                    self.overloads += 1
                    time.sleep(min(float(headers["retry-after"]), 1))
                    continue
                break
            with self.lock:
                if status == 200 and json.loads(answer) == {}:
                    self.acknowledged += len(spans)
                else:
                    self.problems.append(f"client {number}: {status} {answer[:200]!r}")
                    return

    def stop(self):
        self.end.set()
        for thread in self.threads:
            thread.join()


class Reader:
    """Looks again and again until it is stopped. `look` returns the number of completed trials, or raises."""

    def __init__(self, name, look):
        self.name, self.look, self.end = name, look, threading.Event()
        self.counts, self.problems = [], []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.end.is_set():
            try:
                self.counts.append(self.look())
            except Exception as error:  # whatever it is, the check names it
                self.problems.append(str(error)[:300])

    def stop(self):
        self.end.set()
        self.thread.join()


def completed(rows, planned):
    if len(rows) != planned:
        raise RuntimeError(f"{len(rows)} rows of {planned} planned")
    return sum(row["status"] == "completed" for row in rows)


def main():
    parser = common.arguments(__doc__, mock=True)
    parser.add_argument("--claims", type=int, default=6000)
    parser.add_argument("--clients", type=int, default=2, help="clients that post traces")
    parser.add_argument("--traces", type=int, default=100, help="traces of a request, five spans each")
    options = parser.parse_args()
    path, mockllm, check = common.binary(options), common.tool("mockllm", options.mockllm), Checks()
    with common.workspace(options) as folder, Mock(mockllm, latency_ms=20) as mock:
        data = common.write_claims(folder / "claims.jsonl", options.claims)
        suite = common.suite(folder, data, mock.url, concurrency=32)
        spanscore = Spanscore(path, folder)
        log = open(folder / "serve.log", "w+", encoding="utf-8")
        with Server(spanscore, stderr=log) as server:
            run = spanscore.start("run", suite, "--format", "json", "--name", "together", "--no-progress")
            mock.wait_for_requests(1, run)
            every = str(options.claims + 1)

            def by_page():
                # The document of the page holds one page of rows; its counts are those of the run.
                status, _, body = server.ask("GET", "/runs/together?format=json")
                if status != 200:
                    raise RuntimeError(f"/runs/together: {status} {body[:200]!r}")
                trials = json.loads(body)["trials"]
                if trials["planned"] != options.claims:
                    raise RuntimeError(f"{trials['planned']} planned of {options.claims}")
                return trials["completed"]

            def by_traces():
                rows = spanscore.json("traces", "--limit", "50")
                if any(row["operations"] < 1 for row in rows):
                    raise RuntimeError("a trace without operations")
                return 0

            look = lambda: completed(spanscore.json("cases", "together", "--limit", every), options.claims)
            readers = [Reader(f"cases {i + 1}", look) for i in range(3)] + [Reader("traces", by_traces), Reader("/runs/together", by_page)]
            load = Load(server, options.clients, options.traces)
            begun = time.monotonic()
            out, err = run.communicate(timeout=900)
            seconds = time.monotonic() - begun
            common.stop(run)
            load.stop()
            for reader in readers:
                reader.stop()
            check(run.returncode == 0, f"the run ends with {run.returncode} after {seconds:.1f} s {err.strip()[-300:]}")
            check(not load.problems and load.acknowledged > 0,
                  f"{load.acknowledged} spans acknowledged meanwhile, {load.overloads} requests told to come back, problems: {load.problems[:2]}")
            for reader in readers:
                falls = sum(b < a for a, b in zip(reader.counts, reader.counts[1:]))
                check(not reader.problems and len(reader.counts) > 2 and falls == 0,
                      f"{reader.name}: {len(reader.counts)} looks, up to {max(reader.counts, default=0)} completed, {falls} times fewer than before"
                      f" {reader.problems[:2]}")
            # Once more, with nobody writing.
            rows = spanscore.json("cases", "together", "--limit", every)
            check(completed(rows, options.claims) == options.claims, "in the end all planned trials are completed")
            check(by_page() == options.claims, "and the page says so")
        log.seek(0)
        said = (log.read() + err).lower()
        log.close()
        check("locked" not in said and "panicked" not in said, f"nobody said that the database is locked {said[-200:]!r}")
        code, out, err = spanscore.call("verify", "together")
        check(code == 0, f"verify ends with {code} {err.strip()[-200:]}")
        report = spanscore.json("show", "together")
        check(report["spans"]["created"] == report["spans"]["stored"], f"spans of the run: {report['spans']['created']} created, {report['spans']['stored']} stored")
        with common.tables(spanscore.store) as db:
            one = lambda sql: db.execute(sql).fetchone()[0]
            foreign = one("SELECT count(*) FROM span WHERE run IS NULL")
            counted = one("SELECT coalesce(sum(operations), 0) FROM trace WHERE run IS NULL")
            check(foreign == counted == load.acknowledged, f"{load.acknowledged} spans acknowledged, {foreign} in the store, {counted} counted in the list of traces")
            own = one("SELECT count(*) FROM span WHERE run IS NOT NULL")
            check(own == report["spans"]["stored"], f"{own} spans of the run in the store, {report['spans']['stored']} in its report")
            check(one("PRAGMA integrity_check") == "ok", "the database is whole")
        note(f"{options.claims / seconds:.0f} claims/s and {load.acknowledged / seconds:.0f} spans/s beside each other")
    check.exit()


if __name__ == "__main__":
    main()

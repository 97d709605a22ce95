#!/usr/bin/env python3
"""`kill -9` at random moments, resuming each time: nothing recorded is lost, repeated or counted twice.

A run is killed again and again while the load target answers slowly, and resumed with `run --resume`. After each kill
the store's tables are read from a copy. Checked:

- every trial that was recorded before is still there, unchanged;
- after each kill at most `--concurrency` requests had been made without a recorded trial;
- the final report equals that of an uninterrupted run but for ids, times, latencies, attempts and span counts;
- every trace has one root and no orphan, no span is open, and `verify` finds every score on its span;
- a process killed while it plans the run leaves nothing that is seen.
"""

import random
import time

import common
from common import Checks, Mock, Spanscore, note


def trials(store):
    with common.tables(store) as db:
        # What a session wrote must stay as it is: outcome, time, span and text.
        return {row[0]: row[1:] for row in db.execute("SELECT id, outcome, started, trace, span, hex(texts) FROM trial")}


def main():
    parser = common.arguments(__doc__, mock=True)
    parser.add_argument("--claims", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--latency-ms", type=int, default=50)
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args()
    binary, mockllm = common.binary(options), common.tool("mockllm", options.mockllm)
    check, draw = Checks(), random.Random(options.seed)
    with common.workspace(options) as folder, Mock(mockllm, latency_ms=options.latency_ms, jitter_ms=options.latency_ms // 2) as mock:
        data = common.write_claims(folder / "claims.jsonl", options.claims)
        suite = common.suite(folder, data, mock.url, concurrency=options.concurrency)
        whole = Spanscore(binary, folder, folder / "whole")
        uninterrupted = whole.json("run", suite)
        mock.reset()

        spanscore = Spanscore(binary, folder, folder / "killed")
        # Leaves enough for the last session whatever the draw: on average half of the claims are done by then.
        share = options.claims // options.kills
        recorded, lost, changed, unrecorded, repeated = {}, 0, 0, 0, []
        for kill in range(options.kills):
            before = mock.stats()["requests"]
            process = spanscore.start("run", suite, *(["--resume"] if kill else []), "--quiet")
            # The first session must have planned the run, or there is nothing to resume; later ones may die at any moment.
            mock.wait_for_requests(before + (draw.randrange(share) if kill else 1), process)
            time.sleep(draw.random() * 2 * options.latency_ms / 1000)
            if process.poll() is not None:
                check(False, f"session {kill} ended by itself with {process.returncode}: {process.stderr.read().strip()[:300]}")
            process.kill()
            process.wait()
            common.stop(process)
            # What was still on its way to the load target arrives within its latency.
            time.sleep((options.latency_ms * 1.5 + 50) / 1000)
            now = trials(spanscore.store)
            lost += len(recorded.keys() - now.keys())
            changed += sum(1 for key, row in recorded.items() if key in now and now[key] != row)
            recorded = now
            spent = mock.stats()["requests"] - len(recorded)
            repeated.append(spent - unrecorded)
            unrecorded = spent
        final = spanscore.json("run", suite, "--resume")
        requests = mock.stats()["requests"]
        now = trials(spanscore.store)
        lost += len(recorded.keys() - now.keys())
        changed += sum(1 for key, row in recorded.items() if key in now and now[key] != row)

        note(f"{options.kills} kills, {len(recorded)} trials recorded at the last, {options.claims} wanted")
        check(lost == 0 and changed == 0, f"recorded trials: {lost} lost, {changed} changed")
        check(len(now) == options.claims, f"trials in the end: {len(now)} of {options.claims}")
        check(max(repeated) <= options.concurrency,
              f"requests without a recorded trial, per kill: {repeated} (allowed {options.concurrency} each)")
        check(requests - options.claims <= options.kills * options.concurrency,
              f"requests: {requests}, {requests - options.claims} repeated (allowed {options.kills * options.concurrency})")
        found = common.differences(common.comparable(uninterrupted), common.comparable(final))
        check(not found, f"report against an uninterrupted run: {len(found)} differences {found[:5]}")
        shown = spanscore.json("show", "latest")
        found = common.differences(common.comparable(uninterrupted), common.comparable(shown))
        check(not found, f"`show` against an uninterrupted run: {len(found)} differences {found[:5]}")
        check(shown["run"]["status"] == "completed" and len(spanscore.json("runs")) == 1,
              f"one run, status {shown['run']['status']}")
        spans = shown["spans"]
        check(spans["stored"] > 2 * options.claims, f"spans: {spans['created']} created, {spans['stored']} stored")
        with common.tables(spanscore.store) as db:
            common.check_traces(check, db, "stored traces")
        verified = spanscore.json("verify", "latest")
        check(verified["linked"] == verified["scores"] > 0 and not verified["missing"] and not verified["mismatched"],
              f"verify: {verified['linked']} of {verified['scores']} scores linked")
        check_listed_traces(check, spanscore)
        planning(check, binary, folder, mock, draw)
    check.exit()


def check_listed_traces(check, spanscore):
    """The same through the command line: each listed trace hangs together."""
    listed = spanscore.json("traces", "--limit", 1_000_000)
    odd, cut = [], 0
    for row in listed:
        spans = spanscore.json("trace", row["trace_id"])["spans"]
        ids = {span["span_id"] for span in spans}
        roots = [span for span in spans if span["parent_span_id"] is None]
        orphans = [span for span in spans if span["parent_span_id"] not in ids | {None}]
        if len(roots) != 1 or orphans or len(ids) != len(spans) or len(spans) != row["operations"]:
            odd.append(row["trace_id"])
        cut += any(root["status"] == "ERROR" and root["status_message"] == "interrupted" for root in roots)
    check(not odd and cut > 0,
          f"listed traces: {len(listed)}, {cut} closed as interrupted, {len(odd)} without one root and all parents {odd[:3]}")


def planning(check, binary, folder, mock, draw):
    """Kills a process while it reads and plans a large dataset."""
    count = 100_000
    data = common.write_claims(folder / "large.jsonl", count)
    suite = common.suite(folder, data, mock.url, name="large")
    spanscore = Spanscore(binary, folder, folder / "planning")
    asked = mock.stats()["requests"]
    for _ in range(5):
        process = spanscore.start("run", suite, "--quiet")
        time.sleep(0.05 + draw.random() * 0.2)
        early = process.poll() is None and mock.stats()["requests"] == asked
        process.kill()
        process.wait()
        common.stop(process)
        if not early:
            note("a kill came after the planning; not counted")
            asked = mock.stats()["requests"]
    # The first kill may have come before there was a store.
    made = (spanscore.store / "spanscore.db").exists()
    visible = [run for run in spanscore.json("runs") if run["trials"]["planned"] != count] if made else []
    code, out, _ = spanscore.call("run", suite, "--limit", 8, "--format", "json")
    with common.tables(spanscore.store) as db:
        left = db.execute("SELECT count(*) FROM run WHERE spec IS NULL").fetchone()[0]
        planned = db.execute("SELECT count(*) FROM planned").fetchone()[0]
    check(not visible and code == 0 and left == 0,
          f"killed while planning {count} cases: {len(visible)} half-planned runs listed, the next run ends with {code},"
          f" {left} half-planned runs and {planned} planned cases in the tables after it")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Signals, two processes at once, and a full disk.

- Ctrl-C once: no new trial starts, those in flight finish and are recorded, exit 130; `--resume` does the rest and no
  request is made twice. SIGTERM: the same with 143.
- Ctrl-C twice: the process ends at once although requests hang; what was recorded stays; `--resume` does the rest.
- A second process that resumes a live run is refused; two runs at once in one store both complete.
- Disk full (a small tmpfs; needs root): exit 4 with the path and what to do, the store stays readable, and once there is
  space the run goes on.
"""

import os
import signal
import subprocess
import time

import common
from common import Checks, Mock, Spanscore, note


def check_resumed(check, what, spanscore, suite, mock, claims, repeated=0):
    """Resumes the interrupted run and looks at the whole."""
    code, out, err = spanscore.call("run", suite, "--resume", "--format", "json")
    trials = common.json.loads(out)["trials"] if out else err
    asked = mock.stats()["requests"]
    check(code == 0 and trials["completed"] == claims and asked - claims <= repeated,
          f"{what}: resumed with exit {code}, trials {trials}, {asked} requests ({asked - claims} more than claims, allowed {repeated})")
    with common.tables(spanscore.store) as db:
        common.check_traces(check, db, what)
    verified = spanscore.json("verify", "latest")
    check(verified["scores"] == verified["linked"] > 0, f"{what}: verify finds {verified['linked']} of {verified['scores']} scores")


def recorded(spanscore):
    with common.tables(spanscore.store) as db:
        return db.execute("SELECT count(*) FROM trial").fetchone()[0]


def once(check, binary, mockllm, folder, number, latency_ms=300, claims=320, concurrency=16):
    name = signal.Signals(number).name
    with Mock(mockllm, latency_ms=latency_ms) as mock:
        data = common.write_claims(folder / "claims.jsonl", claims)
        suite = common.suite(folder, data, mock.url, name=f"once-{name}", concurrency=concurrency)
        spanscore = Spanscore(binary, folder, folder / f"store-{name}")
        process = spanscore.start("run", suite, "--no-progress")
        mock.wait_for_requests(5 * concurrency, process)
        common.interrupt(process, number)
        begun = time.monotonic()
        out, err = process.communicate(timeout=60)
        seconds = time.monotonic() - begun
        asked, kept = mock.stats()["requests"], recorded(spanscore)
        check(process.returncode == 128 + number and asked == kept < claims,
              f"{name}: exit {process.returncode} after {seconds:.1f} s, {asked} requests, {kept} trials recorded of {claims}")
        check(seconds < 2 * latency_ms / 1000 + 1 and "--resume" in err, f"{name}: ended in time and says how to go on")
        status = spanscore.json("show", "latest")["run"]["status"]
        check(status == "interrupted" and "accuracy" in out.lower(), f"{name}: the run's status is {status}, the report covers what there is")
        check_resumed(check, name, spanscore, suite, mock, claims)


def twice(check, binary, mockllm, folder, claims=300, concurrency=16):
    with Mock(mockllm, latency_ms=30) as quick, Mock(mockllm, latency_ms=20_000) as hanging:
        data = common.write_claims(folder / "claims.jsonl", claims)
        spanscore = Spanscore(binary, folder, folder / "store-twice")
        suite = common.suite(folder, data, quick.url, name="twice", concurrency=concurrency)
        process = spanscore.start("run", suite, "--quiet")
        quick.wait_for_requests(100, process)
        common.interrupt(process)
        process.wait(30)
        common.stop(process)
        before = recorded(spanscore)
        # The same run against an endpoint that does not answer.
        suite = common.suite(folder, data, hanging.url, name="twice", concurrency=concurrency)
        process = spanscore.start("run", suite, "--resume", "--force", "--quiet")
        hanging.wait_for_requests(concurrency, process)
        common.interrupt(process)
        time.sleep(0.5)
        alive = process.poll() is None
        begun = time.monotonic()
        common.interrupt(process)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        seconds = time.monotonic() - begun
        check(alive and process.returncode == 130 and seconds < 1,
              f"twice: waits after the first Ctrl-C ({alive}), exit {process.returncode} {seconds * 1000:.0f} ms after the second")
        common.stop(process)
        after = recorded(spanscore)
        check(before == after > 0, f"twice: {before} trials recorded before, {after} after")
        suite = common.suite(folder, data, quick.url, name="twice", concurrency=concurrency)
        code, out, err = spanscore.call("run", suite, "--resume", "--force", "--format", "json")
        trials = common.json.loads(out)["trials"] if out else err
        check(code == 0 and trials["completed"] == claims and quick.stats()["requests"] == claims,
              f"twice: resumed with exit {code}, trials {trials}, {quick.stats()['requests']} requests to the endpoint that answers")
        with common.tables(spanscore.store) as db:
            common.check_traces(check, db, "twice")


def two_processes(check, binary, mockllm, folder, claims=500):
    with Mock(mockllm, latency_ms=100) as mock:
        data = common.write_claims(folder / "claims.jsonl", claims)
        suite = common.suite(folder, data, mock.url, name="shared", concurrency=16)
        spanscore = Spanscore(binary, folder, folder / "store-shared")
        first = spanscore.start("run", suite, "--format", "json")
        mock.wait_for_requests(50, first)
        run = spanscore.json("runs")[0]
        asked = mock.stats()["requests"]
        code, out, err = spanscore.call("run", suite, "--resume", run["id"])
        check(code not in (0, 1, 3) and run["id"] in err and "use" in err and first.poll() is None,
              f"two processes: resuming a live run ends with {code}: {err.strip().splitlines()[-1] if err.strip() else ''}")
        code, _, err = spanscore.call("runs", "rm", run["id"])
        check(code != 0 and first.poll() is None, f"two processes: removing a live run ends with {code}: {err.strip()[:200]}")
        out, _ = first.communicate(timeout=120)
        trials = common.json.loads(out)["trials"]
        check(first.returncode == 0 and trials["completed"] == claims and mock.stats()["requests"] == claims,
              f"two processes: the first one is not disturbed, trials {trials}, {mock.stats()['requests']} requests")
        note(f"status of the live run in `runs`: {run['status']}, {asked} requests at that time")

        mock.reset()
        other = common.suite(folder, data, mock.url, name="other", concurrency=16)
        both = [spanscore.start("run", s, "--format", "json") for s in (suite, other)]
        reports = [common.json.loads(p.communicate(timeout=120)[0]) for p in both]
        check(all(p.returncode == 0 for p in both) and all(r["trials"]["completed"] == claims for r in reports)
              and mock.stats()["requests"] == 2 * claims,
              f"two runs at once: {[r['trials'] for r in reports]}, {mock.stats()['requests']} requests")
        for report in reports:
            verified = spanscore.json("verify", report["run"]["id"])
            check(verified["scores"] == verified["linked"] == 3 * claims,
                  f"two runs at once: verify {report['run']['suite']}: {verified['linked']} of {verified['scores']} scores")
        with common.tables(spanscore.store) as db:
            common.check_traces(check, db, "two runs at once")


def disk_full(check, binary, mockllm, folder, claims=20_000):
    mount = folder / "disk"
    mount.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", mount], capture_output=True).returncode:
        note("disk full: skipped, for only root may mount a small tmpfs")
        return
    try:
        with Mock(mockllm) as mock:
            data = common.write_claims(folder / "claims.jsonl", claims)
            suite = common.suite(folder, data, mock.url, name="full", concurrency=16)
            spanscore = Spanscore(binary, folder, mount / "store")
            code, out, err = spanscore.call("run", suite, "--limit", 100, "--quiet", "--format", "json")
            check(code == 0, f"disk full: a first small run fits ({code})")
            mock.reset()
            # Planned within the space that there is, full while trials are recorded.
            subprocess.run(["mount", "-o", "remount,size=14m", mount], check=True)
            begun = time.monotonic()
            code, out, err = spanscore.call("run", suite, "--quiet", "--format", "json")
            lines, seconds = err.strip().splitlines(), time.monotonic() - begun
            check(code == 4 and str(spanscore.store) in err and "resume" in err,
                  f"disk full: exit {code} after {seconds:.1f} s: {lines[-1][:300] if lines else ''}")
            asked = mock.stats()["requests"]
            runs = spanscore.json("runs")
            kept = sum(runs[0]["trials"][k] for k in ("completed", "failed", "skipped"))
            check(len(runs) == 2 and 0 < kept < claims and asked - kept <= 16 * 2,
                  f"disk full: the store is readable, {kept} of {asked} answers are recorded")
            begun = time.monotonic()
            code, _, err = spanscore.call("run", suite, "--resume", "--quiet")
            seconds = time.monotonic() - begun
            check(code == 4, f"disk full: resuming without space ends with {code} after {seconds:.1f} s: {err.strip()[:200]}")
            kept_then = spanscore.json("runs")[0]["trials"]["completed"]
            check(kept_then >= kept, f"disk full: {kept_then} trials recorded after that")
            subprocess.run(["mount", "-o", "remount,size=500m", mount], check=True)
            before = mock.stats()["requests"] - kept_then
            note(f"disk full: {before} answers could not be recorded")
            code, out, err = spanscore.call("run", suite, "--resume", "--format", "json", "--quiet")
            trials = common.json.loads(out)["trials"] if out else err
            check(code == 0 and trials["completed"] == claims and mock.stats()["requests"] == claims + before,
                  f"disk full: with space again exit {code}, trials {trials}")
            with common.tables(spanscore.store) as db:
                common.check_traces(check, db, "disk full")
            verified = spanscore.json("verify", "latest")
            check(verified["scores"] == verified["linked"] > 0, f"disk full: verify finds {verified['linked']} of {verified['scores']}")
    finally:
        subprocess.run(["umount", "-l", mount], check=False)


def main():
    parser = common.arguments(__doc__, mock=True)
    parts = ["once", "twice", "two-processes", "disk-full"]
    parser.add_argument("--only", choices=parts, action="append", help="these parts only")
    options = parser.parse_args()
    binary, mockllm = common.binary(options), common.tool("mockllm", options.mockllm)
    check, wanted = Checks(), options.only or parts
    with common.workspace(options) as folder:
        if "once" in wanted:
            once(check, binary, mockllm, folder, signal.SIGINT)
            once(check, binary, mockllm, folder, signal.SIGTERM)
        if "twice" in wanted:
            twice(check, binary, mockllm, folder)
        if "two-processes" in wanted:
            two_processes(check, binary, mockllm, folder)
        if "disk-full" in wanted:
            disk_full(check, binary, mockllm, folder)
    check.exit()


if __name__ == "__main__":
    main()

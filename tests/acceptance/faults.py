#!/usr/bin/env python3
"""Faults of the endpoint: exactly the lasting ones fail, each with its class, and every request is on record.

The load target spoils first attempts (5 % each of 429, 500, cut connections and cut bodies, 1 % that hang beyond the
timeout) and some claims for good (2 % refused by a content filter, 1 % always 429 with a date in Retry-After, 1 % always
503). Which claim has which fault follows from the hash of its message and is computed here, independently. Checked:

- failed trials are exactly the lasting ones, with error `content_filter`, `429`, `503`;
- attempts of each trial are as many as its fault needs, and never more than 1 + retries;
- the sum of recorded attempts is the number of requests that the load target counted;
- every failed attempt is an event on the trial's `chat` span, with its class and its wait;
- answers are the load target's, whatever came before them.
"""

import collections
import time

import common
from common import Checks, Mock, Spanscore, note

FIRST = [("rate_limited", "429"), ("server_error", "500"), ("dropped", "connection"), ("garbled", None), ("hung", "timeout")]
LASTING = [("refused", "content_filter"), ("always_rate_limited", "429"), ("always_unavailable", "503")]


def plan(rows, shares):
    """For each claim: the load target's answer, and the fault that hits it (or None)."""
    planned = {}
    for row in rows:
        h = common.fnv(common.user_message(row).encode())
        u, edge, fault = common.share(h), 0.0, None
        for name, share in shares.items():
            edge += share
            if u < edge:
                fault = name
                break
        planned[row["id"]] = (common.LABELS[h % 3], fault)
    return planned


def main():
    parser = common.arguments(__doc__, mock=True)
    parser.add_argument("--claims", type=int, default=2000)
    parser.add_argument("--retries", type=int, default=4)
    parser.add_argument("--concurrency", default="32", help="a number, or auto")
    options = parser.parse_args()
    binary, mockllm = common.binary(options), common.tool("mockllm", options.mockllm)
    # In the order in which the load target looks at them.
    shares = {
        "refused": 0.02, "always_rate_limited": 0.01, "always_unavailable": 0.01,
        "rate_limited": 0.05, "server_error": 0.05, "dropped": 0.05, "garbled": 0.05, "hung": 0.01,
    }
    check = Checks()
    with common.workspace(options) as folder, Mock(mockllm, **shares) as mock:
        data = common.write_claims(folder / "claims.jsonl", options.claims)
        planned = plan([common.claim(i) for i in range(options.claims)], shares)
        faults = collections.Counter(fault for _, fault in planned.values())
        note("planned: " + ", ".join(f"{faults[name]} {name}" for name in shares))
        suite = common.suite(folder, data, mock.url, timeout="2s", max_retries=options.retries,
                             concurrency=int(options.concurrency) if options.concurrency.isdigit() else options.concurrency)
        spanscore = Spanscore(binary, folder)
        start = time.monotonic()
        report = spanscore.json("run", suite)
        seconds = time.monotonic() - start
        stats = mock.stats()
        cases = {case["case_id"]: case for case in spanscore.json("cases", "latest")}

        trials = report["trials"]
        lasting = {name for name, _ in LASTING}
        lost = sum(faults[name] for name in lasting)
        check(trials == {"planned": options.claims, "completed": options.claims - lost, "failed": lost, "skipped": 0}
              and len(cases) == options.claims,
              f"trials: {trials} in {seconds:.1f} s, {lost} lasting faults")
        for name, error in LASTING:
            expected = {case for case, (_, fault) in planned.items() if fault == name}
            found = {case_id for case_id in expected if cases[case_id]["error"] == error}
            check(expected == found, f"{name}: {len(found)} of {len(expected)} failed with `{error}`")
        others = [c for c in cases.values() if c["status"] == "failed" and planned[c["case_id"]][1] not in lasting]
        check(not others, f"failed without a lasting fault: {len(others)} {[(c['case_id'], c['error']) for c in others[:3]]}")

        def needed(fault):
            if fault in ("always_rate_limited", "always_unavailable"):
                return 1 + options.retries
            return 2 if fault in dict(FIRST) else 1
        unexpected = [(case_id, fault, cases[case_id]["attempts"]) for case_id, (_, fault) in planned.items()
                      if cases[case_id]["attempts"] != needed(fault)]
        check(not unexpected, f"attempts as the faults need them: {len(unexpected)} exceptions {unexpected[:3]}")
        attempts = sum(case["attempts"] for case in cases.values())
        most = max(case["attempts"] for case in cases.values())
        check(attempts == stats["requests"], f"attempts recorded {attempts}, requests that the load target counted {stats['requests']}")
        check(most <= 1 + options.retries and stats["messages"] == options.claims,
              f"at most {most} attempts a trial (allowed {1 + options.retries}), {stats['messages']} different messages")
        wrong = [case_id for case_id, (label, fault) in planned.items()
                 if fault not in lasting and cases[case_id]["output"] != label]
        check(not wrong, f"answers recorded that are not the load target's: {len(wrong)} {wrong[:3]}")
        check_events(check, spanscore, cases, planned, options.retries)
        scored = report["evaluators"]["label_match"]
        check(scored["scored"] + scored["failed"] + scored["skipped"] == options.claims,
              f"label_match: {scored['scored']} scored, {scored['failed']} failed, {scored['skipped']} skipped")
    check.exit()


def check_events(check, spanscore, cases, planned, retries):
    """Looks at the traces of a few trials of each fault."""
    classes = dict(FIRST) | {name: error for name, error in LASTING}
    problems, looked = [], 0
    for fault, error in classes.items():
        few = [case_id for case_id, (_, f) in planned.items() if f == fault][:5]
        for case_id in few:
            looked += 1
            trace = spanscore.json("trace", cases[case_id]["trace_id"])
            chat = next(s for s in trace["spans"] if s["parent_span_id"] == cases[case_id]["span_id"] and s["kind"] == "CLIENT")
            events = [e["attributes"] for e in chat["events"]]
            failed = cases[case_id]["status"] == "failed"
            if len(events) != cases[case_id]["attempts"] - (not failed):
                problems.append(f"{case_id} ({fault}): {len(events)} events for {cases[case_id]['attempts']} attempts")
            if error and any(e["error.type"] != error for e in events):
                problems.append(f"{case_id} ({fault}): events {[e['error.type'] for e in events]}")
            waits = [e.get("spanscore.attempt.wait_s") for e in events]
            if any(w is None for w in (waits[:-1] if failed else waits)):
                problems.append(f"{case_id} ({fault}): waits {waits}")
            if fault == "rate_limited" and waits[0] < 0.05:
                problems.append(f"{case_id}: waited {waits[0]} s, Retry-After asked for 0.05 s")
            if failed != (chat["status"] == "ERROR") or failed != ("error.type" in chat["attributes"]):
                problems.append(f"{case_id} ({fault}): chat span has status {chat['status']}")
    check(looked > 0 and not problems, f"events on {looked} chat spans: {len(problems)} problems {problems[:3]}")


if __name__ == "__main__":
    main()

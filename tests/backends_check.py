#!/usr/bin/env python3
"""Scores of a run in Phoenix and MLflow themselves, as their own packages from PyPI serve them.

For each backend, a server is started on loopback with an empty database, and the suite that `spanscore init --backend NAME`
writes is run there with 200 claims:

- `spanscore doctor` finds nothing wrong, and says what is wrong where the project or the key is;
- every span of the run is there, with its parent and its name;
- every score is there once, on the span of its answer, equal to the store: value, label, explanation, case;
- pushed again, still one each; a score that somebody changed there is what the store says again;
- while the server is away nothing is lost: the scores stay pending and are delivered later, after their spans.

The packages are installed into virtual environments below the build folder, by this script, the first time: that takes some
minutes and 2 GB. Needs Python 3.10 or later with venv and access to PyPI.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "acceptance"))
sys.dont_write_bytecode = True

import common  # noqa: E402
from common import Checks, Spanscore, note  # noqa: E402

CLAIMS = 200
# What is installed, as `pip install` takes it.
PACKAGES = {"phoenix": "arize-phoenix==20.26.1", "mlflow": "mlflow==3.17.2"}
# Seconds until a server listens: the first start compiles its packages.
START = 240


def environment(name):
    """The folder with the backend's programs; installs them where they are not there yet."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or common.ROOT / "target").resolve()
    venv = target / f"test-venv-{name}"
    installed = venv / "installed.txt"
    if not installed.is_file() or installed.read_text() != PACKAGES[name]:
        note(f"installing {PACKAGES[name]} into {venv}")
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "--quiet", PACKAGES[name]], check=True)
        installed.write_text(PACKAGES[name])
    return venv / "bin"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Backend:
    """A server of its own, started and stopped by its process id; its data outlives it."""

    def __init__(self, folder, name):
        self.folder, self.name, self.process = folder, name, None
        self.bin = environment(name)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self):
        if self.name == "phoenix":
            return [self.bin / "phoenix", "serve"], {
                "PHOENIX_WORKING_DIR": str(self.folder / "data"), "PHOENIX_HOST": "127.0.0.1",
                "PHOENIX_PORT": str(self.port), "PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_TELEMETRY_ENABLED": "false",
            }
        return [
            self.bin / "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/data/mlflow.db", "--artifacts-destination", f"{self.folder}/data/artifacts",
        ], {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}

    def start(self):
        (self.folder / "data").mkdir(exist_ok=True)
        command, more = self.command()
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("PHOENIX_", "MLFLOW_", "OTEL_"))}
        started = time.monotonic()
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env={**plain, **more}, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        while time.monotonic() < started + START:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                if self.request("GET", "/healthz" if self.name == "phoenix" else "/health", raw=True)[0] == 200:
                    note(f"{self.name} listens after {time.monotonic() - started:.0f} s")
                    return
            time.sleep(0.2)
        self.stop()
        sys.exit(f"{self.name} did not start:\n{(self.folder / 'server.log').read_text()[-2000:]}")

    def stop(self):
        if self.process:
            # MLflow's server has children; the group is this script's own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, 15)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, 9)
                self.process.wait(20)
            self.process = None

    def request(self, method, path, body=None, raw=False):
        request = urllib.request.Request(
            self.url + path, method=method, data=json.dumps(body).encode() if body is not None else None,
            headers={"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        return (status, text) if raw else (status, json.loads(text or b"null"))

    def writes(self):
        """What tells a score that was written again from one that was left alone, where the backend leaves the choice."""
        return None

    def get(self, path, **query):
        status, answer = self.request("GET", path + ("?" + urllib.parse.urlencode(query, doseq=True) if query else ""))
        if status != 200:
            sys.exit(f"{self.name}: GET {path} answers {status}: {answer}")
        return answer


class Phoenix(Backend):
    """Reads back over Phoenix's REST interface."""

    def spans(self, _traces):
        """span id: (trace id, parent id, name)"""
        found, cursor = {}, None
        while True:
            page = self.get("/v1/projects/claims/spans", limit=500, **({"cursor": cursor} if cursor else {}))
            for span in page["data"]:
                context = span["context"]
                found[context["span_id"]] = (context["trace_id"], span["parent_id"], span["name"])
            cursor = page.get("next_cursor")
            if not cursor:
                return found

    def scores(self, spans):
        """[(id, span id, name, value, label, explanation, case)]"""
        found = []
        ids = sorted(spans)
        for i in range(0, len(ids), 100):
            page = self.get("/v1/projects/claims/span_annotations", span_ids=ids[i:i + 100], limit=10000)
            for a in page["data"]:
                result = a["result"] or {}
                found.append((a["id"], a["span_id"], a["name"], result.get("score"), result.get("label"),
                              result.get("explanation"), (a["metadata"] or {}).get("test.case.id"), a["annotator_kind"]))
        return found

    def spoil(self, score):
        """Somebody changes a score: the same identifier, another value."""
        page = self.get("/v1/projects/claims/span_annotations", span_ids=[score[1]], limit=100)
        there = next(a for a in page["data"] if a["name"] == score[2])
        there = {key: there[key] for key in ("span_id", "name", "annotator_kind", "identifier", "metadata")}
        body = {"data": [{**there, "result": {"score": 0.123, "label": "spoiled"}}]}
        return self.request("POST", "/v1/span_annotations?sync=true", body)[0] == 200


class Mlflow(Backend):
    """Reads back over MLflow's REST interface."""

    def __init__(self, folder, name):
        super().__init__(folder, name)
        self.infos = {}

    def spans(self, traces):
        found = {}
        for trace in traces:
            answer = self.get("/api/3.0/mlflow/traces/get", trace_id=f"tr-{trace}", allow_partial="true")["trace"]
            for span in answer["spans"]:
                name, parent = span["name"], span.get("parent_span_id")
                found[hex_id(span["span_id"])] = (trace, hex_id(parent), name)
        return found

    def scores(self, spans):
        found = []
        for trace in sorted({span[0] for span in spans.values()}):
            info = self.get(f"/api/3.0/mlflow/traces/tr-{trace}")["trace"]["trace_info"]
            for a in info.get("assessments", []):
                value, metadata = a["feedback"].get("value"), a.get("metadata", {})
                value = float(value) if isinstance(value, (bool, int, float)) else None
                found.append((a["assessment_id"], a["span_id"], a["assessment_name"], value, metadata.get("label"), a.get("rationale"),
                              metadata.get("test.case.id"), a["source"]["source_type"]))
                self.infos[a["assessment_id"]] = a
        return found

    def spoil(self, score):
        # Four of one trace, each in another way; a name is nothing that a patch of a score mends.
        trace = self.infos[score[0]]["trace_id"]
        ids = [i for i, a in self.infos.items() if a["trace_id"] == trace][:4]
        changes = [
            ("feedback", {"feedback": {"value": 0.123}}), ("metadata", {"metadata": {"label": "spoiled"}}),
            ("assessmentName", {"assessment_name": "renamed"}), ("rationale", {"rationale": "spoiled"}),
        ]
        return len(ids) == 4 and all(
            self.request("PATCH", f"/api/3.0/mlflow/traces/{trace}/assessments/{i}", {"assessment": change, "update_mask": mask})[0] == 200
            for i, (mask, change) in zip(ids, changes))

    def writes(self):
        """When each score was written last."""
        return {i: a["last_update_time"] for i, a in self.infos.items()}


def hex_id(text):
    """MLflow gives ids of spans as hexadecimal digits, or as base64 in answers made from OTLP."""
    if not text or re.fullmatch("[0-9a-f]{16}", text):
        return text or None
    import base64
    return base64.b64decode(text).hex()


def expected(spanscore):
    """What the store says: all spans, and all scores on the spans of their answers."""
    exported = spanscore.folder / "run.jsonl"
    exported.unlink(missing_ok=True)
    spanscore.call("export", "--run", "latest", "-o", exported)
    spans, answers = {}, {}
    for line in exported.read_text().splitlines():
        for resource in json.loads(line).get("resourceSpans", []):
            for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                spans[span["spanId"]] = (span["traceId"], span.get("parentSpanId") or None, span["name"])
    for span, (_, parent, name) in spans.items():
        if name.startswith("chat "):
            answers[parent] = span
    scores = set()
    for case in spanscore.json("cases", "latest", "--limit", str(CLAIMS)):
        for evaluator, score in case["scores"].items():
            if score["state"] == "scored":
                scores.add((answers[case["span_id"]], evaluator, score["value"], score["label"], score["explanation"], case["case_id"], "CODE"))
    return spans, scores


def compare(check, backend, spanscore, when):
    """Everything is there once and equal; gives the scores as the backend has them."""
    spans, scores = expected(spanscore)
    traces = {span[0] for span in spans.values()}
    # Other runs have traces of their own.
    there = {span: there for span, there in backend.spans(traces).items() if there[0] in traces}
    if there != spans:
        odd = [(span, there.get(span), spans.get(span)) for span in set(there) ^ set(spans) or spans if there.get(span) != spans.get(span)]
        note(f"different: {odd[:2]}")
    check(there == spans, f"{backend.name}, {when}: {len(there)} spans there, {len(spans)} in the store, with the same parents and names")
    got = backend.scores(spans)
    alike = {score[1:] for score in got} == scores and len(got) == len(scores)
    if not alike:
        note(f"different: {sorted(map(str, {score[1:] for score in got} ^ scores))[:4]}")
    check(alike, f"{backend.name}, {when}: {len(got)} scores there, {len(scores)} in the store, equal and on the spans of their answers")
    return got


def settled(spanscore, *more):
    """Delivers what is left; gives the counts of spans and scores."""
    return spanscore.json("export", *more, codes=(0, 4))["destinations"]


def look(check, options, binary, folder, kind):
    folder.mkdir()
    backend = kind(folder, kind.__name__.lower())
    name = backend.name
    try:
        backend.start()
        spanscore = Spanscore(binary, folder, folder / "store")
        spanscore.call("init", "--backend", name, ".")
        suite = folder / "spanscore.toml"
        there = {"phoenix": "http://localhost:6006", "mlflow": "http://localhost:5000"}[name]
        check(suite.read_text().count(there) == 3, f"{name}: init writes a suite with three addresses")
        suite.write_text(suite.read_text().replace(there, backend.url))
        findings = spanscore.json("doctor", codes=range(9))["checks"]
        wrong = [f for f in findings if f["status"] == "fail"]
        check(not wrong and any(f["name"] == f"sink {name}" for f in findings), f"{name}: doctor finds nothing wrong {wrong}")

        data = common.write_claims(folder / "claims.jsonl", CLAIMS)
        started = time.monotonic()
        report = spanscore.json("run", "--dataset", data, "--no-progress")
        took = time.monotonic() - started
        counts, scores = report["scores"]["exported"][name], 3 * CLAIMS
        note(f"{name}: run and delivery took {took:.1f} s; at its end {counts}")
        totals = settled(spanscore, "--pending")
        wanted = {"stored": scores, "delivered": scores, "pending": 0, "rejected": 0, "not_sampled": 0, "duplicates": 0}
        check(totals[name] == wanted, f"{name}: {totals[name]}")
        first = compare(check, backend, spanscore, "once")
        writes = backend.writes()

        totals = settled(spanscore, "--to", name, "--again", "latest")
        check(totals[name] == wanted, f"{name}: pushed again: {totals[name]}")
        second = compare(check, backend, spanscore, "twice")
        check(sorted(map(str, first)) == sorted(map(str, second)), f"{name}: pushing again changed nothing")
        check(backend.writes() == writes, f"{name}: nor was anything written again" if writes else f"{name} replaces what comes again")
        spoiled = backend.spoil(second[0])
        settled(spanscore, "--to", name, "--again", "latest")
        check(spoiled and sorted(map(str, backend.scores(expected(spanscore)[0]))) == sorted(map(str, first)),
              f"{name}: a score that was changed there is as in the store again")

        backend.stop()
        report = spanscore.json("run", "--dataset", data, "--no-progress")
        counts = report["scores"]["exported"][name]
        check(report["trials"]["completed"] == CLAIMS and counts["pending"] == scores, f"{name} away: {counts}")
        backend.start()
        totals = settled(spanscore, "--pending")
        check(totals[name]["delivered"] == 2 * scores and totals[name]["pending"] == 0, f"{name} back: {totals[name]}")
        compare(check, backend, spanscore, "after it was away")

        misspelt = suite.read_text()
        text = re.sub(r'(?m)^project = .*', 'project = "no-such-project"', misspelt)
        suite.write_text(text)
        found = [f for f in spanscore.json("doctor", codes=range(9))["checks"] if f["name"] == f"sink {name}" and f["status"] != "ok"]
        check(found and "no-such-project" in found[0]["message"], f"{name}: doctor on a project that is not there: {[f['message'] for f in found]}")
    finally:
        backend.stop()


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--backend", choices=sorted(PACKAGES), action="append", help="these only")
    options = parser.parse_args()
    binary, check = common.binary(options), Checks()
    with common.workspace(options) as folder:
        for kind in (Phoenix, Mlflow):
            if kind.__name__.lower() in (options.backend or PACKAGES):
                look(check, options, binary, folder / kind.__name__.lower(), kind)
    check.exit()


if __name__ == "__main__":
    main()

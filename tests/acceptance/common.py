"""What the acceptance scripts share: the binary, the load target, generated claims, the store's tables, and checks.

Needs Python 3.9 or later and nothing else. Every child is started and stopped by its own process id, listens on loopback
and picks its own port; everything that is written goes to a temporary folder.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BESIDE = ROOT.parent / "shared"

LABELS = ("True", "False", "NEE")
EVALUATORS = "label_match,valid_label,abstention"


class Checks:
    """Prints one line per check and remembers whether one failed."""

    def __init__(self):
        self.failed = 0

    def __call__(self, holds, line):
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'}  {line}", flush=True)
        return holds

    def exit(self):
        sys.exit(f"{self.failed} checks failed" if self.failed else 0)


def note(line):
    """A line of figures or explanation that is no check."""
    print(f"      {line}", flush=True)


def skip(reason):
    """Ends the script without a verdict."""
    print(f"skipped: {reason}", flush=True)
    sys.exit(0)


def arguments(doc, mock=False, bare=False, data=False):
    """A parser with the flags that the scripts share; `doc` is the script's docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    parser.add_argument("--binary", type=Path, default=target / "release" / "spanscore", help="the spanscore to check")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder and say where it is")
    parser.add_argument("--tmp", type=Path, help="make the temporary folder here")
    if mock:
        parser.add_argument("--mockllm", type=Path, help="load target; default: built from ../shared/bench/mockllm")
    if bare:
        parser.add_argument("--bare", type=Path, help="plain client; default: built from ../shared/bench/bare")
    if data:
        parser.add_argument("--data", type=Path, default=BESIDE / "data", help="folder of the real data sets")
    return parser


def binary(options):
    """The absolute path of the binary under test."""
    path = options.binary.resolve()
    if not path.is_file():
        sys.exit(f"no binary at {path}: build it with `cargo build --release`, or name it with --binary")
    return path


def tool(name, given):
    """A load tool: the one given, or built from the folder beside the repository; skips the script without either."""
    if given:
        if not given.is_file():
            sys.exit(f"no {name} at {given}")
        return given.resolve()
    source = BESIDE / "bench" / name
    if not source.is_dir():
        skip(f"needs {name}: name it with --{name}, or put its source into {source}")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve() / "load-tools"
    built = target / "release" / name
    if not built.is_file():
        # The source may be read-only, and cargo writes a lock file beside the manifest.
        copy = target / "source" / name
        shutil.copytree(source, copy, dirs_exist_ok=True, copy_function=shutil.copyfile)
        for path in [copy, *copy.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
        note(f"building {name} into {target}")
        environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=copy, env=environment, check=True)
    return built


@contextlib.contextmanager
def workspace(options):
    """A temporary folder, removed at the end unless --keep."""
    path = Path(tempfile.mkdtemp(prefix="spanscore-", dir=options.tmp))
    try:
        yield path
    finally:
        if options.keep:
            note(f"kept {path}")
        else:
            shutil.rmtree(path, ignore_errors=True)


# --- claims -----------------------------------------------------------------------------------------------------------

SUBJECTS = ("enzyme", "glacier", "comet", "receptor", "isotope", "polymer", "lichen", "neutrino", "aquifer", "larva")
VERBS = ("binds", "absorbs", "releases", "inhibits", "outlasts", "contains", "reflects", "precedes")
OBJECTS = ("calcium", "sunlight", "nitrogen", "sediment", "glucose", "vapour", "chlorine", "pollen", "quartz")


def claim(i, seed=1):
    """The i-th of any number of distinct claims, with one to three sentences of context."""
    draw = random.Random(seed * 1_000_003 + i)
    def sentence():
        return f"The {draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(OBJECTS)} in {draw.randint(2, 97)} samples."
    text = f"Sample {i}: the {draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(OBJECTS)}."
    context = " ".join(sentence() for _ in range(draw.randint(1, 3)))
    return {"id": f"g{i:07}", "claim": text, "context": context, "label": LABELS[draw.randrange(3)], "group": f"d{i // 4}"}


def write_claims(path, count, seed=1):
    """Writes claims as JSON Lines, or as CSV by the path's ending; streams, so that memory stays small."""
    with open(path, "w", encoding="utf-8") as out:
        if path.suffix == ".csv":
            out.write("id,claim,context,label,group\n")
        for i in range(count):
            row = claim(i, seed)
            # No field holds a comma or a quote, so CSV needs no quoting.
            out.write((",".join(row.values()) if path.suffix == ".csv" else json.dumps(row)) + "\n")
    return path


# --- the load target --------------------------------------------------------------------------------------------------


def fnv(data):
    """FNV-1a, 64 bits, by which the load target chooses its answers and faults."""
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def share(h):
    """Where in 0 ≤ u < 1 the load target puts a message with this hash."""
    return ((h * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 11) / (1 << 53)


class Mock:
    """A running load target."""

    def __init__(self, path, **flags):
        command = [str(path), "--listen", "127.0.0.1:0"]
        for name, value in flags.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.port = int(self.process.stderr.readline().rsplit(":", 1)[1])
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def _ask(self, method, path):
        try:
            self.connection.request(method, path)
            return json.loads(self.connection.getresponse().read())
        except (http.client.HTTPException, OSError):
            self.connection.close()
            self.connection.request(method, path)
            return json.loads(self.connection.getresponse().read())

    def stats(self):
        return self._ask("GET", "/stats")

    def reset(self):
        self._ask("POST", "/reset")

    def wait_for_requests(self, count, process=None, timeout=120):
        """Waits until so many requests came, or until `process` ended. Returns the number of requests."""
        end = time.monotonic() + timeout
        while (requests := self.stats()["requests"]) < count:
            if process is not None and process.poll() is not None:
                break
            if time.monotonic() > end:
                raise TimeoutError(f"{requests} of {count} requests after {timeout} s")
            time.sleep(0.002)
        return requests

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()
        stop(self.process)


def stop(process):
    """Ends a child that we started, by its process id, and waits for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


# --- spanscore --------------------------------------------------------------------------------------------------------


class Spanscore:
    """The binary with a store and a working folder of its own, and an environment without settings of the caller."""

    def __init__(self, path, folder, store=None):
        self.path = path
        self.folder = folder
        self.store = store or folder / "store"
        kept = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "RUST_BACKTRACE")
        self.environment = {k: v for k, v in os.environ.items() if k in kept}
        self.environment["SPANSCORE_STORE"] = str(self.store)

    def start(self, *arguments, env=None, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
        command = [str(self.path), *map(str, arguments)]
        environment = {**self.environment, **(env or {})}
        return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=stdout, stderr=stderr, text=True)

    def call(self, *arguments, env=None, timeout=900):
        """Runs to the end. Returns (exit code, stdout, stderr)."""
        process = self.start(*arguments, env=env)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            stop(process)
        return process.returncode, out, err

    def json(self, *arguments, env=None, codes=(0,), timeout=900):
        """The one JSON document that a command prints."""
        code, out, err = self.call(*arguments, "--format", "json", env=env, timeout=timeout)
        if code not in codes:
            raise RuntimeError(f"`spanscore {' '.join(map(str, arguments))}` ended with {code}: {err.strip()}")
        return json.loads(out)


class Server:
    """A running `spanscore serve` on ports of its own. `urls` holds what it printed: `ui`, `otlp/http`, `otlp/grpc`."""

    def __init__(self, spanscore, *flags, env=None, ports=("--listen", "--otlp-http", "--otlp-grpc"), stderr=None):
        free = [word for port in ports for word in (port, "127.0.0.1:0")]
        self.process = spanscore.start("serve", *free, *flags, env=env, stderr=stderr or subprocess.DEVNULL)
        self.urls = {}
        names = {"--listen": "ui", "--otlp-http": "otlp/http", "--otlp-grpc": "otlp/grpc"}
        while missing := {names[port] for port in ports} - self.urls.keys():
            line = self.process.stdout.readline()
            if not line:
                stop(self.process)
                raise RuntimeError(f"`spanscore serve` ended with {self.process.returncode} before it listened on {sorted(missing)}")
            name, _, url = line.strip().partition(" ")
            self.urls[name] = url.strip()

    def address(self, name):
        """Host and port."""
        host, port = self.urls[name].rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)
        return host, int(port)

    def ask(self, method, path, body=None, headers=None, name="ui", timeout=60):
        """One request on a connection of its own. Returns (status, headers with lowercase names, body)."""
        connection = http.client.HTTPConnection(*self.address(name), timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def memory(self, what="VmRSS"):
        """Resident memory in MB; with `VmHWM`, its peak."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{what}:"))

    def stop(self):
        stop(self.process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def suite(folder, dataset, url, name="acceptance", model="mock", **run):
    """Writes a suite that asks the load target, with a prompt whose user message is known to the letter."""
    (folder / "prompt.toml").write_text('system = "Answer True, False or NEE."\nuser = "{{ claim }} | {{ context }}"\n')
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in run.items())
    evaluators = json.dumps(EVALUATORS.split(","))
    path = folder / f"{name}.toml"
    path.write_text(
        f"""[suite]
name = "{name}"
dataset = {json.dumps(str(dataset))}
evaluators = {evaluators}
primary = "label_match"
[model]
provider = "openai"
name = "{model}"
base_url = "{url}"
[workflow]
kind = "assess_claims_with_context"
batch_size = 8
prompt = "prompt.toml"
[run]
{settings}
"""
    )
    return path


def user_message(row):
    """The last message that a suite of `suite` sends for a claim."""
    return f"{row['claim']} | {row['context']}"


# Fields of a report that may differ between two runs of the same thing.
VOLATILE_RUN = ("id", "name", "started_at", "ended_at", "duration_s", "git")
VOLATILE_TOP = ("latency_ms", "spans", "tags", "details")
VOLATILE_LOW = ("trace_id", "span_id", "trace_url")


def comparable(report):
    """A report without ids, times, latencies, attempts and span counts."""
    report = json.loads(json.dumps(report))
    for key in VOLATILE_RUN:
        report["run"].pop(key, None)
    for key in VOLATILE_TOP:
        report.pop(key, None)
    for low in report.get("lowest", []):
        for key in VOLATILE_LOW:
            low.pop(key, None)
    # Retries are what a fault costs; they are no result.
    report.pop("attempts", None)
    return report


def differences(a, b, path=""):
    """Where two JSON documents differ, as a list of paths with both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        found = []
        for key in sorted(set(a) | set(b)):
            found += differences(a.get(key, "(absent)"), b.get(key, "(absent)"), f"{path}.{key}")
        return found
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{path}[{i}]")]
    return [] if a == b and type(a) is type(b) else [f"{path}: {a!r} ≠ {b!r}"]


# --- the store's file -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def tables(store):
    """The store's database, read from a copy, so that looking at it can change nothing."""
    main = Path(store) / "spanscore.db"
    folder = Path(tempfile.mkdtemp(prefix="spanscore-copy-", dir=Path(store).parent))
    try:
        for suffix in ("", "-wal"):
            source = Path(f"{main}{suffix}")
            if source.exists():
                shutil.copyfile(source, folder / f"copy{suffix}")
        connection = sqlite3.connect(folder / "copy")
        try:
            yield connection
        finally:
            connection.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_traces(check, connection, what):
    """Every trace has one root and no orphan, no span is open, no span is there twice."""
    one = lambda sql: connection.execute(sql).fetchone()[0]
    count = one("SELECT count(*) FROM trace")
    roots = one(
        "SELECT count(*) FROM trace t WHERE (SELECT count(*) FROM span s WHERE s.trace = t.number AND s.parent IS NULL) <> 1"
    )
    orphans = one(
        "SELECT count(*) FROM span s WHERE s.parent IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM span p WHERE p.trace = s.trace AND p.span_id = s.parent)"
    )
    still_open = one("SELECT count(*) FROM span WHERE end IS NULL")
    twice = one(
        "SELECT count(*) FROM (SELECT trial FROM span WHERE name = 'assess_claim' GROUP BY run, trial HAVING count(*) > 1)"
    )
    unrecorded = one(
        "SELECT count(*) FROM (SELECT trace, span_id FROM span WHERE name = 'assess_claim' EXCEPT SELECT trace, span FROM trial)"
    )
    check(
        count > 0 and roots == orphans == still_open == twice == unrecorded == 0,
        f"{what}: {count} traces, {roots} without exactly one root, {orphans} orphans, {still_open} spans open,"
        f" {twice} trials with two spans, {unrecorded} spans of no trial",
    )


def interrupt(process, number=signal.SIGINT):
    """Sends a signal to a child that we started, if it still runs."""
    if process.poll() is None:
        process.send_signal(number)


# --- an OTLP receiver -------------------------------------------------------------------------------------------------


def needs_otlp_server():
    """Skips the script unless this Python has what tests/otlp_server.py needs."""
    try:
        import google.protobuf  # noqa: F401
        import grpc  # noqa: F401
        import opentelemetry.proto  # noqa: F401
    except ImportError as error:
        skip(f"{error}: run it with a Python that has tests/requirements.txt, such as test-venv/bin/python in the target folder")


class Collector:
    """A running tests/otlp_server.py and what it received."""

    def __init__(self, folder, name, http=0, grpc=None, **flags):
        self.out = folder / f"{name}.jsonl"
        command = [sys.executable, str(ROOT / "tests" / "otlp_server.py"), "--out", str(self.out), "--http", str(http)]
        if grpc is not None:
            command += ["--grpc", str(grpc)]
        for flag, value in flags.items():
            command += [f"--{flag.replace('_', '-')}", str(value)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.ports = {}
        for _ in range(1 if grpc is None else 2):
            protocol, _, address = self.process.stdout.readline().strip().partition(" ")
            self.ports[protocol] = int(address.rsplit(":", 1)[1])
        self.url = f"http://127.0.0.1:{self.ports['http']}"

    def lines(self):
        """What arrived, one dictionary per request and item."""
        if not self.out.exists():
            return []
        with open(self.out, encoding="utf-8") as lines:
            # A receiver that was killed may have left half a line at the end.
            return [json.loads(line) for line in lines if line.endswith("\n")]

    def stop(self):
        stop(self.process)

    def kill(self):
        self.process.kill()
        self.process.wait()
        stop(self.process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def identity(line):
    """What makes a received item the same as another one."""
    if line["signal"] == "traces":
        return ("span", line["trace_id"], line["span_id"])
    attributes = line["attributes"]
    return ("log", line["trace_id"], line["span_id"], line["event_name"], attributes.get("gen_ai.evaluation.name"))


def stored_items(store):
    """The identities of all spans, and how many log records there are, by the store's tables."""
    with tables(store) as db:
        spans = {
            ("span", trace.hex(), (span & (2**64 - 1)).to_bytes(8, "big").hex())
            for trace, span in db.execute("SELECT t.trace_id, s.span_id FROM span s JOIN trace t ON s.trace = t.number")
        }
        logs = db.execute("SELECT coalesce(sum(records), 0) FROM log").fetchone()[0]
    return spans, logs

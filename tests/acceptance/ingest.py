#!/usr/bin/env python3
"""What `spanscore serve` takes in: how fast, in how much memory, and that nothing acknowledged is lost.

- OTLP over HTTP protobuf, 5-span traces, 512 spans a request, from a load generator on the same cores: at least 50 000 spans
  a second on disk, and at least half of what a plain SQLite writer does with the same rows (prepared inserts of ready rows, a commit that waits for
  the disk after every 512 spans), turn by turn in the same run;
- peak memory of the server at most 150 MB, under that load and under overload;
- `kill -9` under load, ten times: 0 acknowledged spans are missing;
- overload: clients are told 503 with Retry-After, come later, and lose nothing;
- a file that unpacks a thousandfold is refused in less than 100 ms, and memory does not grow with it.

The load generator is `examples/otlp_load.rs`; it is built where cargo is, or named with --load.
"""

import contextlib
import gzip
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import common
from common import Checks, note

RATE = 50_000
RATIO = 0.5
MEMORY_MB = 150
KILLS = 10


class Serve:
    """A running `spanscore serve` on free ports."""

    def __init__(self, binary, store, *flags):
        ports = ["--listen", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0"]
        command = [str(binary), "--store", str(store), "serve", *ports, *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addresses = {}
        for _ in range(3):
            name, url = self.process.stdout.readline().split()
            self.addresses[name] = url.removeprefix("http://")
        self.http = self.addresses["otlp/http"]

    def memory(self, field="VmHWM"):
        """Peak (VmHWM) or present (VmRSS) memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024

    def cpu(self):
        """Processor seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, with_signal=signal.SIGTERM):
        self.process.send_signal(with_signal)
        return self.process.wait(timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)


def load(tool, *args):
    """What the load generator found, as it prints it."""
    done = subprocess.run([str(tool), *map(str, args)], capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"{tool} {args}: {done.stderr}")
    return json.loads(done.stdout)


def speed(check, binary, tool, folder, options):
    """Rounds of the server and of the plain writer, turn by turn."""
    rates, ratios, peaks = [], [], []
    for n in range(options.rounds):
        store = folder / f"speed{n}"
        with Serve(binary, store) as serve:
            sent = load(tool, "send", "--to", serve.http, "--seconds", options.seconds, "--connections", options.connections,
                        "--seed", n + 1, "--acked", folder / f"speed{n}.acked")
            peaks.append(serve.memory())
            cpu = serve.cpu()
            serve.stop()
        plain = load(tool, "replay", "--store", store, "--into", folder / f"plain{n}.db")
        found = load(tool, "verify", "--store", store, "--acked", folder / f"speed{n}.acked") if n == 0 else None
        rates.append(sent["spans_per_second"])
        ratios.append(sent["spans_per_second"] / plain["spans_per_second"])
        size = sum(file.stat().st_size for file in store.glob("spanscore.db*"))
        note(f"round {n + 1}: {rates[-1]:,.0f} spans/s on disk, plain writer {plain['spans_per_second']:,.0f}, "
             f"ratio {ratios[-1]:.2f}; answer p50 {sent['p50_ms']:.1f} ms, p95 {sent['p95_ms']:.1f} ms; "
             f"{cpu / sent['spans'] * 1e6:.1f} µs of processor and {size / sent['spans']:.0f} bytes a span; "
             f"peak {peaks[-1]:.0f} MB; {sent['overloads']} told to wait")
        if sent["errors"]:
            check(False, f"errors: {sent['errors']}")
        if found:
            check(found["missing"] == 0 and found["acknowledged"] == sent["spans"], f"of {found['acknowledged']:,} acknowledged spans {found['missing']} are missing")
        for file in [*store.glob("spanscore.db*"), *folder.glob(f"plain{n}.db*")]:
            file.unlink()
    rate, ratio = statistics.median(rates), statistics.median(ratios)
    check(rate >= RATE, f"{rate:,.0f} spans/s durable, median of {len(rates)} rounds, at least {RATE:,}")
    check(ratio >= RATIO, f"{ratio:.2f} of the plain writer of the same rows, median, at least {RATIO}")
    check(max(peaks) <= MEMORY_MB, f"peak memory {max(peaks):.0f} MB, at most {MEMORY_MB}")


def kills(check, binary, tool, folder):
    """One store, killed ten times while it is written."""
    store, acked = folder / "kills", []
    for n in range(KILLS):
        with Serve(binary, store) as serve:
            acked.append(folder / f"kill{n}.acked")
            sender = subprocess.Popen([str(tool), "send", "--to", serve.http, "--seconds", "30", "--seed", str(100 + n), "--acked", str(acked[-1])],
                                      stdout=subprocess.PIPE, text=True)
            time.sleep(0.5 + 0.13 * n)
            serve.stop(signal.SIGKILL)
            sent = json.loads(sender.communicate(timeout=60)[0])
            if not sent["spans"]:
                check(False, f"kill {n + 1} came before anything was acknowledged")
    with Serve(binary, store) as serve:
        serve.stop()
    flags = [flag for file in acked for flag in ("--acked", file)]
    found = load(tool, "verify", "--store", store, *flags)
    check(found["missing"] == 0 and found["acknowledged"] > 0,
          f"kill -9 {KILLS} times under load: {found['missing']} of {found['acknowledged']:,} acknowledged spans missing")


def overload(check, binary, tool, folder):
    """More clients with larger requests than the server has room for."""
    store, acked = folder / "overload", folder / "overload.acked"
    with Serve(binary, store) as serve:
        sent = load(tool, "send", "--to", serve.http, "--seconds", 60, "--connections", 48, "--text", 2000, "--spans", 48 * 512 * 12,
                    "--seed", 7, "--acked", acked)
        peak = serve.memory()
        serve.stop()
    found = load(tool, "verify", "--store", store, "--acked", acked)
    check(sent["overloads"] > 0, f"48 clients with requests of {sent['request_bytes'] / 1e6:.1f} MB: told to wait {sent['overloads']} times")
    check(not sent["errors"] and found["missing"] == 0 and found["acknowledged"] == 48 * 512 * 12,
          f"all came again and nothing is lost: {found['missing']} of {found['acknowledged']:,} missing, errors {sent['errors']}")
    check(peak <= MEMORY_MB, f"peak memory under overload {peak:.0f} MB, at most {MEMORY_MB}")


def bombs(check, binary, folder):
    """Files that unpack a thousandfold, of one member and of several."""
    one = gzip.compress(bytes(1 << 30), 9)
    many = b"".join(gzip.compress(bytes(1 << 20), 9) for _ in range(200))
    with Serve(binary, folder / "bombs") as serve:
        host, port = serve.http.split(":")
        before, slowest, statuses = serve.memory("VmHWM"), 0.0, set()
        for bomb in [one, many] * 10:
            with contextlib.closing(socket.create_connection((host, int(port)))) as connection:
                start = time.perf_counter()
                head = (f"POST /v1/traces HTTP/1.1\r\nHost: {serve.http}\r\nContent-Type: application/x-protobuf\r\n"
                        f"Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: {len(bomb)}\r\n\r\n")
                connection.sendall(head.encode() + bomb)
                statuses.add(connection.recv(65536).split(b" ")[1])
                slowest = max(slowest, time.perf_counter() - start)
        grown = serve.memory("VmHWM") - before
        serve.stop()
    check(statuses == {b"413"} and slowest < 0.1 and grown < 40,
          f"20 gzip bombs ({len(one) / 1e6:.1f} MB and {len(many) / 1e6:.1f} MB): {statuses}, slowest {slowest * 1e3:.0f} ms, memory grew by {grown:.0f} MB")


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--load", type=Path, help="the built load generator; default: beside the binary, built by cargo")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the speed test")
    parser.add_argument("--seconds", type=float, default=8, help="seconds of each round")
    parser.add_argument("--connections", type=int, default=4, help="clients in the speed test")
    parser.add_argument("--only", choices=["speed", "kills", "overload", "bombs"])
    options = parser.parse_args()
    binary, check = common.binary(options), Checks()
    tool = options.load or binary.parent / "examples" / "otlp_load"
    if not options.load:
        subprocess.run(["cargo", "build", "--quiet", "--release", "--example", "otlp_load"], cwd=common.ROOT, check=True)
    with common.workspace(options) as folder:
        parts = {"speed": lambda: speed(check, binary, tool, folder, options), "kills": lambda: kills(check, binary, tool, folder),
                 "overload": lambda: overload(check, binary, tool, folder), "bombs": lambda: bombs(check, binary, folder)}
        for name, part in parts.items():
            if options.only in (None, name):
                part()
    check.exit()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Memory does not grow with the dataset.

Runs `spanscore run` over a small and a large generated dataset, as CSV and as JSON Lines, at zero latency with tracing on,
and takes the peak resident set of the process from the kernel. Checked for each format:

- the peak stays below `--limit-mb` at both sizes;
- from the small to the large dataset it grows by at most `--bytes-per-case` for each further case;
- `show` of the large run stays below the limit as well.

The large run takes minutes and a few gigabytes in the temporary folder (`--tmp` chooses another).
"""

import os
import threading
import time

import common
from common import Checks, Mock, Spanscore, note


def peak(spanscore, *arguments):
    """Runs to the end. Returns (exit code, peak resident set in bytes, seconds, CPU seconds, stdout's length)."""
    start = time.monotonic()
    process = spanscore.start(*arguments, stderr=None)
    read = []
    reader = threading.Thread(target=lambda: read.append(process.stdout.read()))
    reader.start()
    # The kernel counts a child's peak from the fork on, when it still shares this small process's pages.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    common.stop(process)
    cpu = usage.ru_utime + usage.ru_stime
    return process.returncode, usage.ru_maxrss * 1024, time.monotonic() - start, cpu, read[0]


def main():
    parser = common.arguments(__doc__, mock=True)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--formats", default="csv,jsonl")
    parser.add_argument("--limit-mb", type=float, default=200)
    parser.add_argument("--bytes-per-case", type=float, default=64)
    parser.add_argument("--concurrency", default="64")
    options = parser.parse_args()
    binary, mockllm = common.binary(options), common.tool("mockllm", options.mockllm)
    check = Checks()
    with common.workspace(options) as folder:
        for ending in options.formats.split(","):
            peaks = {}
            for count in (options.small, options.large):
                data = common.write_claims(folder / f"claims-{count}.{ending}", count)
                spanscore = Spanscore(binary, folder, folder / f"store-{ending}-{count}")
                # The load target remembers every message, so each run gets a fresh one.
                with Mock(mockllm) as mock:
                    concurrency = int(options.concurrency) if options.concurrency.isdigit() else options.concurrency
                    suite = common.suite(folder, data, mock.url, concurrency=concurrency)
                    code, rss, seconds, cpu, out = peak(
                        spanscore, "run", suite, "--format", "json", "--quiet")
                report = common.json.loads(out) if out else {"trials": None}
                peaks[count] = rss
                size = sum(f.stat().st_size for f in spanscore.store.rglob("*") if f.is_file())
                note(f"{ending}, {count} cases: {seconds:.0f} s ({count / seconds:.0f}/s), {cpu:.0f} s of CPU,"
                     f" store {size / 1e6:.0f} MB = {size / count:.0f} bytes a case")
                check(code == 0 and report["trials"] and report["trials"]["completed"] == count,
                      f"{ending}, {count} cases: ends with {code}, trials {report['trials']}")
                check(rss <= options.limit_mb * 1e6,
                      f"{ending}, {count} cases: peak resident set {rss / 1e6:.1f} MB (limit {options.limit_mb:.0f})")
                code, rss, seconds, _, _ = peak(spanscore, "show", "latest", "--format", "json")
                check(code == 0 and rss <= options.limit_mb * 1e6,
                      f"{ending}, {count} cases: `show` takes {rss / 1e6:.1f} MB and {seconds:.1f} s")
                data.unlink()
                common.shutil.rmtree(spanscore.store)
            growth = (peaks[options.large] - peaks[options.small]) / (options.large - options.small)
            check(growth <= options.bytes_per_case,
                  f"{ending}: {growth:.1f} bytes more for each further case (limit {options.bytes_per_case:.0f})")
    check.exit()


if __name__ == "__main__":
    main()

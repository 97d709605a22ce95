#!/usr/bin/env python3
"""The nightly recipe on a clean clone: PASS on an unchanged night, FAIL with a prompt that is spoiled on purpose.

Runs `.ci/nightly` as the workflow does, three nights over one store, and checks exit codes, the report's files, that the
Markdown names regressed cases with traces which are in the store, and that `trend` knows all nights.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
failures = 0


def check(holds, line):
    global failures
    failures += not holds
    print(f"{'ok  ' if holds else 'FAIL'}  {line}", flush=True)


def night(clone, binary, suite="spanscore.toml"):
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = {**kept, "SPANSCORE": str(binary), "GITHUB_STEP_SUMMARY": str(clone / "summary.md"), "GITHUB_ACTIONS": "true"}
    return subprocess.run([".ci/nightly", suite], cwd=clone, env=environment, capture_output=True, text=True, timeout=600)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    binary = parser.parse_args().binary.resolve()
    with tempfile.TemporaryDirectory(prefix="spanscore-") as folder:
        clone = Path(folder) / "clone"
        # What is committed or about to be: no store, no build, no report of this machine.
        listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            if (ROOT / name).is_file():
                (clone / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, clone / name)
        first, second = night(clone, binary), night(clone, binary)
        for done, name in ((first, "first"), (second, "second")):
            check(done.returncode == 0, f"the {name} night ends with {done.returncode}: {done.stderr.strip()[-300:] if done.returncode else 'PASS'}")
        out = clone / "reports" / "nightly"
        sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir())} if out.is_dir() else {}
        check({"report.html", "report.md", "junit.xml", "report.json"} <= sizes.keys() and all(sizes.values()), f"its reports: {sizes}")
        check("PASS" in (clone / "summary.md").read_text(), "the job's summary has the verdict")
        (clone / "spoiled.toml").write_text('system = "Say what you think of it."\nuser = "{{ claim }}"\n')
        suite = (clone / "spanscore.toml").read_text().replace("batch_size = 8", 'batch_size = 8\nprompt = "spoiled.toml"')
        (clone / "spoiled-suite.toml").write_text(suite)
        spoiled = night(clone, binary, "spoiled-suite.toml")
        check(spoiled.returncode == 1, f"a night with a spoiled prompt ends with {spoiled.returncode}, expected 1 (FAIL): {spoiled.stderr.strip()[-300:]}")
        markdown = (out / "report.md").read_text()
        cases, traces = set(re.findall(r"claims-\d{3}", markdown)), set(re.findall(r"\b[0-9a-f]{32}\b", markdown))
        check("FAIL" in markdown and len(cases) >= 10 and len(traces) >= 10, f"its report names {len(cases)} cases and {len(traces)} traces")
        known = [subprocess.run([binary, "trace", trace], cwd=clone, capture_output=True).returncode == 0 for trace in sorted(traces)[:20]]
        # The traces of the committed baseline were recorded elsewhere: what the store has are this night's.
        check(sum(known) >= 5, f"{sum(known)} of {len(known)} of these traces are in the store")
        check("prompt" in markdown, "it says that the prompt differs")
        check("::error" in spoiled.stdout + spoiled.stderr, "the failure is annotated for GitHub")
        lines = [line for line in spoiled.stdout.splitlines() if re.match(r"\s+\d{8}-\d{6}-", line)]
        check(len(lines) >= 3, f"the trend knows {len(lines)} nights")
    sys.exit(f"{failures} checks failed" if failures else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The pages of `spanscore serve` in a real browser: Debian's Chromium, driven by playwright-core.

Makes a store with the demo run twice, telemetry of other applications and text that wants to be executed, serves it, and runs
scenarios.cjs over it:

- way: from `/` over the confusion matrix to a case, its trace, the model's span and the next low score; by mouse, by keyboard
  alone, and with JavaScript off;
- live: counts move while a run goes on, without a reload, and typed text and focus stay;
- screens: every screen, light and dark, wide and narrow: no console error, no violation of the content security policy, no
  failed request, no serious fault found by axe-core; a screenshot of each into the target folder;
- hostile: text that attacks in every place that holds text; no script of it runs.

Needs node and npm, and chromium (installed with apt-get where that is possible); skips loudly without them.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "acceptance"))
sys.dont_write_bytecode = True

import common  # noqa: E402
import hostile  # noqa: E402
import telemetry as t  # noqa: E402
from common import Server, Spanscore, note, skip  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium():
    """The browser; installed where this is Debian or alike and we are root."""
    if given := os.environ.get("CHROMIUM"):
        return given
    for _ in range(2):
        for name in BROWSERS:
            if found := shutil.which(name):
                return found
        if not shutil.which("apt-get") or os.geteuid() != 0:
            break
        note("installing chromium with apt-get")
        subprocess.run(["apt-get", "update", "-q"], stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"], stdout=subprocess.DEVNULL)
    return skip("NO BROWSER TESTS RAN: install chromium (Debian: `apt-get install chromium`) or name one in CHROMIUM")


def modules(target):
    """The folder with playwright-core and axe-core."""
    if not shutil.which("node") or not shutil.which("npm"):
        skip("NO BROWSER TESTS RAN: they need node and npm (https://nodejs.org)")
    folder, wanted = target / "test-js" / "browser", HERE / "package.json"
    installed = folder / "installed.json"
    if not installed.is_file() or installed.read_bytes() != wanted.read_bytes():
        note(f"installing tests/browser/package.json into {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(wanted, folder / "package.json")
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        if subprocess.run(install, cwd=folder).returncode:
            skip("NO BROWSER TESTS RAN: npm could not install playwright-core and axe-core")
        shutil.copyfile(wanted, installed)
    return folder


def demo(spanscore):
    """Two runs of the demo suite, so that there is a run before the latest one, and a verdict on the latter. Returns their
    reports, oldest first."""
    suite = common.ROOT / "spanscore.toml"
    before = spanscore.json("run", suite, "--name", "before", "--no-progress", "--limit", "60", "--concurrency", "8")
    spanscore.call("baseline", "save", "latest", "-o", "baseline.json")
    # Sixty cases of a baseline do not decide on a hundred and twenty.
    after = spanscore.json("run", suite, "--name", "after", "--no-progress", "--limit", "120", "--gate", "baseline.json", codes=(0, 1, 3))
    return [before, after]


def slow_suite(folder):
    """A suite whose run takes a while: a claim a fifth of a second."""
    common.write_claims(folder / "slow.jsonl", 150)
    path = folder / "slow.toml"
    path.write_text("""[suite]
name = "slow"
dataset = "slow.jsonl"
evaluators = ["label_match", "valid_label", "abstention"]
primary = "label_match"
[model]
provider = "builtin"
name = "lexical-baseline"
[workflow]
kind = "assess_claims_with_context"
batch_size = 4
[run]
concurrency = 1
""")
    return path


def main():
    parser = common.arguments(__doc__)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or common.ROOT / "target").resolve()
    parser.add_argument("--only", action="append", choices=["way", "live", "screens", "hostile"], help="these scenarios only")
    parser.add_argument("--screens", type=Path, default=target / "test-screens", help="folder for the screenshots")
    parser.add_argument("--script", metavar="FILE", help="run this script of node instead, to look into something")
    parser.add_argument("arguments", nargs="*", help="arguments of that script")
    options = parser.parse_args()
    path = common.binary(options)
    config = {"modules": str(modules(target)), "chromium": chromium(), "screens": str(options.screens.resolve()),
              "only": options.only or ["way", "live", "screens", "hostile"]}
    options.screens.mkdir(parents=True, exist_ok=True)
    with common.workspace(options) as folder:
        spanscore = Spanscore(path, folder)
        runs = demo(spanscore)
        attacked = Spanscore(path, folder, folder / "hostile")
        hostile.run(attacked, folder)
        with Server(spanscore) as server, Server(attacked) as attacked_server, \
                Server(Spanscore(path, folder, folder / "empty")) as empty_server:
            start = t.now()
            t.send(server, t.traces(t.conversation(1, start), service="agent"))
            t.send(server, t.traces(t.conversation(2, start, text="Why is grass green?", answer="Chlorophyll.", low=0.9), service="agent"))
            t.send(server, t.logs([t.log("a log record on the model's span", 1, 18), t.log({"role": "user", "content": "hi"}, 1, 18, "gen_ai.user.message")]))
            t.send(server, t.traces(t.odd(3, start), service="odd"))
            for first in range(0, 3000, 500):
                t.send(server, t.traces(list(t.deep(4, 3000, start=start))[first:first + 500], service="deep"))
            hostile.telemetry(attacked_server)
            case = next(low for low in runs[1]["lowest"])
            config |= {
                "ui": server.urls["ui"].rstrip("/"), "hostile": attacked_server.urls["ui"].rstrip("/"),
                "empty": empty_server.urls["ui"].rstrip("/"), "attacks": hostile.ATTACKS,
                "runs": [report["run"]["id"] for report in runs], "dataset": runs[1]["run"]["dataset"]["name"],
                "case": case["case_id"], "trace": case["trace_id"], "span": case["span_id"],
                "traces": {name: t.trace_id(n) for name, n in [("agent", 1), ("other", 2), ("odd", 3), ("deep", 4)]},
                "chat": t.span_id(18),
                "slow": {"command": str(path), "arguments": ["run", str(slow_suite(folder)), "--rpm", "300", "--no-progress", "--quiet"],
                         "folder": str(folder), "environment": spanscore.environment, "cases": 150},
            }
            written = folder / "config.json"
            written.write_text(json.dumps(config))
            if options.script:
                sys.exit(subprocess.run(["node", options.script, str(written), *options.arguments], cwd=folder).returncode)
            done = subprocess.run(["node", str(HERE / "scenarios.cjs"), str(written)], cwd=folder)
            for name, running in [("serve", server), ("serve of the hostile store", attacked_server)]:
                if running.process.poll() is not None:
                    sys.exit(f"{name} ended with {running.process.returncode}")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()

"""The duplicate-delivery test on consumers in Python, through the real binary.

    python3 compat/duplicates/run.py WHARF 127.0.0.1:9092 [words of the cases' names]

Broken consumers have to be found, each by a schedule that shows what is wrong with it, and correct
ones not be blamed. One line per case, closing with `N passed, N failed`.
"""

import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).parent
CASE_SECONDS = 600

# For each consumer the exit code, the verdict, and the schedules one of which must be the shortest;
# the numbers are those of the messages by rank.
CASES = {
    "with_inbox": (0, "idempotent", [None]),
    "with_derived_ids": (0, "idempotent", [None]),
    "without_memory": (1, "not-idempotent", ["1 1+"]),
    "in_memory": (1, "not-idempotent", ["1x 1", "1 restart 1+", "1 back1"]),
    "last_writer": (1, "not-idempotent", ["1 2 1+"]),
    "with_new_ids": (1, "not-idempotent", ["1 1+"]),
}


def quoted(words):
    return " ".join(f"'{word}'" for word in words)


def command(wharf, broker, way, folder, *more):
    base = [wharf, "test", "duplicates", "--broker", broker, "--topic", f"deposits-{way}"]
    consumer = [sys.executable, HERE / "consumer.py", "{broker}", "{topic}", "{group}"]
    rows = [sys.executable, HERE / "probe.py", f"{folder}/{{run}}.db"]
    return base + [
        "--group", f"booking-{way}",
        "--messages", HERE / "messages.jsonl",
        "--run", "exec " + quoted([*consumer, f"{folder}/{{run}}.db", way]),
        "--probe", quoted(rows),
        "--emitted", "{topic}.booked",
        "--runs", "2",
        "--junit", f"{folder}/junit.xml",
        "-o", "json",
        *more,
    ]


def ranked(schedule):
    """The schedule with its messages numbered from 1."""
    numbers = sorted({int("".join(filter(str.isdigit, word.split("x")[0])))
                      for word in schedule.split() if word[0].isdigit()})
    def rank(word):
        if not word[0].isdigit():
            return word
        digits = len(word) - len(word.lstrip("0123456789"))
        return f"{numbers.index(int(word[:digits])) + 1}{word[digits:]}"
    return " ".join(map(rank, schedule.split()))


def equal(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: found {found!r:.800}, wanted {wanted!r:.400}")


def judged(wharf, broker, way):
    code, verdict, minimal = CASES[way]
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(command(wharf, broker, way, folder), capture_output=True, text=True,
                             timeout=CASE_SECONDS)
        equal(run.returncode, code, f"exit code, stdout {run.stdout!r:.600}, stderr {run.stderr[-1500:]!r}")
        report = json.loads(run.stdout)
        equal(report["verdict"], verdict, "verdict")
        failures = [case["failure"] for case in report["cases"] if case["failure"]]
        found = ranked(failures[-1]["schedule"]) if failures else None
        if found not in minimal:
            raise AssertionError(f"found by {found!r} instead of {minimal}")
        suite = xml.etree.ElementTree.parse(f"{folder}/junit.xml").getroot()[0]
        equal(suite.tag, "testsuite", "tag of the JUnit report")
        equal(int(suite.get("failures")), len(failures), "failures in the JUnit report")
        equal(len(suite.findall("testcase/failure")), len(failures), "failed cases in it")
        if failures:
            again = subprocess.run(
                command(wharf, broker, way, folder, "--schedule", failures[-1]["schedule"]),
                capture_output=True, text=True, timeout=CASE_SECONDS)
            equal(again.returncode, code, f"exit code of the schedule alone: {again.stderr[-1500:]!r}")


def main():
    wharf, broker, words = sys.argv[1], sys.argv[2], sys.argv[3:]
    chosen = [way for way in CASES if not words or any(word in way for word in words)]
    began, failed = time.monotonic(), 0
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        running = {pool.submit(judged, wharf, broker, way): way for way in chosen}
        for ended in concurrent.futures.as_completed(running):
            name = running[ended].replace("_", " ")
            error = ended.exception()
            took = f"({time.monotonic() - began:.1f} s)"
            print(f"FAIL {name}: {error}" if error else f"ok   {name} {took}", flush=True)
            failed += error is not None
    print(f"{len(chosen) - failed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not chosen else 0)


main()

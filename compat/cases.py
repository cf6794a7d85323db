"""Runs named cases of one client against a broker that is already there.

    python3 compat/CLIENT/run.py 127.0.0.1:9092 [words of the cases' names]

One line per case, and one for each thing it says of the broker (`says`), closing with
`N passed, N failed`; the exit code is 1 when a case failed. Cases make their own topics and groups
under names nobody else uses, so they run against any broker, also one that is in use, and in any
order.
"""

import json
import signal
import sys
import time
import traceback
import uuid

CASE_SECONDS = 90
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]

_cases = []
_running = None


def case(function):
    """Registers a case; its name is the function's, its argument the broker's address."""
    _cases.append(function)
    return function


def fresh(what):
    """A name that nobody else uses."""
    return f"compat-{what}-{uuid.uuid4().hex[:12]}"


def equal(found, wanted, what="value"):
    """Fails unless both are the same; shows the beginnings of both."""
    if found != wanted:
        raise AssertionError(f"{what}: found {found!r:.400}, wanted {wanted!r:.400}")


def says(what, answer):
    """Prints what the broker said; the test run compares it with what another broker said."""
    print(f"says {_running}: {what}: {json.dumps(answer, sort_keys=True)}", flush=True)


def until(condition, what, seconds=30):
    """Waits until `condition()` answers something true and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def next_millisecond():
    """Waits until the clock shows the next millisecond; returns that time."""
    now = int(time.time() * 1000)
    while int(time.time() * 1000) <= now:
        time.sleep(0.0005)
    return now + 1


def raises(error, call, *arguments, **named):
    """Fails unless the call raises `error`; returns what was raised."""
    try:
        call(*arguments, **named)
    except error as raised:
        return raised
    raise AssertionError(f"{error} was not raised")


def _out_of_time(_signal, _frame):
    raise TimeoutError(f"the case took longer than {CASE_SECONDS} s")


def main():
    """Runs the registered cases; the exit code says whether all passed."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    global _running
    address, words = sys.argv[1], sys.argv[2:]
    signal.signal(signal.SIGALRM, _out_of_time)
    passed = failed = 0
    for function in _cases:
        name = function.__name__.replace("_", " ")
        if words and not any(word in name for word in words):
            continue
        _running, began = name, time.monotonic()
        signal.alarm(CASE_SECONDS)
        try:
            function(address)
        except Exception as error:  # noqa: BLE001 (a case may fail in any way)
            failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc(limit=-4, file=sys.stdout)
        else:
            passed += 1
            print(f"ok   {name} ({time.monotonic() - began:.1f} s)", flush=True)
        finally:
            signal.alarm(0)
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not passed else 0)

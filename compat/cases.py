"""Runs named cases of one client against a broker that is already there.

    python3 compat/CLIENT/run.py 127.0.0.1:9092 [words of the cases' names]
    python3 compat/CLIENT/run.py --list

One line per case, and one for each thing it says of the broker (`says`), closing with
`N passed, N failed`; the exit code is 1 when a case failed. Cases make their own topics and groups
under names nobody else uses, so they run against any broker, also one that is in use, and in any
order. Cases that are coroutines, and those of a script that says so, run together, a few at a time. What the client itself lacks is
printed as `SKIP FEATURE: why`; `--list` names the feature of each case, a column of the table in
`compat/README.md`.
"""

import asyncio
import contextvars
import inspect
import json
import os
import signal
import sys
import time
import traceback
import uuid

CASE_SECONDS = 90
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]

TOGETHER = 6

_cases = []
_lacking = {}
_running = contextvars.ContextVar("case")


def case(feature):
    """Registers a case for a feature; its name is the function's, its argument the address."""
    if callable(feature):
        return case("other")(feature)

    def register(function):
        _cases.append((feature, function.__name__.replace("_", " "), function))
        return function
    return register


def lacks(feature, why):
    """Tells that the client itself cannot do something that others can."""
    _lacking[feature] = why


def fresh(what):
    """A name that nobody else uses."""
    return f"compat-{what}-{uuid.uuid4().hex[:12]}"


def equal(found, wanted, what="value"):
    """Fails unless both are the same; shows the beginnings of both."""
    if found != wanted:
        raise AssertionError(f"{what}: found {found!r:.400}, wanted {wanted!r:.400}")


def says(what, answer):
    """Prints what the broker said; the test run compares it with what another broker said."""
    print(f"says {_running.get()}: {what}: {json.dumps(answer, sort_keys=True)}", flush=True)


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


class _Outcome:
    """Counts, and prints one line per case."""

    def __init__(self):
        self.passed = self.failed = 0
        self.hangs = False

    def ended(self, name, began, error=None):
        if error is None:
            self.passed += 1
            print(f"ok   {name} ({time.monotonic() - began:.1f} s)", flush=True)
            return
        self.failed += 1
        print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
        traceback.print_exception(error, limit=-4, file=sys.stdout)

    def run(self, address, name, function):
        """A case that has the whole program to itself."""
        began = time.monotonic()
        _running.set(name)
        signal.alarm(CASE_SECONDS)
        try:
            function(address)
        except Exception as error:  # noqa: BLE001 (a case may fail in any way)
            self.ended(name, began, error)
        else:
            self.ended(name, began)
        finally:
            signal.alarm(0)

    async def run_together(self, address, cases):
        """Cases that give way to each other."""
        places = asyncio.Semaphore(TOGETHER)

        async def one(name, function):
            async with places:
                began = time.monotonic()
                _running.set(name)
                try:
                    await asyncio.wait_for(function(address), CASE_SECONDS)
                except TimeoutError as error:
                    self.hangs = True
                    self.ended(name, began, error)
                except Exception as error:  # noqa: BLE001 (a case may fail in any way)
                    self.ended(name, began, error)
                else:
                    self.ended(name, began)

        await asyncio.gather(*(one(name, function) for name, function in cases))

    def close(self):
        """Prints the counts and ends the program, at once where a case may hang in its thread."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        (os._exit if self.hangs else sys.exit)(1 if self.failed or not self.passed else 0)


def _in_thread(function):
    async def run(address):
        await asyncio.to_thread(function, address)
    return run


def main(together=False):
    """Runs the registered cases; the exit code says whether all passed. Cases that may run
    `together` have nothing in common but this program."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    address, words = sys.argv[1], sys.argv[2:]
    for feature, why in _lacking.items():
        print(f"SKIP {feature}: {why}", flush=True)
    if address == "--list":
        for feature, name, _ in _cases:
            print(f"CASE {feature}: {name}")
        return
    signal.signal(signal.SIGALRM, _out_of_time)
    outcome, waiting = _Outcome(), []
    for _, name, function in _cases:
        if words and not any(word in name for word in words):
            continue
        if inspect.iscoroutinefunction(function):
            waiting.append((name, function))
        elif together:
            waiting.append((name, _in_thread(function)))
        else:
            outcome.run(address, name, function)

    async def rest():
        await outcome.run_together(address, waiting)
        outcome.close()

    asyncio.run(rest())

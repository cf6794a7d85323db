"""The load on a peer whose client is a Python library: the same loops for all of them, and what their
workers do for a step.

A line of JSON on the standard input asks for a load; the answer is a line of JSON.
"""

import asyncio
import json
import sys
import time

STEPS = ["reserve", "charge", "arrange", "invoice", "confirm"]


class Work:
    """A trivial effect, and the time since the step before it."""

    def __init__(self):
        self.last = {}
        self.clear()

    def clear(self):
        self.effects = 0
        self.undos = 0
        self.gaps = []

    def act(self, saga, step):
        self.effects += 1
        now = time.perf_counter()
        before = self.last.pop(saga, None)
        if before is not None:
            self.gaps.append((now - before) * 1e3)
        if step != STEPS[-1]:
            self.last[saga] = now
        return {"done": step}

    def undo(self, saga, step):
        self.undos += 1
        self.last.pop(saga, None)
        return {"undone": step}


WORK = Work()


def quantile(values, at):
    if not values:
        return None
    values = sorted(values)
    return values[min(len(values) - 1, int(at * len(values)))]


async def load(run, wanted):
    """As many sagas at once as wanted, or so many a second, for so long; all of them to their end."""
    WORK.clear()
    fails, seconds = wanted.get("fails", False), wanted["seconds"]
    taken = []
    began = time.perf_counter()
    end = began + seconds

    async def one(due):
        outcome = await run(fails)
        expected = "undone" if fails else "completed"
        if outcome != expected:
            raise RuntimeError(f"a saga ended {outcome}, not {expected}")
        taken.append((time.perf_counter() - due) * 1e3)

    async def one_after_the_other():
        while (now := time.perf_counter()) < end:
            await one(now)

    if "rate" in wanted:
        tasks, due = [], began
        while due < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(due)))
            due += 1 / wanted["rate"]
        await asyncio.gather(*tasks)
    else:
        await asyncio.gather(*(one_after_the_other() for _ in range(wanted["at_once"])))
    return {
        "rate": len(taken) / (time.perf_counter() - began),
        "sagas": len(taken),
        "p50": quantile(taken, 0.5),
        "p99": quantile(taken, 0.99),
        "effects": WORK.effects,
        "undos": WORK.undos,
        "step_p50": quantile(WORK.gaps, 0.5),
        "step_p99": quantile(WORK.gaps, 0.99),
    }


async def serve(run):
    """Answers every line of the standard input until it ends."""
    print("{}", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer = await load(run, json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever it is, the page says it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)

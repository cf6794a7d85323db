"""A saga of five activities as Temporal's documentation writes one, its worker, and the load on it.

Usage: temporal_saga.py ADDRESS
"""

import asyncio
import sys
import uuid
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    import load

QUEUE = "saga"
PATIENCE = timedelta(seconds=60)


@activity.defn
async def act(saga: str, step: str) -> dict:
    return load.WORK.act(saga, step)


@activity.defn
async def undo(saga: str, step: str) -> dict:
    return load.WORK.undo(saga, step)


@workflow.defn
class Saga:
    @workflow.run
    async def run(self, fails: bool) -> str:
        saga, done = workflow.info().workflow_id, []
        for step in load.STEPS:
            done.append(step)
            await workflow.execute_activity(act, args=[saga, step], start_to_close_timeout=PATIENCE)
        if not fails:
            return "completed"
        for step in reversed(done):
            await workflow.execute_activity(undo, args=[saga, step], start_to_close_timeout=PATIENCE)
        return "undone"


async def main():
    client = await Client.connect(sys.argv[1])

    async def run(fails):
        return await client.execute_workflow(Saga.run, fails, id=str(uuid.uuid4()), task_queue=QUEUE)

    async with Worker(client, task_queue=QUEUE, workflows=[Saga], activities=[act, undo]):
        await load.serve(run)


if __name__ == "__main__":
    asyncio.run(main())

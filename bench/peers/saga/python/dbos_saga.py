"""A saga of five steps with DBOS, which runs in the process of its caller, and the load on it.

Usage: dbos_saga.py DATABASE-URL
"""

import asyncio
import sys
import uuid

import load
from dbos import DBOS, DBOSConfig, SetWorkflowID


@DBOS.step()
async def act(saga: str, step: str) -> dict:
    return load.WORK.act(saga, step)


@DBOS.step()
async def undo(saga: str, step: str) -> dict:
    return load.WORK.undo(saga, step)


@DBOS.workflow()
async def saga(fails: bool) -> str:
    me, done = DBOS.workflow_id, []
    for step in load.STEPS:
        done.append(step)
        await act(me, step)
    if not fails:
        return "completed"
    for step in reversed(done):
        await undo(me, step)
    return "undone"


async def run(fails):
    with SetWorkflowID(str(uuid.uuid4())):
        return await saga(fails)


async def main():
    await load.serve(run)


config: DBOSConfig = {"name": "saga", "system_database_url": sys.argv[1], "log_level": "ERROR"}
DBOS(config=config)
DBOS.launch()
asyncio.run(main())

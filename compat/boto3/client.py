"""What the cases of Amazon's clients share: a client that signs, machines, and workers."""

import json
import pathlib
import sys
import threading

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import fresh, raises, until  # noqa: E402

KEY, SECRET = "AKIACOMPAT", "a secret of the tests"
ROLE = "arn:aws:iam::123456789012:role/compat"


def states(address, key=KEY, secret=SECRET):
    """A client as services have one; `sync-` is no host of ours, and nothing is tried twice."""
    config = Config(inject_host_prefix=False, read_timeout=70, retries={"total_max_attempts": 1})
    return boto3.client("stepfunctions", endpoint_url=f"http://{address}", region_name="eu-west-1",
                        aws_access_key_id=key, aws_secret_access_key=secret, config=config)


def refused(kind, call, *arguments, **named):
    """Fails unless the call is refused with this exception; returns its message."""
    error = raises(ClientError, call, *arguments, **named)
    found = error.response["Error"]
    assert found["Code"] == kind, f"found {found}, wanted {kind}"
    assert found["Message"], "the error has no message"
    return found["Message"]


def machine(client, definition, **more):
    """Deploys a definition under a fresh name; returns its ARN."""
    name = fresh("machine")
    made = client.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE,
                                       **more)
    assert made["stateMachineArn"].endswith(f":stateMachine:{name}"), made
    return made["stateMachineArn"]


def passing(**more):
    """A machine with one Pass state."""
    return {"StartAt": "Only", "States": {"Only": {"Type": "Pass", "End": True} | more}}


def ended(client, execution):
    """Waits for the end of an execution; returns its description."""
    def look():
        found = client.describe_execution(executionArn=execution)
        return found if found["status"] != "RUNNING" else None
    return until(look, f"the end of {execution}")


class Worker:
    """Asks for the tasks of an activity in a thread, and answers each with what `does` returns."""

    def __init__(self, address, name, does):
        self.client, self.does = states(address), does
        self.arn = self.client.create_activity(name=name)["activityArn"]
        self.seen, self.stopped = [], threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopped.is_set():
            task = self.client.get_activity_task(activityArn=self.arn, workerName="compat")
            if not task.get("taskToken"):
                continue
            arguments = json.loads(task["input"])
            self.seen.append(arguments)
            try:
                output = self.does(arguments)
            except Exception as error:  # noqa: BLE001 (whatever the worker raises is its failure)
                self.client.send_task_failure(taskToken=task["taskToken"],
                                              error=type(error).__name__, cause=str(error))
            else:
                self.client.send_task_success(taskToken=task["taskToken"],
                                              output=json.dumps(output))

"""The AWS command line, as a person or a pipeline uses it."""

import json
import os
import subprocess
import sys
import tempfile

from client import KEY, ROLE, SECRET, passing
from cases import case, equal, fresh, until


def aws(address, *words, fails=False):
    """Runs `aws stepfunctions` in the environment of these cases; returns what it prints."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-m", "awscli", "stepfunctions", *words, "--endpoint-url",
             f"http://{address}", "--region", "eu-west-1", "--output", "json"],
            env={"PATH": os.environ["PATH"], "HOME": home, "AWS_ACCESS_KEY_ID": KEY,
                 "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_PAGER": ""},
            capture_output=True, text=True, timeout=60, check=False)
    if fails:
        assert done.returncode != 0, done.stdout
        return done.stderr
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


@case("terminal")
def the_command_line_deploys_starts_and_looks(address):
    name = fresh("machine")
    made = aws(address, "create-state-machine", "--name", name, "--role-arn", ROLE,
               "--definition", json.dumps(passing(Result={"done": True})))
    arn = made["stateMachineArn"]
    started = aws(address, "start-execution", "--state-machine-arn", arn, "--name", "one")
    execution = started["executionArn"]

    def done():
        found = aws(address, "describe-execution", "--execution-arn", execution)
        return found if found["status"] == "SUCCEEDED" else None
    equal(json.loads(until(done, "the end")["output"]), {"done": True})
    history = aws(address, "get-execution-history", "--execution-arn", execution)
    equal(history["events"][-1]["type"], "ExecutionSucceeded")
    listed = aws(address, "list-executions", "--state-machine-arn", arn)
    equal([one["name"] for one in listed["executions"]], ["one"])
    why = aws(address, "describe-state-machine", "--state-machine-arn", arn + "x", fails=True)
    assert "StateMachineDoesNotExist" in why, why
    aws(address, "delete-state-machine", "--state-machine-arn", arn)

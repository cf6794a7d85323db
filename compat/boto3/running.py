"""Executions: started, worked on, failed, undone, redriven, stopped, listed; and their histories."""

import json

from client import ROLE, Worker, ended, machine, passing, refused, states
from cases import case, equal, fresh, until


def kinds(client, execution, **more):
    pages = client.get_paginator("get_execution_history").paginate(executionArn=execution, **more)
    return [event["type"] for page in pages for event in page["events"]]


@case("executions")
def a_name_starts_one_execution(address):
    client = states(address)
    worker = fresh("gate")
    client.create_activity(name=worker)
    task = {"Type": "Task", "Resource": f"arn:aws:states:eu-west-1:1:activity:{worker}",
            "TimeoutSeconds": 600, "End": True}
    arn = machine(client, {"StartAt": "Gate", "States": {"Gate": task}})
    first = client.start_execution(stateMachineArn=arn, name="order-7", input='{"a": 1}')
    again = client.start_execution(stateMachineArn=arn, name="order-7", input='{ "a": 1 }')
    equal(again, first | {"ResponseMetadata": again["ResponseMetadata"]}, "the same again")
    refused("ExecutionAlreadyExists", client.start_execution,
            stateMachineArn=arn, name="order-7", input='{"a": 2}')
    refused("InvalidExecutionInput", client.start_execution, stateMachineArn=arn, input="{")
    refused("InvalidExecutionInput", client.start_execution, stateMachineArn=arn,
            input=json.dumps("x" * 9_000_000))
    large = client.start_execution(stateMachineArn=arn, input=json.dumps("x" * 2_000_000))
    found = client.describe_execution(executionArn=large["executionArn"])
    assert json.loads(found["input"])["ce_dataref"].startswith("claim://"), found
    client.stop_execution(executionArn=large["executionArn"])
    found = client.describe_execution(executionArn=first["executionArn"])
    equal((found["status"], found["name"], json.loads(found["input"]), found["redriveCount"]),
          ("RUNNING", "order-7", {"a": 1}, 0))
    refused("ConflictException", client.delete_state_machine, stateMachineArn=arn)
    stopped = client.stop_execution(executionArn=first["executionArn"], error="Changed",
                                    cause="the customer went away")
    assert stopped["stopDate"] >= first["startDate"], stopped
    equal(ended(client, first["executionArn"])["status"], "ABORTED")
    refused("ExecutionAlreadyExists", client.start_execution,
            stateMachineArn=arn, name="order-7", input='{"a": 1}')
    refused("ExecutionDoesNotExist", client.describe_execution,
            executionArn=first["executionArn"] + "x")
    refused("StateMachineDoesNotExist", client.start_execution, stateMachineArn=arn + "x")


@case("executions")
def executions_are_listed_by_status_and_page(address):
    client = states(address)
    arn = machine(client, {"StartAt": "Bad", "States": {
        "Bad": {"Type": "Choice", "Default": "Good", "Choices": [
            {"Variable": "$.bad", "BooleanEquals": True, "Next": "Failed"}]},
        "Good": {"Type": "Succeed"}, "Failed": {"Type": "Fail", "Error": "Bad", "Cause": "asked"}}})
    started = [client.start_execution(stateMachineArn=arn, input=json.dumps({"bad": bad}))
               ["executionArn"] for bad in [True, False, False, True, False]]
    for execution in started:
        ended(client, execution)

    def listed(**more):
        pages = client.get_paginator("list_executions").paginate(
            stateMachineArn=arn, PaginationConfig={"PageSize": 2}, **more)
        return [one for page in pages for one in page["executions"]]
    equal({one["executionArn"] for one in listed()}, set(started))
    equal(len(listed(statusFilter="FAILED")), 2)
    equal(len(listed(statusFilter="SUCCEEDED")), 3)
    equal(listed(statusFilter="RUNNING"), [])
    assert all(one["stopDate"] >= one["startDate"] for one in listed())
    refused("InvalidToken", client.list_executions, stateMachineArn=arn, nextToken="nonsense")
    failed = client.describe_execution(executionArn=started[0])
    equal((failed["status"], failed["error"], failed["cause"]), ("FAILED", "Bad", "asked"))


@case("executions")
def a_synchronous_execution_gives_its_output(address):
    client = states(address)
    arn = machine(client, passing(Result={"done": True}), type="EXPRESS")
    found = client.start_sync_execution(stateMachineArn=arn, input="{}")
    equal((found["status"], json.loads(found["output"])), ("SUCCEEDED", {"done": True}))
    assert found["stopDate"] >= found["startDate"], found


def trip(flights, cards):
    """Books a flight and charges a card; the flight is undone when the card is not charged."""
    def task(resource, **more):
        return {"Type": "Task", "TimeoutSeconds": 60, "Resource": resource} | more
    flight, card = (f"arn:aws:lambda:eu-west-1:123456789012:function:{name}"
                    for name in (flights, cards))
    return {"StartAt": "Book", "States": {
        "Book": task("arn:aws:states:::lambda:invoke", ResultPath="$.flight", Next="Charge",
                     Parameters={"FunctionName": flights, "Payload": {"book.$": "$.trip"}},
                     Compensate={"Resource": flight, "TimeoutSeconds": 60,
                                 "Parameters": {"cancel.$": "$.input.trip"}}),
        "Charge": task(card, ResultPath="$.charge", Next="Done", Retry=[
            {"ErrorEquals": ["Busy"], "IntervalSeconds": 1, "MaxAttempts": 2}]),
        "Done": {"Type": "Succeed"}}}


@case("sagas")
def a_saga_is_driven_from_deployment_to_its_end_and_to_its_undo(address):
    client = states(address)
    flights, cards = fresh("flights"), fresh("cards")
    busy = []

    class Busy(Exception):
        pass

    class Declined(Exception):
        pass

    def charge(arguments):
        if arguments["card"] == "empty":
            raise Declined("no money")
        if not busy:
            busy.append(True)
            raise Busy("try again")
        return {"charged": arguments["card"]}
    booked = Worker(address, flights, lambda asked: {"did": asked})
    Worker(address, cards, charge)
    arn = machine(client, trip(flights, cards))
    good = client.start_execution(stateMachineArn=arn, input='{"trip": "oslo", "card": "full"}')
    found = ended(client, good["executionArn"])
    equal(found["status"], "SUCCEEDED")
    output = json.loads(found["output"])
    equal(output["flight"], {"ExecutedVersion": "$LATEST", "StatusCode": 200,
                             "Payload": {"did": {"book": "oslo"}}}, "the function's envelope")
    equal(output["charge"], {"charged": "full"})
    events = kinds(client, good["executionArn"], PaginationConfig={"PageSize": 3})
    equal((events[0], events[-1]), ("ExecutionStarted", "ExecutionSucceeded"))
    for kind in ["TaskStateEntered", "TaskScheduled", "TaskStarted", "TaskSucceeded",
                 "TaskStateExited", "LambdaFunctionScheduled", "LambdaFunctionFailed",
                 "LambdaFunctionSucceeded", "SucceedStateEntered", "SucceedStateExited"]:
        assert kind in events, (kind, events)
    equal(events.count("LambdaFunctionScheduled"), 2, "the attempts of the charge")
    bad = client.start_execution(stateMachineArn=arn, input='{"trip": "rome", "card": "empty"}')
    found = ended(client, bad["executionArn"])
    equal((found["status"], found["error"], found["cause"], found["redriveStatus"]),
          ("FAILED", "Declined", "no money", "NOT_REDRIVABLE"))
    equal([asked for asked in booked.seen if "cancel" in asked], [{"cancel": "rome"}])
    shown = client.get_execution_history(executionArn=bad["executionArn"], maxResults=1000)["events"]
    names = [event["stateEnteredEventDetails"]["name"] for event in shown
             if event["type"].endswith("StateEntered")]
    equal(names, ["Book", "Charge", "Book (undo)"], "the states, and what was undone")
    refused("ExecutionNotRedrivable", client.redrive_execution, executionArn=bad["executionArn"])


@case("sagas")
def an_activity_worker_fails_and_a_redrive_goes_on_where_it_was(address):
    client = states(address)
    name, asked = fresh("work"), []

    class Broken(Exception):
        pass

    def work(arguments):
        asked.append(arguments)
        if len(asked) == 1:
            raise Broken("the disk is full")
        return {"fixed": arguments["n"]}
    worker = Worker(address, name, work)
    task = {"Type": "Task", "Resource": worker.arn, "TimeoutSeconds": 60, "End": True}
    arn = machine(client, {"StartAt": "Before", "States": {
        "Before": {"Type": "Pass", "Result": {"n": 7}, "Next": "Work"}, "Work": task}})
    execution = client.start_execution(stateMachineArn=arn)["executionArn"]
    found = ended(client, execution)
    equal((found["status"], found["error"], found["redriveStatus"]),
          ("FAILED", "Broken", "REDRIVABLE"))
    refused("StateMachineDoesNotExist", client.list_executions, stateMachineArn=arn + "x")
    redriven = client.redrive_execution(executionArn=execution, clientToken="once")
    found = ended(client, execution)
    equal((found["status"], found["redriveCount"], json.loads(found["output"])),
          ("SUCCEEDED", 1, {"fixed": 7}))
    for word, names in [("REDRIVEN", [execution]), ("NOT_REDRIVEN", [])]:
        listed = client.list_executions(stateMachineArn=arn, redriveFilter=word)["executions"]
        equal([one["executionArn"] for one in listed], names, word)
    equal(client.list_executions(stateMachineArn=arn)["executions"][0]["redriveCount"], 1)
    equal(asked, [{"n": 7}, {"n": 7}], "what the worker was asked")
    again = client.redrive_execution(executionArn=execution, clientToken="once")
    assert abs((again["redriveDate"] - redriven["redriveDate"]).total_seconds()) < 5, again
    refused("ExecutionNotRedrivable", client.redrive_execution, executionArn=execution)
    events = kinds(client, execution)
    equal(events, ["ExecutionStarted", "PassStateEntered", "PassStateExited", "TaskStateEntered",
                   "ActivityScheduled", "ActivityStarted", "ActivityFailed", "ExecutionFailed",
                   "ExecutionRedriven", "ActivityScheduled", "ActivityStarted", "ActivitySucceeded",
                   "TaskStateExited", "ExecutionSucceeded"])
    equal(kinds(client, execution, reverseOrder=True, PaginationConfig={"PageSize": 4}),
          events[::-1], "the history backwards")
    bare = client.get_execution_history(executionArn=execution, includeExecutionData=False)
    assert "input" not in bare["events"][0]["executionStartedEventDetails"], bare["events"][0]
    pinned = client.describe_state_machine_for_execution(executionArn=execution)
    equal((pinned["stateMachineArn"], json.loads(pinned["definition"])["StartAt"]), (arn, "Before"))


@case("activities")
def a_token_answers_once_and_heartbeats_keep_it(address):
    client = states(address)
    activity = client.create_activity(name=fresh("slow"))["activityArn"]
    equal(client.create_activity(name=activity.split(":")[-1])["activityArn"], activity)
    task = {"Type": "Task", "Resource": activity, "TimeoutSeconds": 600, "HeartbeatSeconds": 300,
            "End": True}
    arn = machine(client, {"StartAt": "Slow", "States": {"Slow": task}})
    execution = client.start_execution(stateMachineArn=arn, input='{"n": 1}')["executionArn"]
    found = client.get_activity_task(activityArn=activity, workerName="one")
    equal(json.loads(found["input"]), {"n": 1})
    token = found["taskToken"]
    client.send_task_heartbeat(taskToken=token)
    refused("InvalidOutput", client.send_task_success, taskToken=token, output="{")
    client.send_task_success(taskToken=token, output='"done"')
    equal(json.loads(ended(client, execution)["output"]), "done")
    refused("TaskTimedOut", client.send_task_success, taskToken=token, output='"again"')
    refused("TaskTimedOut", client.send_task_heartbeat, taskToken=token)
    refused("InvalidToken", client.send_task_failure, taskToken="nonsense")
    unknown = "00000000-0000-0000-0000-000000000000.1.1"
    refused("TaskDoesNotExist", client.send_task_success, taskToken=unknown, output="1")
    client.delete_activity(activityArn=activity)
    refused("ActivityDoesNotExist", client.get_activity_task, activityArn=activity)
    refused("ActivityDoesNotExist", client.describe_activity, activityArn=activity)


@case("executions")
def branches_and_items_have_their_own_events(address):
    client = states(address)
    one = {"StartAt": "Left", "States": {"Left": {"Type": "Pass", "Result": 1, "End": True}}}
    two = {"StartAt": "Right", "States": {"Right": {"Type": "Pass", "Result": 2, "End": True}}}
    each = {"StartAt": "Item", "States": {"Item": {"Type": "Pass", "End": True}}}
    arn = machine(client, {"StartAt": "Both", "States": {
        "Both": {"Type": "Parallel", "Branches": [one, two], "Next": "All"},
        "All": {"Type": "Map", "ItemProcessor": each, "End": True}}})
    execution = client.start_execution(stateMachineArn=arn)["executionArn"]
    equal(json.loads(ended(client, execution)["output"]), [1, 2])
    events = client.get_execution_history(executionArn=execution)["events"]
    equal([event["id"] for event in events], list(range(1, len(events) + 1)), "the ids")
    by_id = {event["id"]: event for event in events}
    for event in events:
        if event["type"] == "PassStateEntered":
            before = by_id[event["previousEventId"]]["type"]
            assert before in ("ParallelStateStarted", "MapIterationStarted"), before
    found = [event["type"] for event in events]
    for kind, count in [("ParallelStateStarted", 1), ("ParallelStateSucceeded", 1),
                        ("MapStateStarted", 1), ("MapIterationStarted", 2),
                        ("MapIterationSucceeded", 2), ("MapStateSucceeded", 1)]:
        equal(found.count(kind), count, kind)
    started = next(event for event in events if event["type"] == "MapStateStarted")
    equal(started["mapStateStartedEventDetails"], {"length": 2})


@case("executions")
def a_message_is_published_and_the_execution_goes_on(address):
    client = states(address)
    arn = machine(client, {"StartAt": "Tell", "States": {"Tell": {
        "Type": "Task", "Resource": "arn:aws:states:::sns:publish", "End": True,
        "Parameters": {"TopicArn": "arn:aws:sns:eu-west-1:1:notices", "Message.$": "$"}}}})
    execution = client.start_execution(stateMachineArn=arn, input='{"n": 1}')["executionArn"]
    found = ended(client, execution)
    equal(found["status"], "SUCCEEDED", found)
    assert json.loads(found["output"])["MessageId"], found


@case("executions")
def an_execution_starts_another_and_waits_for_it(address):
    client = states(address)
    inner = machine(client, passing(Result={"inner": True}))
    name = inner.split(":")[-1]
    arn = machine(client, {"StartAt": "Call", "States": {"Call": {
        "Type": "Task", "Resource": "arn:aws:states:::states:startExecution.sync:2", "End": True,
        "Parameters": {"StateMachineArn": inner, "Input.$": "$"}}}})
    execution = client.start_execution(stateMachineArn=arn, input='{"n": 1}')["executionArn"]
    found = ended(client, execution)
    equal(found["status"], "SUCCEEDED", found)
    output = json.loads(found["output"])
    equal((output["Status"], output["Output"]), ("SUCCEEDED", {"inner": True}), "what it gave")
    assert name in output["StateMachineArn"], output
    until(lambda: client.list_executions(stateMachineArn=inner)["executions"], "the inner one")
    equal(client.describe_state_machine(stateMachineArn=inner)["roleArn"], ROLE)

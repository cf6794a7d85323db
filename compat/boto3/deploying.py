"""Machines: deployed, refused, changed, published, named, tagged, validated, and who may."""

import json

from botocore import UNSIGNED
from botocore.config import Config
import boto3

from client import ROLE, ended, machine, passing, refused, states
from cases import case, equal, fresh


@case("machines")
def a_machine_is_made_described_changed_and_removed(address):
    client = states(address)
    name = fresh("machine")
    definition = json.dumps(passing(Comment=name), indent=2)
    made = client.create_state_machine(name=name, definition=definition, roleArn=ROLE)
    again = client.create_state_machine(name=name, definition=definition, roleArn=ROLE)
    equal(again["stateMachineArn"], made["stateMachineArn"], "the ARN of the same again")
    equal(again["creationDate"], made["creationDate"], "the date of the same again")
    arn = made["stateMachineArn"]
    found = client.describe_state_machine(stateMachineArn=arn)
    equal((found["definition"], found["roleArn"], found["type"], found["status"]),
          (definition, ROLE, "STANDARD", "ACTIVE"))
    other = json.dumps(passing(Comment="another"))
    refused("StateMachineAlreadyExists", client.create_state_machine,
            name=name, definition=other, roleArn=ROLE)
    updated = client.update_state_machine(stateMachineArn=arn, definition=other)
    assert updated["updateDate"] >= made["creationDate"], updated
    found = client.describe_state_machine(stateMachineArn=arn)
    equal((found["definition"], found["revisionId"]), (other, updated["revisionId"]))
    refused("MissingRequiredParameter", client.update_state_machine, stateMachineArn=arn)
    names = [one["name"] for page in client.get_paginator("list_state_machines")
             .paginate(PaginationConfig={"PageSize": 2}) for one in page["stateMachines"]]
    equal(names.count(name), 1, "how often it is listed")
    client.delete_state_machine(stateMachineArn=arn)
    client.delete_state_machine(stateMachineArn=arn)
    refused("StateMachineDoesNotExist", client.describe_state_machine, stateMachineArn=arn)


@case("machines")
def what_cannot_run_is_refused_when_it_is_deployed(address):
    client = states(address)
    bad = {"StartAt": "Nowhere", "States": {"A": {"Type": "Pass", "Next": "B"}}}
    why = refused("InvalidDefinition", client.create_state_machine,
                  name=fresh("bad"), definition=json.dumps(bad), roleArn=ROLE)
    assert "MISSING_TRANSITION_TARGET" in why, why
    task = {"Type": "Task", "End": True, "Resource": "arn:aws:states:::dynamodb:putItem",
            "Parameters": {"TableName": "orders"}}
    unmapped = {"StartAt": "Put", "States": {"Put": task}}
    why = refused("InvalidDefinition", client.create_state_machine,
                  name=fresh("bad"), definition=json.dumps(unmapped), roleArn=ROLE)
    assert "dynamodb:putItem" in why and "/States/Put/Resource" in why, why
    for name in ["a b", "x" * 81]:
        refused("InvalidName", client.create_state_machine,
                name=name, definition=json.dumps(passing()), roleArn=ROLE)
    refused("InvalidArn", client.describe_state_machine, stateMachineArn="nonsense")


@case("validation")
def every_problem_of_a_definition_is_told_at_once(address):
    client = states(address)
    good = client.validate_state_machine_definition(definition=json.dumps(passing()))
    equal((good["result"], good["diagnostics"]), ("OK", []))
    bad = {"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"},
                                      "C": {"Type": "Wait", "Seconds": -1, "End": True}}}
    found = client.validate_state_machine_definition(definition=json.dumps(bad))
    equal((found["result"], found["truncated"]), ("FAIL", False))
    places = {problem["location"] for problem in found["diagnostics"]}
    assert "/States/A/Next" in places and "/States/C/Seconds" in places, found
    one = client.validate_state_machine_definition(definition=json.dumps(bad), maxResults=1)
    equal((len(one["diagnostics"]), one["truncated"]), (1, True))
    task = {"Type": "Task", "Resource": "wharf:activity:a", "End": True}
    slow = {"StartAt": "A", "States": {"A": task}}
    warned = client.validate_state_machine_definition(definition=json.dumps(slow),
                                                      severity="WARNING")
    equal(warned["result"], "OK")
    assert all(problem["severity"] == "WARNING" for problem in warned["diagnostics"]), warned


@case("versions")
def versions_and_aliases_lead_to_what_was_published(address):
    client = states(address)
    arn = machine(client, passing(Result={"from": 1}), publish=True, versionDescription="first")
    first = f"{arn}:1"
    client.update_state_machine(stateMachineArn=arn,
                                definition=json.dumps(passing(Result={"from": 2})))
    second = client.publish_state_machine_version(stateMachineArn=arn)["stateMachineVersionArn"]
    equal(second, f"{arn}:2")
    again = client.publish_state_machine_version(stateMachineArn=arn)["stateMachineVersionArn"]
    equal(again, second, "the version of what was published already")
    refused("ConflictException", client.publish_state_machine_version, stateMachineArn=arn,
            revisionId="another")
    listed = client.list_state_machine_versions(stateMachineArn=arn)["stateMachineVersions"]
    equal([one["stateMachineVersionArn"] for one in listed], [second, first])
    equal(client.describe_state_machine(stateMachineArn=first)["description"], "first")

    def route(version, weight=100):
        return {"stateMachineVersionArn": version, "weight": weight}
    alias = client.create_state_machine_alias(
        name="live", routingConfiguration=[route(first)])["stateMachineAliasArn"]

    def output(target):
        started = client.start_execution(stateMachineArn=target)["executionArn"]
        found = ended(client, started)
        return json.loads(found["output"])["from"], found
    number, found = output(alias)
    equal((number, found["stateMachineVersionArn"], found["stateMachineAliasArn"]),
          (1, first, alias))
    client.update_state_machine_alias(stateMachineAliasArn=alias,
                                      routingConfiguration=[route(second)])
    equal(output(alias)[0], 2)
    equal(output(first)[0], 1)
    equal(output(arn)[0], 2)
    client.update_state_machine_alias(
        stateMachineAliasArn=alias, routingConfiguration=[route(first, 50), route(second, 50)])
    equal({output(alias)[0] for _ in range(30)}, {1, 2}, "where an even alias leads")
    refused("ConflictException", client.delete_state_machine_version,
            stateMachineVersionArn=first)
    refused("ValidationException", client.update_state_machine_alias, stateMachineAliasArn=alias,
            routingConfiguration=[route(first, 50), route(second, 40)])
    refused("ResourceNotFound", client.update_state_machine_alias, stateMachineAliasArn=alias,
            routingConfiguration=[route(f"{arn}:9")])
    listed = client.list_state_machine_aliases(stateMachineArn=arn)["stateMachineAliases"]
    equal([one["stateMachineAliasArn"] for one in listed], [alias])
    routes = client.describe_state_machine_alias(stateMachineAliasArn=alias)
    equal([one["weight"] for one in routes["routingConfiguration"]], [50, 50])
    client.delete_state_machine_alias(stateMachineAliasArn=alias)
    client.delete_state_machine_version(stateMachineVersionArn=first)
    refused("StateMachineDoesNotExist", client.start_execution, stateMachineArn=first)
    refused("ResourceNotFound", client.describe_state_machine_alias, stateMachineAliasArn=alias)


@case("tags")
def tags_are_added_and_removed(address):
    client = states(address)
    activity = client.create_activity(name=fresh("activity"))["activityArn"]
    arn = machine(client, passing(), tags=[{"key": "team", "value": "shop"}])
    for resource, before in [(arn, {"team": "shop"}), (activity, {})]:
        client.tag_resource(resourceArn=resource, tags=[{"key": "tier", "value": "1"}])

        def tags():
            found = client.list_tags_for_resource(resourceArn=resource)["tags"]
            return {tag["key"]: tag["value"] for tag in found}
        equal(tags(), before | {"tier": "1"})
        client.untag_resource(resourceArn=resource, tagKeys=["tier", "none"])
        equal(tags(), before)
    many = [{"key": f"k{number}", "value": ""} for number in range(51)]
    refused("TooManyTags", client.tag_resource, resourceArn=arn, tags=many)
    refused("ResourceNotFound", client.list_tags_for_resource, resourceArn=arn + "x")


@case("testing")
def one_state_is_tested_alone(address):
    client = states(address)

    def test(state, **more):
        return client.test_state(definition=json.dumps(state), roleArn=ROLE, **more)
    shown = test({"Type": "Pass", "Parameters": {"id.$": "$.order"}, "Next": "Pay"},
                 input='{"order": 7}')
    equal((shown["status"], shown["nextState"], json.loads(shown["output"])),
          ("SUCCEEDED", "Pay", {"id": 7}))
    choice = {"Type": "Choice", "Default": "Small", "Choices": [
        {"Variable": "$.sum", "NumericGreaterThan": 100, "Next": "Large"}]}
    equal(test(choice, input='{"sum": 101}')["nextState"], "Large")
    equal(test(choice, input='{"sum": 100}')["nextState"], "Small")
    task = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": "Done",
            "Parameters": {"FunctionName": "charge", "Payload.$": "$"},
            "Retry": [{"ErrorEquals": ["Busy"]}],
            "Catch": [{"ErrorEquals": ["Declined"], "Next": "Refuse"}]}
    found = test(task, input='{"sum": 5}', inspectionLevel="DEBUG",
                 mock={"result": '{"Payload": {"ok": true}}'})
    equal((found["status"], json.loads(found["output"])), ("SUCCEEDED", {"Payload": {"ok": True}}))
    sent = json.loads(found["inspectionData"]["afterParameters"])
    equal(sent["Payload"], {"sum": 5}, "what the function would get")
    for error, status, then in [("Busy", "RETRIABLE", None), ("Declined", "CAUGHT_ERROR", "Refuse"),
                                ("Broken", "FAILED", None)]:
        found = test(task, mock={"errorOutput": {"error": error, "cause": "because"}})
        equal((found["status"], found.get("nextState"), found["error"], found["cause"]),
              (status, then, error, "because"))
    jsonata = {"Type": "Pass", "QueryLanguage": "JSONata", "Output": "{% $rate * 2 %}", "End": True}
    equal(test(jsonata, variables='{"rate": 21}')["output"], "42")
    equal(test({"Type": "Fail", "Error": "Sold", "Cause": "out"})["error"], "Sold")
    refused("ValidationException", test, task)
    refused("InvalidDefinition", test, {"Type": "Nothing"})
    refused("ValidationException", test, {"Type": "Pass", "End": True}, mock={"result": "{}"})


@case("testing")
def a_parallel_or_map_is_tested_with_mocks_of_its_branches(address):
    client = states(address)

    def test(state, **more):
        more = {"inspectionLevel": "DEBUG"} | more
        return client.test_state(definition=json.dumps(state), roleArn=ROLE, **more)

    def branch(name):
        return {"StartAt": name, "States": {name: {
            "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}}}
    both = {"Type": "Parallel", "Branches": [branch("Fly"), branch("Stay")], "Next": "Pay",
            "Parameters": {"trip.$": "$.id"}, "ResultPath": "$.booked",
            "Catch": [{"ErrorEquals": ["Full"], "ResultPath": "$.error", "Next": "Cancel"}]}
    found = test(both, input='{"id": 7}', mock={"result": '["f-1", {"room": 4}]'})
    equal((found["status"], found["nextState"], json.loads(found["output"])),
          ("SUCCEEDED", "Pay", {"id": 7, "booked": ["f-1", {"room": 4}]}))
    equal(json.loads(found["inspectionData"]["afterParameters"]), {"trip": 7})
    found = test(both, input='{"id": 7}', mock={"errorOutput": {"error": "Full", "cause": "all"}},
                 stateConfiguration={"errorCausedByState": "Stay"})
    equal((found["status"], found["nextState"], found["error"], json.loads(found["output"])["id"]),
          ("CAUGHT_ERROR", "Cancel", "Full", 7))
    equal(found["inspectionData"]["errorDetails"]["catchIndex"], 0)
    refused("InvalidDefinition", test, both, input='{"id": 7}')
    refused("ValidationException", test, both, input='{"id": 7}', mock={"result": '["one"]'})
    refused("ValidationException", test, both, input='{"id": 7}', mock={"result": '{"a": 1}'})
    refused("ValidationException", test, both, mock={"errorOutput": {"error": "Full"}},
            stateConfiguration={"errorCausedByState": "Elsewhere"})

    each = {"Type": "Map", "ItemsPath": "$.items", "MaxConcurrency": 2, "ToleratedFailureCount": 1,
            "ItemSelector": {"at.$": "$$.Map.Item.Index", "of.$": "$$.Map.Item.Value",
                             "by.$": "$$.Execution.Name"},
            "ItemProcessor": branch("Do"), "End": True,
            "Catch": [{"ErrorEquals": ["States.ExceedToleratedFailureThreshold"], "Next": "Few"}]}
    items = '{"items": ["a", "b", "c"]}'
    found = test(each, input=items, mock={"result": "[1, 2, 3]"},
                 context='{"Execution": {"Name": "nightly"}}')
    equal((found["status"], found["output"]), ("SUCCEEDED", "[1,2,3]"))
    inspected = found["inspectionData"]
    equal((inspected["maxConcurrency"], inspected["toleratedFailureCount"]), (2, 1))
    equal(json.loads(inspected["afterItemsPath"]), ["a", "b", "c"])
    equal(json.loads(inspected["afterItemSelector"])[1], {"at": 1, "of": "b", "by": "nightly"})
    broken = {"errorOutput": {"error": "Broken", "cause": "because"}}
    found = test(each, input=items, mock=broken, stateConfiguration={"mapIterationFailureCount": 1})
    equal(found["status"], "SUCCEEDED", "one failure is tolerated")
    found = test(each, input=items, mock=broken, stateConfiguration={"mapIterationFailureCount": 2})
    equal((found["status"], found["error"], found["nextState"]),
          ("CAUGHT_ERROR", "States.ExceedToleratedFailureThreshold", "Few"))
    refused("ValidationException", test, each, input=items, mock=broken,
            stateConfiguration={"mapIterationFailureCount": 4})
    refused("ValidationException", test, each, mock=broken,
            stateConfiguration={"mapItemReaderData": "[]"})


@case("testing")
def a_test_sees_the_context_and_the_retries_that_it_is_given(address):
    client = states(address)
    machine = {"StartAt": "Outer", "QueryLanguage": "JSONata", "States": {"Outer": {
        "Type": "Map", "End": True, "ItemProcessor": {"StartAt": "Inner", "States": {"Inner": {
            "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": "After",
            "Arguments": {"FunctionName": "f", "Payload": "{% $states.context.Map.Item.Value %}"},
            "Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 3, "MaxAttempts": 2}],
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "After"}]},
            "After": {"Type": "Succeed"}}}}}}

    def test(**more):
        return client.test_state(definition=json.dumps(machine), stateName="Inner", roleArn=ROLE,
                                 inspectionLevel="DEBUG", **more)
    found = test(context='{"Map": {"Item": {"Index": 3, "Value": "c"}}}', mock={"result": '{"a": 1}'})
    equal((found["status"], found["nextState"]), ("SUCCEEDED", "After"))
    equal(json.loads(found["inspectionData"]["afterArguments"])["Payload"], "c")
    busy = {"errorOutput": {"error": "Busy", "cause": ""}}
    for retries, status, wait in [(0, "RETRIABLE", 3), (1, "RETRIABLE", 6), (2, "CAUGHT_ERROR", None)]:
        found = test(mock=busy, stateConfiguration={"retrierRetryCount": retries},
                     context='{"Map": {"Item": {"Value": 1}}}')
        details = found["inspectionData"]["errorDetails"]
        equal((found["status"], details.get("retryBackoffIntervalSeconds")), (status, wait))
    refused("ValidationException", test, context='{"Map": {"Item": {"Value": 1}}}')
    refused("ValidationException", test, mock=busy, context='{"Weather": {}}')
    refused("ValidationException", test, mock={"result": "{}"},
            stateConfiguration={"retrierRetryCount": 1})


@case("signatures")
def who_does_not_sign_rightly_is_refused(address):
    refused("UnrecognizedClientException", states(address, key="AKIAOTHER").list_activities)
    refused("InvalidSignatureException", states(address, secret="wrong").list_activities)
    unsigned = boto3.client("stepfunctions", endpoint_url=f"http://{address}",
                            region_name="eu-west-1", config=Config(
                                signature_version=UNSIGNED, retries={"total_max_attempts": 1}))
    refused("MissingAuthenticationTokenException", unsigned.list_activities)

"""kafka-consumer-groups, kafka-groups, the verifiable consumer."""

import json
import re

from cases import case, equal, fresh, says
from java import TOOLS, Program, file_with, normal, tool
from show import consume, produce, shows, topic

# All records have one key, so that they are in one partition.
KEYED = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]


def command(address, *arguments):
    return tool("consumer.group.ConsumerGroupCommand", "--bootstrap-server", address, *arguments)


def group_over(address, partitions=2, records=20, read=12):
    """A topic with records in one partition and a group that committed after `read` of them."""
    name, group = topic(address, partitions), fresh("group")
    produce(address, name, [f"k:{number}" for number in range(records)], *KEYED)
    consume(address, name, read, "--group", group)
    return name, group


@case
def an_empty_group_is_listed_and_described(address):
    _, group = group_over(address)
    shows("offsets", command(address, "--describe", "--group", group))
    shows("members", command(address, "--describe", "--group", group, "--members", "--verbose"))
    shows("state", command(address, "--describe", "--group", group, "--state"))
    listed = command(address, "--list", "--state", "--type").splitlines()
    shows("listed", "\n".join(line for line in listed if group in line))
    every = tool("GroupsCommand", "--bootstrap-server", address, "--list").splitlines()
    shows("among all", "\n".join(line for line in every if group in line))
    empty = command(address, "--list", "--state", "Empty").splitlines()
    shows("among the empty ones", "\n".join(line for line in empty if group in line))


@case
def offsets_are_reset_in_every_way(address):
    name, group = group_over(address)
    later = "2099-01-01T00:00:00.000"
    plan = file_with(f"{name},0,3\n{name},1,0\n")
    ways = [
        ["--to-earliest"], ["--to-latest"], ["--to-offset", "7"], ["--to-offset", "999999"],
        ["--shift-by", "-2"], ["--shift-by", "-1000"], ["--to-datetime", "2000-01-01T00:00:00.000"],
        ["--to-datetime", later], ["--by-duration", "PT1H"], ["--to-current"], ["--from-file", plan],
    ]
    for way in ways:
        which = [] if "--from-file" in way else ["--topic", name]
        what = way[0] if len(way) == 1 else " ".join(way[:1] + [way[1].split("/")[0]])
        shows(what, command(
            address, "--reset-offsets", "--group", group, *which, *way, "--execute"),
            ordered=False)
    shows("described", command(address, "--describe", "--group", group))
    shows("of one partition", command(
        address, "--reset-offsets", "--group", group, "--topic", f"{name}:0", "--to-offset", 5,
        "--execute"))
    shows("exported", command(
        address, "--reset-offsets", "--group", group, "--all-topics", "--to-earliest", "--export",
        "--dry-run"), ordered=False)
    shows("a dry run changes nothing", command(address, "--describe", "--group", group))
    shows("of a new group", command(
        address, "--reset-offsets", "--group", fresh("new"), "--topic", name, "--to-latest",
        "--execute"), ordered=False)


@case
def offsets_and_groups_are_deleted(address):
    name, group = group_over(address)
    shows("offsets", command(address, "--delete-offsets", "--group", group, "--topic", f"{name}:0"))
    shows("left", command(address, "--describe", "--group", group))
    unknown = fresh("unknown")
    shows("of an unknown topic", command(
        address, "--delete-offsets", "--group", group, "--topic", unknown))
    shows("group", command(address, "--delete", "--group", group))
    says("again", "GroupIdNotFoundException" in command(address, "--delete", "--group", group))
    says("gone", "GroupIdNotFoundException" in command(address, "--describe", "--group", group))


def assigned(lines):
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return any(event["name"] == "partitions_assigned" and event["partitions"] for event in events)


def without_members(text):
    """The members' ids are made up by the broker or by the member."""
    return re.sub(r"\bconsumer-\S+|(?<!\S)[A-Za-z0-9_-]{22}(?!\S)", "<member>", "\n".join(normal(text)))


def without_epochs(text):
    """How often a group's epoch grows on the way is the broker's own; here it is the same twice."""
    return re.sub(r" (\d+) (<topic>:\S+) \1 \2", r" <epoch> \2 <epoch> \2", text)


def active(address, protocol, *more):
    """What a group with one member shows, and what is refused as long as it is there."""
    name, group = topic(address, 2), fresh("group")
    produce(address, name, ["k:a", "k:b", "k:c"], *KEYED)
    arguments = ["--bootstrap-server", address, "--topic", name, "--group-id", group,
                 "--reset-policy", "earliest", "--group-protocol", protocol, *more]
    with Program(TOOLS + "VerifiableConsumer", *arguments) as member:
        member.until(assigned, "the partitions are assigned")
        member.until(lambda lines: any('"offsets_committed"' in line for line in lines), "committed")
        for what in ["--offsets", "--members", "--state"]:
            verbose = ["--verbose"] if what == "--members" else []
            shows(what, without_epochs(without_members(
                command(address, "--describe", "--group", group, what, *verbose))), ordered=False)
        listed = command(address, "--list", "--state", "--type").splitlines()
        shows("listed", "\n".join(line for line in listed if group in line))
        says("reset", "Assignments can only be reset if the group" in command(
            address, "--reset-offsets", "--group", group, "--topic", name, "--to-earliest",
            "--execute"))
        says("deleted", "GroupNotEmptyException" in command(address, "--delete", "--group", group))
        shows("offsets deleted", command(
            address, "--delete-offsets", "--group", group, "--topic", name))
        events = [json.loads(line) for line in member.stop()]
    seen = sum(event["count"] for event in events if event["name"] == "records_consumed")
    equal(seen, 3, "records consumed")
    says("how it ends", [event["name"] for event in events][-2:])
    shows("left", command(address, "--describe", "--group", group, "--state"))


@case
def an_active_classic_group_is_described_and_protected(address):
    active(address, "classic")


@case
def an_active_group_of_the_new_protocol_is_described_and_protected(address):
    active(address, "consumer", "--group-remote-assignor", "range")


@case
def topics_are_read_by_a_pattern(address):
    first, second = topic(address), topic(address)
    for name in [first, second]:
        produce(address, name, [name])
    for protocol in ["classic", "consumer"]:
        found = tool("consumer.ConsoleConsumer", "--bootstrap-server", address, "--include",
                     f"{first[:-4]}.*|{second[:-4]}.*", "--from-beginning", "--max-messages", 2,
                     "--timeout-ms", 30000, "--command-property", f"group.protocol={protocol}")
        equal(sorted(found.split()), sorted([first, second]), protocol)


@case
def a_second_member_of_the_new_protocol_takes_over(address):
    name, group = topic(address, 4), fresh("group")
    arguments = ["--bootstrap-server", address, "--topic", name, "--group-id", group,
                 "--reset-policy", "earliest", "--group-protocol", "consumer"]

    def holds(partitions):
        def look(lines):
            held = set()
            for line in lines:
                event = json.loads(line)
                these = {part["partition"] for part in event.get("partitions", [])}
                if event["name"] == "partitions_assigned":
                    held |= these
                elif event["name"] == "partitions_revoked":
                    held -= these
            return len(held) == partitions
        return look

    with Program(TOOLS + "VerifiableConsumer", *arguments) as first:
        first.until(holds(4), "the first member has all partitions")
        with Program(TOOLS + "VerifiableConsumer", *arguments) as second:
            second.until(holds(2), "the second member has half of them")
            first.until(holds(2), "the first member gave half of them away")
            first.stop()
            second.until(holds(4), "the second member has all partitions")
            second.stop()

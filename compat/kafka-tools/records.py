"""The console clients, the verifiable and the measuring ones, offsets, deletion of records."""

import json
import time

from cases import CODECS, case, equal, fresh, says, until
from java import TOOLS, Program, file_with, tool
from show import consume, produce, refused, shows, topic


@case
def keys_headers_and_every_codec_go_through_the_console(address):
    for codec in CODECS:
        name = topic(address)
        sent = [f"one:a,one:b,two:{codec}\tkey{number}\tvalue {number} {'x' * 100}"
                for number in range(200)]
        produce(address, name, sent, "--compression-codec", codec,
                "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true")
        found = consume(address, name, 200, "--formatter-property", "print.key=true",
                        "--formatter-property", "print.headers=true")
        equal(found, sent, codec)


@case
def partitions_offsets_and_timestamps_are_printed(address):
    name = topic(address)
    produce(address, name, ["a", "b"])
    properties = [word for what in ["timestamp", "partition", "offset", "key", "epoch"]
                  for word in ("--formatter-property", f"print.{what}=true")]
    lines = consume(address, name, 2, *properties)
    says("lines", [line.split("\t")[1:] for line in lines])
    stamp = int(lines[0].split("\t")[0].split(":")[1])
    equal(abs(stamp / 1000 - time.time()) < 600, True, f"timestamp {stamp}")
    found = tool("consumer.ConsoleConsumer", "--bootstrap-server", address, "--topic", name,
                 "--partition", 0, "--offset", 1, "--max-messages", 1, "--timeout-ms", 20000)
    equal(found.split(), ["b"], "from an offset")


@case
def a_message_beyond_the_limit_is_refused(address):
    name = topic(address, 1, "max.message.bytes=1000")
    errors = tool("ProducerPerformance", "--bootstrap-server", address, "--topic", name,
                  "--num-records", 1, "--record-size", 5000, "--throughput", -1)
    says("too large", "RecordTooLargeException" in errors)


@case
def offsets_are_got_in_every_way(address):
    name = topic(address, 2)
    produce(address, name, ["k:a", "k:b", "k:c"], "--reader-property", "parse.key=true",
            "--reader-property", "key.separator=:")
    # The newest of several is a matter of when the clock ticks, so that is asked of one alone.
    alone = topic(address)
    produce(address, alone, ["a"])
    for when in ["-3", "max-timestamp"]:
        shows(when, tool("GetOffsetShell", "--bootstrap-server", address, "--topic", alone,
                         "--time", when))
    for when in ["-1", "-2", "-4", "-5", "latest", "earliest", "earliest-local", "latest-tiered",
                 "0", "4102444800000"]:
        shows(when, tool("GetOffsetShell", "--bootstrap-server", address, "--topic", name,
                         "--time", when))
    shows("one partition", tool("GetOffsetShell", "--bootstrap-server", address,
                                "--topic-partitions", f"{name}:1"))
    equal("__consumer_offsets" in tool("GetOffsetShell", "--bootstrap-server", address,
                                       "--exclude-internal-topics"), False, "internal topics")


@case
def records_are_deleted_up_to_an_offset(address):
    name = topic(address)
    produce(address, name, list("abcde"))

    def delete(offset):
        plan = {"version": 1, "partitions": [{"topic": name, "partition": 0, "offset": offset}]}
        return tool("DeleteRecordsCommand", "--bootstrap-server", address, "--offset-json-file",
                    file_with(json.dumps(plan)))

    shows("three", delete(3))
    equal(consume(address, name, 2), ["d", "e"], "what is left")
    shows("earliest", tool("GetOffsetShell", "--bootstrap-server", address, "--topic", name,
                           "--time", "-2"))
    says("beyond the end", "OffsetOutOfRangeException" in delete(77))
    shows("all", delete(-1))
    shows("empty", tool("GetOffsetShell", "--bootstrap-server", address, "--topic", name,
                        "--time", "-2"))


@case
def compaction_keeps_the_newest_value_of_each_key(address):
    name = topic(address, 1, "cleanup.policy=compact", "segment.bytes=1048576", "segment.ms=100",
                 "max.compaction.lag.ms=100", "min.cleanable.dirty.ratio=0.01",
                 "delete.retention.ms=0")

    def write(*lines):
        produce(address, name, lines, "--reader-property", "parse.key=true",
                "--reader-property", "key.separator=:", "--reader-property", "null.marker=NULL")

    keys = ["a", "b", "c", "d"]
    for turn in range(4):
        write(*(f"{key}:{10 * turn + number}" for number in range(10) for key in keys))
    write("c:NULL", "d:NULL")
    written = 4 * 10 * len(keys)
    kept = [f"Offset:{written - 4}\ta\t39", f"Offset:{written - 3}\tb\t39"]

    def first():
        """The first records there are. The newest one begins a segment, so that those before it
        may be compacted."""
        write("newest:x")
        return consume(address, name, 3, "--formatter-property", "print.offset=true",
                       "--formatter-property", "print.key=true")

    rows = until(lambda: (found := first())[:2] == kept and "newest" in found[2] and found,
                 "old values and keys with tombstones are gone", 60)
    says("first", rows[:2])
    arguments = ["--bootstrap-server", address, "--topic", name, "--max-messages", 1, "--acks", -1]
    end = tool("GetOffsetShell", "--bootstrap-server", address, "--topic", name)
    with Program(TOOLS + "VerifiableProducer", *arguments) as producer:
        events = [json.loads(line) for line in producer.wait()]
    says("without a key", [one["exception"] for one in events if "exception" in one])
    equal("InvalidRecordException" in str(events), True, events)
    equal(tool("GetOffsetShell", "--bootstrap-server", address, "--topic", name), end, "the end")


@case
def measurements_run_to_their_end(address):
    name = topic(address, 3)
    lines = tool("ProducerPerformance", "--bootstrap-server", address, "--topic", name,
                 "--num-records", 20000, "--record-size", 200, "--throughput", -1,
                 "--command-property", "compression.type=lz4").splitlines()
    equal(lines[-1].startswith("20000 records sent"), True, lines[-1])
    lines = tool("ConsumerPerformance", "--bootstrap-server", address, "--topic", name,
                 "--num-records", 20000, "--timeout", 30000).splitlines()
    equal(lines[-1].split(", ")[4], "20000", lines[-1])
    lines = tool("EndToEndLatency", "--bootstrap-server", address, "--topic", topic(address),
                 "--num-records", 50, "--producer-acks", "all", "--record-size", 100).splitlines()
    equal(any(line.startswith("Percentiles") for line in lines), True, lines[-1])


@case
def a_verifiable_producer_sees_every_acknowledgement(address):
    name = topic(address, 1, "message.timestamp.type=LogAppendTime")
    arguments = ["--bootstrap-server", address, "--topic", name, "--max-messages", 500,
                 "--acks", -1, "--repeating-keys", 5, "--value-prefix", 3]
    with Program(TOOLS + "VerifiableProducer", *arguments) as producer:
        events = [json.loads(line) for line in producer.wait()]
    sent = [event for event in events if event["name"] == "producer_send_success"]
    equal(len(sent), 500, "acknowledged")
    equal(sorted(event["offset"] for event in sent), list(range(500)), "offsets")
    equal(consume(address, name, 500), [f"3.{number}" for number in range(500)], "values")
    says("closing", {key: events[-1][key] for key in ["name", "sent", "acked"]}
         if "acked" in events[-1] else events[-1]["name"])


@case
def the_client_compatibility_test_passes(address):
    yes = ["offsets-for-times-supported", "cluster-id-supported", "create-topics-supported",
           "describe-acls-supported", "describe-configs-supported",
           "idempotent-producer-supported"]
    # The test makes a topic of this name and leaves it behind.
    topics = ("TopicCommand", "--bootstrap-server", address)
    tool(*topics, "--delete", "--if-exists", "--topic", "newtopic")
    arguments = [word for what in yes for word in (f"--{what}", "True")]
    tool("ClientCompatibilityTest", "--bootstrap-server", address, "--topic", topic(address),
         "--num-cluster-nodes", 1, "--expect-record-too-large-exception", "False", *arguments)
    tool(*topics, "--delete", "--topic", "newtopic")


@case
def a_topic_of_an_unknown_name_is_not_made_up_by_reading_offsets(address):
    refused("offsets", "GetOffsetShell", "--bootstrap-server", address, "--topic", fresh("none"))

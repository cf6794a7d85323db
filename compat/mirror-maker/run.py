"""MirrorMaker 2, from Maven Central: topics move to an Apache Kafka, and from there.

    KAFKA_CLASSES='target/xtask/services/kafka/libs/*' KAFKA_PEER=127.0.0.1:9093 \\
        python3 compat/mirror-maker/run.py 127.0.0.1:9092

KAFKA_PEER is another cluster than the broker that the cases are about. docs/how-to/leave-wharf.md
and move-to-wharf.md describe what is done here.
"""

import collections
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import cases  # noqa: E402
from cases import case, equal, fresh, main, says, until  # noqa: E402
from java import TOOLS, Program, file_with, normal, tool  # noqa: E402

# One process carries both ways; records, settings and groups keep their names.
PROPERTIES = r"""
clusters = here, there
here.bootstrap.servers = {here}
there.bootstrap.servers = {there}
here.consumer.isolation.level = read_committed
there.consumer.isolation.level = read_committed
replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy

here->there.enabled = true
here->there.topics = {out}
here->there.groups = {out_group}
there->here.enabled = true
there->here.topics = {back}
there->here.groups = {back_group}

sync.group.offsets.enabled = true
sync.group.offsets.interval.seconds = 1
emit.checkpoints.interval.seconds = 1
refresh.topics.interval.seconds = 2
refresh.groups.interval.seconds = 2
sync.topic.configs.interval.seconds = 2
emit.heartbeats.enabled = false
heartbeats.topic.replication.factor = 1
plugin.discovery = service_load
sync.topic.acls.enabled = false
config.properties.exclude = wharf\\..*, follower\\.replication\\.throttled\\.replicas, \
    leader\\.replication\\.throttled\\.replicas, unclean\\.leader\\.election\\.enable, \
    min\\.insync\\.replicas
offset.lag.max = 0

replication.factor = 1
checkpoints.topic.replication.factor = 1
offset-syncs.topic.replication.factor = 1
offset.storage.replication.factor = 1
status.storage.replication.factor = 1
config.storage.replication.factor = 1
offset.storage.partitions = 2
status.storage.partitions = 2
offset.flush.interval.ms = 1000
tasks.max = 1
"""
SETTINGS = ["retention.ms=123456789", "max.message.bytes=654321", "segment.ms=7654321"]
PARTITIONS = 3


def produce(address, topic, count, tag):
    """Records with keys and headers that are repeated."""
    lines = [f"one:{tag},one:b\t{tag} key{number % 50}\t{tag} value {number}\n"
             for number in range(count)]
    tool("ConsoleProducer", "--bootstrap-server", address, "--topic", topic,
         "--compression-codec", "zstd", "--reader-property", "parse.key=true",
         "--reader-property", "parse.headers=true", given="".join(lines))


def abort(address, topic):
    """Records that nobody may see: their transaction is aborted."""
    identity = fresh("aborted")

    def is_open():
        out = tool("TransactionsCommand", "--bootstrap-server", address, "list")
        return any(identity in line and "Ongoing" in line for line in out.splitlines())

    arguments = ["--bootstrap-server", address, "--topic", topic, "--num-records", 10000,
                 "--record-size", 10, "--throughput", 50, "--transactional-id", identity,
                 "--transaction-duration-ms", 600000]
    with Program(TOOLS + "ProducerPerformance", *arguments):
        until(is_open, "the transaction is open")
        until(lambda: end(address, topic) > 500, "it has records")
        tool("TransactionsCommand", "--bootstrap-server", address, "forceTerminateTransaction",
             "--transactionalId", identity)


def records(address, topic, *arguments):
    """Everything there is: partition, timestamp, headers, key and value of each record."""
    properties = [word for what in ["timestamp", "partition", "offset", "headers", "key"]
                  for word in ("--formatter-property", f"print.{what}=true")]
    return tool("consumer.ConsoleConsumer", "--bootstrap-server", address, "--topic", topic,
                "--isolation-level", "read_committed", "--timeout-ms", 2000, *properties, *arguments).splitlines()


def end(address, topic):
    """How many records were ever written to a topic."""
    known = tool("TopicCommand", "--bootstrap-server", address, "--list").split()
    if topic not in known:
        return 0
    out = tool("GetOffsetShell", "--bootstrap-server", address, "--topic", topic)
    return sum(int(line.rsplit(":", 1)[1]) for line in out.splitlines())


def settings(address, topic):
    out = tool("kafka.admin.ConfigCommand", "--bootstrap-server", address, "--describe",
               "--topic", topic)
    found = dict(line.split()[0].split("=", 1) for line in out.splitlines()[1:])
    return {key: found.get(key) for key in [pair.split("=")[0] for pair in SETTINGS]}


def committed(address, group):
    """Where a group is, by partition."""
    out = tool("consumer.group.ConsumerGroupCommand", "--bootstrap-server", address, "--describe",
               "--group", group)
    rows = [line.split() for line in normal(out) if "compat-" in line or "<" in line]
    return {int(row[2]): int(row[3]) for row in rows if len(row) > 3 and row[3].isdigit()}


class Move:
    """A topic with a group that has read all of it, on its way to another cluster."""

    def __init__(self, source, target, what):
        self.source, self.target = source, target
        self.topic, self.group = fresh(what), fresh(f"{what}-group")
        more = [word for setting in SETTINGS for word in ("--config", setting)]
        tool("TopicCommand", "--bootstrap-server", source, "--create", "--topic", self.topic,
             "--partitions", PARTITIONS, *more)
        try:
            # Where the source is Wharf: a setting that no other broker would take.
            tool("kafka.admin.ConfigCommand", "--bootstrap-server", source, "--alter", "--topic",
                 self.topic, "--add-config", "wharf.sync.before.ack=false")
        except AssertionError as error:
            assert "InvalidConfigurationException" in str(error), error
        produce(source, self.topic, 500, "first")
        self.sent = 500
        self.read_at_source(500)
        self.first = committed(source, self.group)
        abort(source, self.topic)

    def read_at_source(self, count):
        tool("consumer.ConsoleConsumer", "--bootstrap-server", self.source, "--topic", self.topic,
             "--from-beginning", "--max-messages", count, "--timeout-ms", 20000,
             "--group", self.group)

    def send(self, count, tag):
        produce(self.source, self.topic, count, tag)
        self.sent += count

    def is_there(self):
        return end(self.target, self.topic) == self.sent

    def check(self):
        """Records, settings and the group's offsets are there, and more records follow."""
        until(self.is_there, f"{self.topic} is copied", 100)
        there = sorted(records(self.target, self.topic, "--from-beginning"))
        equal(there, sorted(records(self.source, self.topic, "--from-beginning")), "records")
        until(lambda: settings(self.target, self.topic) == settings(self.source, self.topic),
              "the settings are copied", 20)
        says("settings", settings(self.target, self.topic))
        until(self.group_follows, "the group's offsets are copied", 60)
        self.send(50, "last")
        until(self.is_there, f"{self.topic} is followed", 30)

    def group_follows(self):
        """More is read at the source, and the target learns of it: MirrorMaker tells how far a
        group is only roughly, and not beyond where it is, while records flow."""
        self.send(30, "more")
        self.read_at_source(30)
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            here, there = committed(self.source, self.group), committed(self.target, self.group)
            if any(there.get(partition, 0) > offset for partition, offset in here.items()):
                raise AssertionError(f"the group is ahead: {there}, at the source {here}")
            if all(there.get(partition, 0) >= offset for partition, offset in self.first.items()):
                return True
        return False

    def go_over(self):
        """The group goes on at the target where it is there, and comes to all it has not seen."""
        before = sum(committed(self.target, self.group).values())
        found = records(self.target, self.topic, "--group", self.group, "--max-messages",
                        self.sent - before)
        equal(len(found), self.sent - before, "records that the group reads")
        values = collections.Counter(line.split("\t")[-1] for line in found)
        for number in range(50):
            equal(values[f"last value {number}"], 1, f"last value {number}")


@case
def topics_groups_and_settings_move_out_and_back(address):
    peer = os.environ["KAFKA_PEER"]
    out, back = Move(address, peer, "out"), Move(peer, address, "back")
    file = file_with(PROPERTIES.format(
        here=address, there=peer, out=out.topic, out_group=out.group, back=back.topic,
        back_group=back.group))
    with Program("org.apache.kafka.connect.mirror.MirrorMaker", file) as mirror:
        try:
            out.check()
            back.check()
        except AssertionError as error:
            raise AssertionError(f"{error}; MirrorMaker: {mirror.complaints()}") from error
        mirror.stop()
    out.go_over()
    back.go_over()
    # Only one cluster has the group now.
    says("members", normal(tool("consumer.group.ConsumerGroupCommand", "--bootstrap-server", peer,
                                "--describe", "--group", out.group, "--state"))[1:])


cases.CASE_SECONDS = 200
main()

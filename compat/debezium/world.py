"""Two Wharf nodes, a Kafka Connect with Debezium, and what both send of the same tables.

One node has a relay for each scenario; the other is the Kafka that Kafka Connect writes to. So both
may send to topics of the same name, and each topic of the one can be laid beside that of the other.
"""

import atexit
import collections
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import urllib.parse

from confluent_kafka import Consumer, TopicPartition

from cases import until
from java import Program

PARTITIONS = 3
READY_SECONDS = 150
SENT_SECONDS = 60

NODE = f"""
[topics]
default-partitions = {PARTITIONS}
"""
# The converters are those of each connector.
WORKER = """
bootstrap.servers = {kafka}
plugin.path = {plugins}
plugin.discovery = service_load
listeners = http://127.0.0.1:0
offset.storage.file.filename = {folder}/offsets
offset.flush.interval.ms = 1000
key.converter = org.apache.kafka.connect.storage.StringConverter
value.converter = org.apache.kafka.connect.storage.StringConverter
"""
# What stops a connector for good.
FAILED = "unrecoverable exception"

Record = collections.namedtuple("Record", "topic partition key value headers timestamp")


class Node:
    """A running `wharf serve`, which ends with this program."""

    def __init__(self, folder, name, configuration):
        file = folder / f"{name}.toml"
        file.write_text(configuration)
        self.log = folder / f"{name}.log"
        command = [os.environ["WHARF"], "serve", "--data", folder / name, "--config", file,
                   "--kafka-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                   "--registry-listen", "127.0.0.1:0", "--ready-json"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=self.log.open("w"), text=True)
        atexit.register(self.process.kill)
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the node did not start: {self.log.read_text()[-2000:]}")
        self.kafka = json.loads(line)["kafka"]

    def stop(self):
        """Asks it to end, and fails unless it does in order."""
        self.process.terminate()
        code = self.process.wait(30)
        if code != 0:
            raise RuntimeError(f"a node ended with {code}: {self.log.read_text()[-2000:]}")


class Postgres:
    """The database, through psql."""

    def __init__(self, address):
        self.address = address
        self.parts = urllib.parse.urlsplit(address)

    def run(self, script):
        """Runs statements; what they answer, unadorned."""
        command = ["psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", self.address]
        done = subprocess.run(command, input=script, capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"psql: {done.stderr[-1500:]}")
        return done.stdout.strip()

    def together(self, scripts):
        """Runs several at once."""
        failures = []

        def guarded(script):
            try:
                self.run(script)
            except AssertionError as error:
                failures.append(error)
        threads = [threading.Thread(target=guarded, args=[script]) for script in scripts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


class Reader:
    """Everything that is written to a node, as it comes."""

    def __init__(self, kafka):
        self.consumer = Consumer({
            "bootstrap.servers": kafka, "group.id": "comparison", "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50, "topic.metadata.refresh.interval.ms": 1000,
        })
        self.places, self.records = {}, []

    def poll(self):
        """Takes what has come."""
        topics = self.consumer.list_topics(timeout=10).topics
        found = {(name, partition) for name, topic in topics.items() if not name.startswith("_")
                 for partition in topic.partitions}
        if found - self.places.keys():
            self.places = {place: self.places.get(place, 0) for place in found}
            self.consumer.assign([TopicPartition(*place, offset)
                                  for place, offset in self.places.items()])
        for message in self.consumer.consume(1000, timeout=0.2):
            if message.error():
                raise AssertionError(message.error())
            self.places[message.topic(), message.partition()] = message.offset() + 1
            self.records.append(Record(message.topic(), message.partition(), message.key(),
                                       message.value(), tuple(message.headers() or ()),
                                       message.timestamp()[1]))

    def of(self, name):
        """The records of a scenario: its name is a word of the names of its topics."""
        return [record for record in self.records if name in re.split("[.-]", record.topic)]


def connector(scenario, postgres):
    """The configuration of a connector of Debezium."""
    name, parts = scenario.name, postgres.parts
    return {
        "name": name,
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "plugin.name": "pgoutput",
        "database.hostname": parts.hostname,
        "database.port": str(parts.port),
        "database.user": parts.username,
        "database.password": "not asked for",
        "database.dbname": parts.path.strip("/"),
        "topic.prefix": name,
        "table.include.list": scenario.table.replace(".", "\\."),
        "slot.name": f"debezium_{name}",
        "publication.name": f"debezium_{name}",
        "publication.autocreate.mode": "filtered",
        # The relay's heartbeats, which stop a connector whose converter takes bytes alone.
        "message.prefix.exclude.list": "wharf_.*",
        "transforms": "outbox",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        **scenario.connector,
    }


def relay(scenario, postgres):
    """The table of a relay in `wharf.toml`."""
    settings = {
        "url": postgres.address,
        "table": scenario.table,
        "debezium-headers-only": True,
        **scenario.relay,
    }
    # A value of JSON is one of TOML, for what occurs here.
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return f"\n[relay.{scenario.name}]\n" + "\n".join(lines) + "\n"


class World:
    """Everything that runs."""

    def __init__(self, address, scenarios):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="debezium-"))
        self.postgres = Postgres(address)
        for scenario in scenarios:
            self.postgres.run(scenario.set_up())
        self.ours = Node(self.folder, "ours", NODE + "".join(
            relay(scenario, self.postgres) for scenario in scenarios))
        self.theirs = Node(self.folder, "theirs", NODE)
        self.connect = self.start_connect(scenarios)
        self.readers = Reader(self.ours.kafka), Reader(self.theirs.kafka)
        until(lambda: self.is_read_by_both(scenarios), "both read every table", READY_SECONDS)
        self.postgres.together([script for scenario in scenarios for script in scenario.scripts()])
        self.follow(scenarios)
        self.connect.kill()
        for reader in self.readers:
            reader.consumer.close()
        self.ours.stop()
        self.theirs.stop()

    def start_connect(self, scenarios):
        worker = self.folder / "worker.properties"
        worker.write_text(WORKER.format(
            kafka=self.theirs.kafka, plugins=os.environ["DEBEZIUM_PLUGINS"], folder=self.folder))
        files = []
        for scenario in scenarios:
            settings = connector(scenario, self.postgres)
            files.append(self.folder / f"{scenario.name}.json")
            files[-1].write_text(json.dumps({"name": settings.pop("name"), "config": settings}))
        return Program("org.apache.kafka.connect.cli.ConnectStandalone", worker, *files)

    def complain(self):
        """Fails where one of them has failed."""
        said = pathlib.Path(self.connect.errors.name).read_text(errors="replace")
        if FAILED in said or self.connect.process.poll() is not None:
            at = max(said.find(FAILED), 0)
            raise RuntimeError(f"Kafka Connect: {said[max(at - 500, 0):at + 6000]}")
        for node in (self.ours, self.theirs):
            if node.process.poll() is not None:
                raise RuntimeError(f"a node ended: {node.log.read_text()[-2000:]}")

    def is_read_by_both(self, scenarios):
        self.complain()
        active = self.postgres.run("SELECT slot_name FROM pg_replication_slots WHERE active")
        # One that polls has none; it finds everything in the table.
        ours = [scenario for scenario in scenarios if scenario.relay.get("mode") != "poll"]
        return len(active.split()) == len(scenarios) + len(ours)

    def follow(self, scenarios):
        """Reads until everything that was committed has come, and then the row behind it, by which
        something that should not come has come, too."""
        self.arrive({scenario.name: self.written(scenario) for scenario in scenarios})
        self.postgres.together([scenario.last() for scenario in scenarios])
        self.arrive({scenario.name: self.written(scenario) for scenario in scenarios})

    def written(self, scenario):
        return int(self.postgres.run(f"SELECT count(*) FROM {scenario.name}.written"))

    def arrive(self, wanted):
        """Waits until both nodes have as many records of each scenario, or one goes without for long:
        then the comparison tells what is missing."""
        def are_there():
            self.complain()
            for reader in self.readers:
                reader.poll()
            return all(len(reader.of(name)) >= count for reader in self.readers
                       for name, count in wanted.items())
        try:
            until(are_there, "everything is sent", SENT_SECONDS)
        except AssertionError as error:
            print(f"{error}", flush=True)

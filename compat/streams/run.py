"""Kafka Streams, from Maven Central: a word count with exactly-once processing.

    KAFKA_CLASSES='target/xtask/services/kafka/libs/*' python3 compat/streams/run.py 127.0.0.1:9092
"""

import collections
import pathlib
import random
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from cases import case, equal, fresh, main, says, until  # noqa: E402
from java import Program, normal, tool  # noqa: E402

WORDS = [f"word{number}" for number in range(40)]


class Count:
    """An application that counts words, the text that it is given, and what comes out of it."""

    def __init__(self, address, instances=1):
        self.address, self.identity = address, fresh("count")
        self.given, self.made = fresh("text"), fresh("counts")
        self.wanted = collections.Counter()
        self.chance = random.Random(7)
        for topic in [self.given, self.made]:
            tool("TopicCommand", "--bootstrap-server", address, "--create", "--topic", topic,
                 "--partitions", 3)
        self.folders = [tempfile.TemporaryDirectory() for _ in range(instances)]
        self.instances = [None] * instances

    def start(self, instance=0):
        """Starts an instance; one that was killed comes back to its own state directory."""
        self.instances[instance] = Program(
            str(HERE / "WordCount.java"), self.address, self.identity, self.given, self.made,
            self.folders[instance].name)
        return self.instances[instance]

    def feed(self, lines):
        """More text; what it adds to the counts is remembered."""
        text = []
        for number in range(lines):
            words = self.chance.choices(WORDS, k=6)
            self.wanted.update(words)
            text.append(f"{number}:{' '.join(words)}\n")
        tool("ConsoleProducer", "--bootstrap-server", self.address, "--topic", self.given,
             "--reader-property", "parse.key=true", "--reader-property", "key.separator=:",
             given="".join(text))

    def found(self):
        """Every count that was committed, by word, in order."""
        out = tool("consumer.ConsoleConsumer", "--bootstrap-server", self.address, "--topic",
                   self.made, "--from-beginning", "--timeout-ms", 1000, "--isolation-level",
                   "read_committed", "--formatter-property", "print.key=true")
        counts = collections.defaultdict(list)
        for line in out.splitlines():
            word, count = line.split("\t")
            counts[word].append(int(count))
        return counts

    def is_counted(self):
        """Waits until every word has its count; then no word was ever counted twice."""
        def look():
            for program in filter(None, self.instances):
                if program.process.poll() not in (None, -9):
                    raise AssertionError(f"an instance ended: {program.complaints()}")
            counts = self.found()
            last = {word: these[-1] for word, these in counts.items()}
            return counts if last == dict(self.wanted) else None

        try:
            counts = until(look, "the counts are right", 60)
        except AssertionError as error:
            last = {word: these[-1] for word, these in self.found().items()}
            wrong = {word: (last.get(word), count) for word, count in self.wanted.items()
                     if last.get(word) != count}
            running = [program.complaints() for program in self.instances if program]
            raise AssertionError(f"{error}; found and wanted {wrong}; {running}") from None
        for word, these in counts.items():
            equal(these, sorted(set(these)), f"committed counts of {word}")

    def end(self):
        for program in filter(None, self.instances):
            program.kill()
        for folder in self.folders:
            folder.cleanup()


@case
def words_are_counted_exactly_though_the_process_is_killed(address):
    count = Count(address)
    try:
        count.feed(300)
        first = count.start()
        first.until(lambda lines: "RUNNING" in lines, "running")
        until(count.found, "the first counts are committed")
        count.feed(1500)
        first.kill()
        count.feed(300)
        second = count.start()
        count.feed(300)
        count.is_counted()
        second.stop()
        says("closing", second.lines[-2:])
        described = tool("TopicCommand", "--bootstrap-server", address, "--describe",
                         "--topic", count.identity + ".*")
        for line in normal(described):
            name, *settings = line.split(" ")[1:2] + line.split("Configs: ")[1:]
            if settings:
                wanted = "compact" if name.endswith("-changelog") else "delete"
                equal(f"cleanup.policy={wanted}" in settings[0], True, f"{name} {settings[0]}")
        equal(described.count("TopicId:"), 2, "internal topics")
        # The process is started anew; it goes on where it was.
        count.start()
        count.feed(100)
        count.is_counted()
    finally:
        count.end()


@case
def words_are_counted_exactly_by_two_processes_of_which_one_is_killed(address):
    count = Count(address, instances=2)
    try:
        count.feed(200)
        for instance in range(2):
            count.start(instance)
        for program in count.instances:
            program.until(lambda lines: "RUNNING" in lines, "running")
        until(count.found, "the first counts are committed")
        count.feed(1500)
        count.instances[0].kill()
        count.feed(200)
        count.is_counted()
        count.start(0)
        count.feed(200)
        count.is_counted()
        for program in count.instances:
            program.stop()
    finally:
        count.end()


@case
def an_application_is_reset(address):
    count = Count(address)
    try:
        count.feed(50)
        program = count.start()
        count.is_counted()
        program.stop()
        out = tool("StreamsResetter", "--bootstrap-server", address, "--application-id",
                   count.identity, "--input-topics", count.given, "--force")
        equal("Done." in out, True, out)
        left = tool("TopicCommand", "--bootstrap-server", address, "--list").split()
        equal([name for name in left if name.startswith(count.identity)], [], "internal topics")
        offsets = tool("consumer.group.ConsumerGroupCommand", "--bootstrap-server", address,
                       "--describe", "--group", count.identity)
        says("offsets", normal(offsets))
    finally:
        count.end()


main()

"""Debian's kcat 1.7.1 (librdkafka 2.0.2): what people type at a terminal.

    python3 compat/kcat/run.py 127.0.0.1:9092

That librdkafka is old on purpose: it matches single protocol versions and drops compression or
groups silently when one is missing.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import CODECS, case, equal, fresh, lacks, main, next_millisecond, until  # noqa: E402

lacks("append-time", "it makes topics only by producing, without settings")
lacks("consumer-protocol", "its librdkafka does not speak the consumer protocol yet")
lacks("pipeline", "it sends no offsets in a transaction")
lacks("topics", "it has no administration")
lacks("partitions", "it has no administration")
lacks("configs", "it has no administration")
lacks("groups", "it has no administration")
lacks("deletion", "it has no administration")


def kcat(address, *arguments, given="", fails=False):
    """What kcat prints, or what it complains of where it should; fails when it ends otherwise."""
    done = subprocess.run(
        ["kcat", "-b", address, *arguments],
        input=given, capture_output=True, text=True, timeout=60, check=False,
    )
    if (done.returncode != 0) != fails:
        raise AssertionError(f"kcat {arguments}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stderr if fails else done.stdout


def produce(address, topic, lines, *arguments):
    kcat(address, "-P", "-t", topic, *arguments, given="".join(f"{line}\n" for line in lines))


def consume(address, topic, *arguments, form="%s\\n"):
    """The lines of everything there is, from the beginning unless told otherwise."""
    start = [] if "-o" in arguments else ["-o", "beginning"]
    return kcat(address, "-C", "-e", "-t", topic, "-f", form, *start, *arguments).splitlines()


@case("cluster")
def the_metadata_lists_a_topic_that_was_made_by_producing(address):
    topic = fresh("listed")
    produce(address, topic, ["one"])
    answer = json.loads(kcat(address, "-L", "-J", "-t", topic))
    equal([t["topic"] for t in answer["topics"]], [topic], "topics")
    partition = answer["topics"][0]["partitions"][0]
    equal(partition["leader"], answer["brokers"][0]["id"], "leader")
    assert topic in kcat(address, "-L"), "the list of all topics has it too"


def round_trip(address, codec):
    topic = fresh(codec)
    lines = [f"key{i % 7}:{codec} value {i} {'x' * 200}" for i in range(2000)]
    produce(address, topic, lines, "-K:", "-z", codec, "-X", "linger.ms=50")
    found = consume(address, topic, form="%k:%s\\n")
    equal(sorted(found), sorted(lines), "lines")


for _codec in CODECS:
    def _round_trip(address, codec=_codec):
        round_trip(address, codec)
    _round_trip.__name__ = f"produces_and_consumes_with_codec_{_codec}"
    case("codecs")(_round_trip)


@case("codecs")
def compression_is_really_used(address):
    # librdkafka turns it off without a word when it does not like the broker's Produce versions.
    topic, lines = fresh("compressed"), ["y" * 900] * 2000
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        done = subprocess.run(
            ["kcat", "-b", address, "-P", "-t", topic, "-z", "gzip", "-d", "msg", "-l", file.name],
            capture_output=True, text=True, timeout=60, check=True,
        )
    assert "gzip" in done.stderr, "the debug log names the codec of each batch"
    equal(consume(address, topic), lines, "lines")


@case
def order_within_a_partition_is_the_order_of_producing(address):
    topic = fresh("order")
    lines = [str(i) for i in range(5000)]
    produce(address, topic, lines, "-p", "0")
    equal(consume(address, topic, "-p", "0"), lines, "lines")
    offsets = consume(address, topic, "-p", "0", form="%o\\n")
    equal(offsets, lines, "offsets")


@case("headers")
def headers_keep_their_order_and_repeated_keys(address):
    topic = fresh("headers")
    produce(address, topic, ["x"], "-H", "a=1", "-H", "b=two", "-H", "a=3", "-H", "empty=")
    equal(consume(address, topic, form="%h\\n"), ["a=1,b=two,a=3,empty="], "headers")


@case("nulls")
def empty_and_missing_keys_and_values_differ(address):
    topic = fresh("null")
    produce(address, topic, ["k:v", ":v", "k:"], "-K:", "-Z", "-p", "0")
    sizes = consume(address, topic, form="%K %S\\n")
    equal(sizes, ["1 1", "-1 1", "1 -1"], "lengths of keys and values")


@case("resume")
def a_group_goes_on_where_it_left_off(address):
    topic, group = fresh("resume"), fresh("group")
    options = ["-X", "auto.offset.reset=earliest", "-e", "-f", "%s\\n", "-G", group, topic]
    produce(address, topic, ["a", "b", "c"])
    equal(kcat(address, *options).split(), ["a", "b", "c"], "the first run")
    produce(address, topic, ["d"])
    equal(kcat(address, *options).split(), ["d"], "the second run")


class Member:
    """A kcat that reads in a group until it is told to stop; its lines are partition and offset."""

    def __init__(self, address, group, topic, *options):
        out = tempfile.NamedTemporaryFile("w")
        # Opened anew: whoever reads must not move the place where the other one writes.
        self.printed = open(out.name)
        arguments = [
            "kcat", "-b", address, "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=10000",
            "-X", "heartbeat.interval.ms=300", *options, "-u", "-f", "%p %o\\n", "-G", group, topic,
        ]
        self.process = subprocess.Popen(
            arguments, stdout=out, stderr=subprocess.PIPE, text=True, bufsize=1
        )

    def read(self):
        """What it has read so far, in order."""
        self.printed.seek(0)
        lines = self.printed.read().splitlines(True)
        return [tuple(map(int, line.split())) for line in lines if line[-1] == "\n"]

    def stop(self):
        self.process.terminate()
        self.process.communicate(timeout=30)


def long(line):
    """A line that is more than kcat reads at once: it is sent when the next one has come."""
    return f"{line:x<2000}\n"


def rebalancing(address, *options):
    """Members come and go while a producer runs; together they have read everything."""
    topic, group = fresh("share"), fresh("group")
    produce(address, topic, ["warm"])
    members = []
    producer = subprocess.Popen(
        ["kcat", "-b", address, "-P", "-t", topic, "-X", "linger.ms=0"],
        stdin=subprocess.PIPE, text=True, bufsize=1,
    )
    sent = 1

    def read():
        return {record for member in members for record in member.read()}

    def fed(condition):
        """Sends a record, and asks whether the condition holds by now."""
        nonlocal sent
        producer.stdin.write(long(f"{sent}"))
        sent += 1
        return condition()

    def join():
        members.append(Member(address, group, topic, *options))
        return members[-1]

    try:
        first = join()
        until(lambda: fed(lambda: len(first.read()) > 5), "the first member reads")
        second = join()
        joined = len(first.read())
        # There is one partition: only when the first one leaves does the second one read.
        until(lambda: fed(lambda: len(first.read()) > joined + 5), "the first member goes on")
        first.stop()
        until(lambda: fed(lambda: len(second.read()) > 5), "the second member has taken over")
        third = join()
        second.stop()
        until(lambda: fed(lambda: len(third.read()) > 5), "the third member has taken over")
        producer.stdin.close()
        equal(producer.wait(30), 0, "the producer's exit code")
        # What a kcat holds when it is told to stop it has committed, but does not print.
        held = {(0, member.read()[-1][1] + 1) for member in (first, second)}
        wanted = {(0, offset) for offset in range(sent)} - held
        until(lambda: read() - held == wanted, "all members together have read everything")
        for member in members:
            offsets = [offset for _, offset in member.read()]
            equal(offsets, sorted(set(offsets)), "what one member has read, in order and once")
    finally:
        for process in (producer, *(member.process for member in members)):
            process.kill()
            process.wait()


@case("rebalance")
def members_of_a_group_come_and_go_and_read_everything(address):
    rebalancing(address)


@case("cooperative")
def members_come_and_go_cooperatively_and_read_everything(address):
    rebalancing(address, "-X", "partition.assignment.strategy=cooperative-sticky")


@case("static")
def a_second_member_with_the_same_instance_id_fences_the_first(address):
    topic, group = fresh("static"), fresh("group")
    produce(address, topic, ["a", "b", "c"])
    options = ["-X", "group.instance.id=till-1"]
    first = Member(address, group, topic, *options)
    until(lambda: len(first.read()) == 3, "the first reads all")
    second = Member(address, group, topic, *options)
    try:
        _, said = first.process.communicate(timeout=30)
        assert "fenced" in said.lower(), said
        produce(address, topic, ["d"])
        until(lambda: second.read()[-1:] == [(0, 3)], "the second reads on")
    finally:
        second.stop()


@case("keys")
def a_key_always_goes_to_the_same_partition_in_order(address):
    # Other partitioners of the same topic would put the keys elsewhere.
    topic = fresh("keys")
    lines = [f"key{i % 7}:{i}" for i in range(500)]
    produce(address, topic, lines, "-K:")
    found = [line.split(" ") for line in consume(address, topic, form="%k:%s %p\\n")]
    homes = {}
    for line, partition in found:
        equal(homes.setdefault(line.split(":")[0], partition), partition, "the key's partition")
    equal(sorted(line for line, _ in found), sorted(lines), "lines")
    for key in homes:
        mine = [line for line, _ in found if line.startswith(f"{key}:")]
        equal(mine, [line for line in lines if line.startswith(f"{key}:")], "order of a key")


def transactional(address, topic, name):
    """A kcat that sends its lines in one transaction."""
    return subprocess.Popen(
        ["kcat", "-b", address, "-P", "-t", topic, "-X", f"transactional.id={name}", "-X", "linger.ms=0"],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
    )


UNCOMMITTED = ("-X", "isolation.level=read_uncommitted")


@case("transactions")
def what_is_committed_is_seen_and_what_is_aborted_is_not(address):
    topic = fresh("txn")
    produce(address, topic, ["before"])

    def seen(*arguments):
        return [line.rstrip("x") for line in consume(address, topic, *arguments)]

    committed = transactional(address, topic, fresh("id"))
    committed.stdin.write(long("one") + long("two"))
    until(lambda: seen(*UNCOMMITTED) == ["before", "one"], "the first has arrived")
    equal(seen(), ["before"], "read committed while it is open")
    committed.communicate(timeout=30)
    equal(committed.returncode, 0, "the exit code of the one that commits")
    # One that dies has its transaction aborted by the next with its id.
    name = fresh("id")
    died = transactional(address, topic, name)
    died.stdin.write(long("three") + long("four"))
    until(lambda: seen(*UNCOMMITTED)[-1] == "three", "the third has arrived")
    died.kill()
    died.wait()
    transactional(address, topic, name).communicate("after\n", timeout=30)
    equal(seen(), ["before", "one", "two", "after"], "read committed")
    everything = ["before", "one", "two", "three", "after"]
    equal([value for value in seen(*UNCOMMITTED) if value != "four"], everything, "read uncommitted")


@case("fencing")
def a_second_producer_with_the_same_id_fences_the_first(address):
    topic, name = fresh("fence"), fresh("id")
    produce(address, topic, ["before"])
    first = transactional(address, topic, name)
    first.stdin.write(long("fenced") + long("fenced"))
    until(lambda: len(consume(address, topic, *UNCOMMITTED)) == 2, "the first one's record is there")
    second = transactional(address, topic, name)
    second.communicate("kept\n", timeout=30)
    equal(second.returncode, 0, "the second one's exit code")
    _, said = first.communicate(long("too late"), timeout=30)
    assert first.returncode != 0, "the first one failed"
    assert "fenced" in said.lower(), said
    equal(consume(address, topic), ["before", "kept"], "read committed")


@case("times")
def offsets_by_timestamp_start_and_end_where_asked(address):
    topic = fresh("time")
    produce(address, topic, ["old1", "old2"])
    between = next_millisecond()
    produce(address, topic, ["new1", "new2"])
    equal(consume(address, topic, "-o", f"s@{between}"), ["new1", "new2"], "from the time on")
    until_then = consume(address, topic, "-o", "s@0", "-o", f"e@{between}")
    equal(until_then, ["old1", "old2"], "up to the time")
    answer = kcat(address, "-Q", "-t", f"{topic}:0:{between}").split()
    equal(answer[-1], "2", f"the offset in {answer}")


@case("resets")
def consuming_starts_at_a_number_or_before_the_end(address):
    topic = fresh("from")
    produce(address, topic, [str(i) for i in range(100)], "-p", "0")
    equal(consume(address, topic, "-p", "0", "-o", "97"), ["97", "98", "99"], "from 97")
    equal(consume(address, topic, "-p", "0", "-o", "-2"), ["98", "99"], "the last two")
    equal(consume(address, topic, "-p", "0", "-o", "40", "-c", "3"), ["40", "41", "42"], "three")


@case
def every_level_of_acknowledgement_works(address):
    for acks in ["0", "1", "all"]:
        topic = fresh(f"acks{acks}")
        # Made first: with acks=0 nobody says that the topic is not there yet.
        produce(address, topic, ["first"])
        produce(address, topic, ["second", "third"], "-X", f"acks={acks}")
        wanted = ["first", "second", "third"]
        until(lambda topic=topic: consume(address, topic) == wanted, f"acks={acks}: three records")


@case("idempotent")
def an_idempotent_producer_is_served(address):
    topic = fresh("idempotent")
    lines = [str(i) for i in range(1000)]
    produce(address, topic, lines, "-p", "0", "-X", "enable.idempotence=true")
    equal(consume(address, topic), lines, "lines")


@case("large")
def a_large_message_passes_and_one_beyond_the_limit_is_refused(address):
    topic = fresh("large")
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("z" * 900_000)
        file.flush()
        kcat(address, "-P", "-t", topic, file.name)
    equal([len(line) for line in consume(address, topic)], [900_000], "the size")
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("z" * 2_000_000)
        file.flush()
        said = kcat(
            address, "-P", "-t", topic, "-X", "message.max.bytes=5000000", file.name, fails=True
        )
    assert "too large" in said.lower(), said
    equal([len(line) for line in consume(address, topic)], [900_000], "nothing was added")


if __name__ == "__main__":
    main(together=True)

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
from cases import CODECS, case, equal, fresh, main, next_millisecond, until  # noqa: E402


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


@case
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
    case(_round_trip)


@case
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


@case
def headers_keep_their_order_and_repeated_keys(address):
    topic = fresh("headers")
    produce(address, topic, ["x"], "-H", "a=1", "-H", "b=two", "-H", "a=3", "-H", "empty=")
    equal(consume(address, topic, form="%h\\n"), ["a=1,b=two,a=3,empty="], "headers")


@case
def empty_and_missing_keys_and_values_differ(address):
    topic = fresh("null")
    produce(address, topic, ["k:v", ":v", "k:"], "-K:", "-Z", "-p", "0")
    sizes = consume(address, topic, form="%K %S\\n")
    equal(sizes, ["1 1", "-1 1", "1 -1"], "lengths of keys and values")


@case
def a_group_goes_on_where_it_left_off(address):
    topic, group = fresh("resume"), fresh("group")
    options = ["-X", "auto.offset.reset=earliest", "-e", "-f", "%s\\n", "-G", group, topic]
    produce(address, topic, ["a", "b", "c"])
    equal(kcat(address, *options).split(), ["a", "b", "c"], "the first run")
    produce(address, topic, ["d"])
    equal(kcat(address, *options).split(), ["d"], "the second run")


@case
def two_members_of_a_group_read_everything_between_them(address):
    topic, group = fresh("share"), fresh("group")
    produce(address, topic, ["warm"])
    arguments = [
        "kcat", "-b", address, "-X", "auto.offset.reset=earliest", "-u", "-f", "%s\\n",
        "-G", group, topic,
    ]
    with tempfile.TemporaryFile("w+") as first_out, tempfile.TemporaryFile("w+") as second_out:
        first = subprocess.Popen(arguments, stdout=first_out, stderr=subprocess.PIPE, text=True)
        second = subprocess.Popen(arguments, stdout=second_out, stderr=subprocess.PIPE, text=True)
        try:
            produce(address, topic, [str(i) for i in range(200)])

            def read():
                for out in (first_out, second_out):
                    out.seek(0)
                return first_out.read().split() + second_out.read().split()

            wanted = {str(i) for i in range(200)} | {"warm"}
            until(lambda: set(read()) == wanted, "both members together have read everything")
        finally:
            for member in (first, second):
                member.terminate()
                member.communicate(timeout=30)


@case
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


@case
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


@case
def an_idempotent_producer_is_served(address):
    topic = fresh("idempotent")
    lines = [str(i) for i in range(1000)]
    produce(address, topic, lines, "-p", "0", "-X", "enable.idempotence=true")
    equal(consume(address, topic), lines, "lines")


@case
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
    main()

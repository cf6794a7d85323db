"""PyPI's aiokafka: what asynchronous Python services run on.

    python3 compat/aiokafka/run.py 127.0.0.1:9092

It speaks older protocol versions than the others, and checks the CRC of every batch.
"""

import asyncio
import contextlib
import pathlib
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import OffsetAndMetadata

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import CODECS, case, equal, fresh, lacks, main  # noqa: E402

lacks("cooperative", "no cooperative assignor")
lacks("consumer-protocol", "it does not speak the consumer protocol")


async def until(condition, what, seconds=60):
    """Waits until `await condition()` answers something true and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running(client):
    """Starts a client, and stops it at the end."""
    await client.start()
    try:
        yield client
    finally:
        await client.close() if isinstance(client, AIOKafkaAdminClient) else await client.stop()


def admin(address):
    return running(AIOKafkaAdminClient(bootstrap_servers=address))


async def topic_with(address, partitions=1, **config):
    name = fresh("topic")
    settings = {key.replace("_", "."): str(value) for key, value in config.items()}
    async with admin(address) as client:
        answer = await client.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        equal([code for _, code, *_ in answer.topic_errors], [0], "errors of creating the topic")

        async def listed():
            return name in await client.list_topics()

        await until(listed, "the topic is there")
    return name


async def produce(address, topic, values, partition=None, headers=None, key=None, times=None, **config):
    """Produces and waits for every acknowledgement; returns what the broker said of each."""
    async with running(AIOKafkaProducer(bootstrap_servers=address, **config)) as producer:
        futures = [
            await producer.send(
                topic, value, key=key[index] if isinstance(key, list) else key, headers=headers,
                partition=partition, timestamp_ms=times[index] if times else None,
            )
            for index, value in enumerate(values)
        ]
        return await asyncio.gather(*futures)


def consumer_of(address, *topics, group=None, **config):
    settings = {
        "auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_max_wait_ms": 200,
        "session_timeout_ms": 10_000, "heartbeat_interval_ms": 300, "retry_backoff_ms": 100,
        "metadata_max_age_ms": 2000, **config,
    }
    return running(AIOKafkaConsumer(*topics, bootstrap_servers=address, group_id=group, **settings))


async def take(consumer, count):
    """The next `count` messages."""
    messages = []
    while len(messages) < count:
        polled = await consumer.getmany(timeout_ms=300, max_records=count - len(messages))
        messages.extend(message for batch in polled.values() for message in batch)
    return messages


async def read(address, topic, count, partition=0, offset=0, **config):
    """`count` messages of a partition, without a group."""
    async with consumer_of(address, **config) as consumer:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        consumer.seek(place, offset)
        return await take(consumer, count)


async def end(address, topic, partition=0):
    async with consumer_of(address) as consumer:
        place = TopicPartition(topic, partition)
        return (await consumer.end_offsets([place]))[place]


async def group_state(client, group):
    """State and members of a group: instance or client id, and the partitions of each."""
    answer = (await client.describe_consumer_groups([group]))[0]
    (_, _, state, _, _, members, *_), = answer.groups
    return state, len(members)


for _codec in CODECS:
    async def _round_trip(address, codec=_codec):
        topic = await topic_with(address, partitions=2)
        for partition in (0, 1):
            values = [f"{codec} {i} {'x' * 300}".encode() for i in range(500)]
            compression = None if codec == "none" else codec
            await produce(
                address, topic, values, partition, compression_type=compression, linger_ms=5
            )
            found = await read(address, topic, len(values), partition)
            equal([m.value for m in found], values, "values")
    _round_trip.__name__ = f"produces_and_consumes_with_codec_{_codec}"
    case("codecs")(_round_trip)


@case("headers")
async def headers_keep_their_order_repeated_keys_and_empty_values(address):
    topic = await topic_with(address)
    headers = [("a", b"1"), ("b", None), ("a", b"2"), ("a", b""), ("\u00e4", b"\x00\xff")]
    await produce(address, topic, [b"x"], headers=headers)
    equal(list((await read(address, topic, 1))[0].headers), headers, "headers")


@case("nulls")
async def null_and_empty_keys_and_values_differ(address):
    topic = await topic_with(address)
    sent = [(b"k", None), (None, b"v"), (b"", b"")]
    for key, value in sent:
        await produce(address, topic, [value], key=key)
    equal([(m.key, m.value) for m in await read(address, topic, 3)], sent, "keys and values")


@case("large")
async def messages_of_several_megabytes_pass_where_the_topic_allows_them(address):
    topic = await topic_with(address, max_message_bytes=9_000_000)
    values = [bytes([i]) * 4_000_000 for i in range(3)]
    await produce(address, topic, values, max_request_size=9_500_000)
    found = await read(address, topic, 3)
    equal([m.value == value for m, value in zip(found, values)], [True] * 3, "the same values")


@case("large")
async def a_message_beyond_the_topics_limit_is_refused(address):
    topic = await topic_with(address, max_message_bytes=20_000)
    await produce(address, topic, [b"x" * 19_000])
    try:
        await produce(address, topic, [b"x" * 21_000])
    except errors.MessageSizeTooLargeError:
        equal(await end(address, topic), 1, "the end")
    else:
        raise AssertionError("it was not refused")


@case("keys")
async def a_key_always_goes_to_the_same_partition_in_order(address):
    topic = await topic_with(address, partitions=4)
    values = [str(i).encode() for i in range(400)]
    keys = [f"key {i % 20}".encode() for i in range(400)]
    await produce(address, topic, values, key=keys, linger_ms=5)
    homes, found = {}, {}
    for partition in range(4):
        count = await end(address, topic, partition)
        for message in await read(address, topic, count, partition):
            equal(homes.setdefault(message.key, partition), partition, "the key's partition")
            found.setdefault(message.key, []).append(message.value)
    wanted = {}
    for key, value in zip(keys, values):
        wanted.setdefault(key, []).append(value)
    equal(found, wanted, "values by key")
    assert len(set(homes.values())) > 1, "more than one partition is used"


@case("times")
async def create_times_are_kept_and_found(address):
    topic = await topic_with(address, retention_ms=-1)
    times = [1000, 2000, 3000, 1_600_000_000_123]
    await produce(address, topic, [b"x"] * 4, times=times, linger_ms=20)
    equal([m.timestamp for m in await read(address, topic, 4)], times, "times")
    place = TopicPartition(topic, 0)
    async with consumer_of(address) as consumer:
        for at, wanted in [(1, 0), (2000, 1), (2001, 2), (1_700_000_000_000, None)]:
            found = (await consumer.offsets_for_times({place: at}))[place]
            equal(found and found.offset, wanted, f"the offset at {at}")
        equal(await consumer.beginning_offsets([place]), {place: 0}, "the beginning")
        equal(await consumer.end_offsets([place]), {place: 4}, "the end")


@case("append-time")
async def log_append_time_is_the_brokers_clock(address):
    topic = await topic_with(address, message_timestamp_type="LogAppendTime")
    await produce(address, topic, [b"x"], times=[1000])
    message = (await read(address, topic, 1))[0]
    equal(message.timestamp_type, 1, "the kind of timestamp")
    assert abs(message.timestamp / 1000 - time.time()) < 60, message.timestamp


@case("idempotent")
async def an_idempotent_producer_leaves_no_gaps(address):
    topic = await topic_with(address)
    values = [str(i).encode() for i in range(3000)]
    said = await produce(address, topic, values, partition=0, enable_idempotence=True, linger_ms=2)
    equal([answer.offset for answer in said], list(range(3000)), "offsets")
    equal([m.value for m in await read(address, topic, 3000)], values, "values in order")


@case("resume")
async def a_group_resumes_from_its_commit_and_keeps_the_metadata(address):
    topic, group = await topic_with(address), fresh("group")
    place = TopicPartition(topic, 0)
    await produce(address, topic, [str(i).encode() for i in range(10)])
    async with consumer_of(address, topic, group=group) as first:
        await take(first, 10)
        await first.commit({place: OffsetAndMetadata(4, "four, please")})
    async with consumer_of(address, topic, group=group) as second:
        equal([m.value for m in await take(second, 6)], [str(i).encode() for i in range(4, 10)], "values")
        equal(await second.committed(place), 4, "the commit")
    async with admin(address) as client:
        found = await client.list_consumer_group_offsets(group)
        equal(found, {place: OffsetAndMetadata(4, "four, please")}, "offsets of the group")


@case("resets")
async def a_group_without_offsets_begins_where_it_is_told(address):
    topic = await topic_with(address)
    await produce(address, topic, [b"before"] * 5)
    async with consumer_of(address, topic, group=fresh("group")) as early:
        equal((await take(early, 5))[0].offset, 0, "from the beginning")
    late_group = fresh("group")
    async with consumer_of(address, topic, group=late_group, auto_offset_reset="latest") as late:
        equal(await late.position(TopicPartition(topic, 0)), 5, "the end")
        await produce(address, topic, [b"after"])
        equal((await take(late, 1))[0].value, b"after", "the first after joining")
    async with consumer_of(address, topic, group=fresh("group"), auto_offset_reset="none") as none:
        try:
            await none.getone()
        except errors.NoOffsetForPartitionError:
            pass
        else:
            raise AssertionError("it began somewhere")


@case("resets")
async def a_group_is_reset_to_a_time(address):
    topic, group = await topic_with(address, retention_ms=-1), fresh("group")
    place = TopicPartition(topic, 0)
    times = [1000, 2000, 3000, 4000]
    await produce(address, topic, [b"x"] * 4, times=times, linger_ms=20)
    async with consumer_of(address, group=group) as consumer:
        consumer.assign([place])
        await consumer.commit({place: 4})
        found = (await consumer.offsets_for_times({place: 2500}))[place]
        await consumer.commit({place: found.offset})
    async with consumer_of(address, topic, group=group) as consumer:
        equal([m.timestamp for m in await take(consumer, 2)], [3000, 4000], "times")


class Progress:
    """What the members of a group have seen of a topic, and what was sent to it."""

    def __init__(self, partitions):
        self.seen, self.sent = [0] * partitions, [0] * partitions

    def see(self, message):
        reached = self.seen[message.partition]
        assert message.offset <= reached, f"{message.offset} came before {reached}"
        self.seen[message.partition] = max(reached, message.offset + 1)


@case("rebalance")
async def members_join_and_leave_under_load_and_nothing_is_passed_over(address):
    partitions = 4
    topic, group, progress = await topic_with(address, partitions), fresh("group"), Progress(partitions)
    stop, leaving, owned = asyncio.Event(), {}, {}

    async def feed():
        async with running(AIOKafkaProducer(bootstrap_servers=address)) as producer:
            while not stop.is_set():
                for partition in range(partitions):
                    said = await producer.send_and_wait(topic, b"x", partition=partition)
                    progress.sent[partition] = said.offset + 1
                await asyncio.sleep(0.005)

    async def member(name):
        settings = {"partition_assignment_strategy": (RangePartitionAssignor,)}
        async with consumer_of(address, topic, group=group, client_id=name, **settings) as consumer:
            while not leaving[name].is_set():
                for place, batch in (await consumer.getmany(timeout_ms=100)).items():
                    for message in batch:
                        progress.see(message)
                    with contextlib.suppress(errors.CommitFailedError, errors.IllegalStateError):
                        await consumer.commit({place: batch[-1].offset + 1})
                owned[name] = {place.partition for place in consumer.assignment()}
        owned.pop(name, None)

    tasks = [asyncio.create_task(feed())]

    def join(name):
        leaving[name] = asyncio.Event()
        tasks.append(asyncio.create_task(member(name)))

    def shared(*names):
        async def condition():
            for task in tasks:
                if task.done():
                    task.result()
            shares = [owned.get(name, set()) for name in names]
            return all(shares) and sum(map(len, shares)) == partitions == len(set().union(*shares))
        return until(condition, f"{names} share the partitions")

    try:
        join("one")
        await shared("one")
        join("two")
        join("three")
        await shared("one", "two", "three")
        leaving["two"].set()
        await shared("one", "three")
        join("four")
        await shared("one", "three", "four")
        stop.set()
        await tasks[0]

        async def caught_up():
            return progress.seen == progress.sent

        await until(caught_up, "everything is read")
        async with admin(address) as client:
            async def committed():
                found = await client.list_consumer_group_offsets(group)
                return [found[TopicPartition(topic, p)].offset for p in range(partitions)] == progress.sent

            await until(committed, "everything is committed")
    finally:
        stop.set()
        for event in leaving.values():
            event.set()
        await asyncio.gather(*tasks)


@case("static")
async def a_static_member_comes_back_to_its_partitions(address):
    topic, group = await topic_with(address, partitions=2), fresh("group")

    def join():
        return consumer_of(address, topic, group=group, group_instance_id="till-1")

    async with join() as first:
        before = first.assignment()
        equal(len(before), 2, "partitions")
    async with admin(address) as client:
        equal(await group_state(client, group), ("Stable", 1), "the group without it")
        async with join() as second:
            equal(second.assignment(), before, "partitions of the one that came back")
        equal(await group_state(client, group), ("Stable", 1), "the group at the end")


def transactional(address, name):
    return running(AIOKafkaProducer(bootstrap_servers=address, transactional_id=name))


@case("transactions")
async def what_is_committed_is_seen_and_what_is_aborted_is_not(address):
    topics = [await topic_with(address), await topic_with(address)]
    async with transactional(address, fresh("txn")) as producer:
        for number in range(4):
            await producer.begin_transaction()
            for topic in topics:
                await producer.send_and_wait(topic, f"round {number}".encode())
            await (producer.commit_transaction() if number % 2 else producer.abort_transaction())
    for topic in topics:
        kept = await read(address, topic, 2, isolation_level="read_committed")
        equal([m.value for m in kept], [b"round 1", b"round 3"], "read committed")
        found = await read(address, topic, 4)
        equal([m.value for m in found], [f"round {i}".encode() for i in range(4)], "read uncommitted")


@case("transactions")
async def an_open_transaction_holds_back_those_who_read_committed_only(address):
    topic = await topic_with(address)
    await produce(address, topic, [b"before"] * 3)
    async with transactional(address, fresh("txn")) as producer:
        await producer.begin_transaction()
        await asyncio.gather(*[await producer.send(topic, b"inside") for _ in range(3)])
        await produce(address, topic, [b"behind"] * 3)
        async with consumer_of(address, isolation_level="read_committed") as consumer:
            place = TopicPartition(topic, 0)
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            equal([m.value for m in await take(consumer, 3)], [b"before"] * 3, "so far")
            equal(len(await read(address, topic, 9)), 9, "read uncommitted")
            equal(await consumer.getmany(timeout_ms=300), {}, "before the end of the transaction")
            equal(consumer.last_stable_offset(place), 3, "the last stable offset")
            await producer.commit_transaction()
            wanted = [b"inside"] * 3 + [b"behind"] * 3
            equal([m.value for m in await take(consumer, 6)], wanted, "after it")


@case("pipeline")
async def records_are_consumed_changed_and_produced_once_with_their_offsets(address):
    source, sink, group, count = await topic_with(address), await topic_with(address), fresh("group"), 100
    await produce(address, source, [f"order {i}".encode() for i in range(count)])
    place = TopicPartition(source, 0)
    async with transactional(address, fresh("txn")) as producer:
        async def move(size, end):
            async with consumer_of(address, source, group=group) as consumer:
                batch = await take(consumer, size)
                await producer.begin_transaction()
                for message in batch:
                    await producer.send(sink, message.value.upper())
                await producer.send_offsets_to_transaction({place: batch[-1].offset + 1}, group)
                await end()

        await move(40, producer.commit_transaction)
        await move(40, producer.abort_transaction)
        # What was aborted comes again.
        await move(60, producer.commit_transaction)
    async with admin(address) as client:
        async def committed():
            return (await client.list_consumer_group_offsets(group))[place].offset == count
        # The end is told before it has reached the group's partition.
        await until(committed, "the commit")
    found = await read(address, sink, count, isolation_level="read_committed")
    equal([m.value for m in found], [f"ORDER {i}".encode() for i in range(count)], "values")


@case("fencing")
async def a_second_producer_with_the_same_id_fences_the_first(address):
    topic, name = await topic_with(address), fresh("txn")
    first = AIOKafkaProducer(bootstrap_servers=address, transactional_id=name)
    await first.start()
    await first.begin_transaction()
    await first.send_and_wait(topic, b"fenced")
    async with transactional(address, name) as second, second.transaction():
        await second.send_and_wait(topic, b"kept")
    try:
        await first.send_and_wait(topic, b"too late")
    except errors.ProducerFenced:
        pass
    else:
        raise AssertionError("the first producer goes on")
    # Stopping a fenced producer fails in the same way.
    with contextlib.suppress(errors.ProducerFenced):
        await first.stop()
    found = await read(address, topic, 1, isolation_level="read_committed")
    equal([m.value for m in found], [b"kept"], "read committed")


@case("topics")
async def topics_are_created_listed_and_deleted(address):
    name = await topic_with(address, partitions=3)
    async with admin(address) as client:
        def codes(answer):
            return [code for _, code, *_ in answer.topic_errors]

        again = await client.create_topics([NewTopic(name, 3, 1)])
        equal(codes(again), [errors.TopicAlreadyExistsError.errno], "creating it twice")
        described = await client.describe_topics([name])
        equal(len(described[0]["partitions"]), 3, "partitions")
        answer = await client.delete_topics([name])
        equal([code for _, code in answer.topic_error_codes], [0], "errors of deleting")

        async def gone():
            return name not in await client.list_topics()

        await until(gone, "deleted")


@case("partitions")
async def partitions_are_added_never_taken_away(address):
    topic = await topic_with(address)
    async with admin(address) as client:
        await client.create_partitions({topic: NewPartitions(3)})

        async def three():
            return len((await client.describe_topics([topic]))[0]["partitions"]) == 3

        await until(three, "three partitions")
        try:
            await client.create_partitions({topic: NewPartitions(2)})
        except errors.InvalidPartitionsError:
            pass
        else:
            raise AssertionError("there are fewer partitions")
    await produce(address, topic, [b"new"], partition=2)
    equal((await read(address, topic, 1, 2))[0].value, b"new", "value")


@case("configs")
async def settings_are_described_and_replaced(address):
    topic = await topic_with(address, retention_ms=3_600_000)
    async with admin(address) as client:
        async def expect(wanted):
            resource = ConfigResource(ConfigResourceType.TOPIC, topic)
            answer = (await client.describe_configs([resource]))[0].resources[0]
            equal(answer[0], 0, "error")
            found = {entry[0]: entry[1] for entry in answer[4]}
            return all(found[name] == value for name, value in wanted.items())

        def settings(wanted):
            return until(lambda: expect(wanted), f"the settings are {wanted}")

        await settings({"retention.ms": "3600000", "cleanup.policy": "delete"})
        change = {"retention.bytes": "1000000"}
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, change)])
        await settings({"retention.bytes": "1000000", "retention.ms": "604800000"})


@case("groups")
async def groups_are_listed_and_described(address):
    topic, group = await topic_with(address, partitions=2), fresh("group")
    await produce(address, topic, [b"x"] * 10, partition=0)
    async with admin(address) as client:
        async with consumer_of(address, topic, group=group) as consumer:
            await take(consumer, 10)
            await consumer.commit()
            assert (group, "consumer") in [g[:2] for g in await client.list_consumer_groups()], "listed"
            equal(await group_state(client, group), ("Stable", 1), "with a member")
        equal(await group_state(client, group), ("Empty", 0), "without one")
        offsets = await client.list_consumer_group_offsets(group)
        equal(offsets[TopicPartition(topic, 0)].offset, 10, "committed")


@case("deletion")
async def records_are_deleted_up_to_an_offset(address):
    topic = await topic_with(address)
    place = TopicPartition(topic, 0)
    await produce(address, topic, [str(i).encode() for i in range(10)])
    async with admin(address) as client:
        equal(await client.delete_records({place: RecordsToDelete(4)}), {place: 4}, "the answer")
    equal([m.offset for m in await read(address, topic, 6, offset=4)], list(range(4, 10)), "offsets")
    async with consumer_of(address) as consumer:
        equal(await consumer.beginning_offsets([place]), {place: 4}, "the new beginning")


@case("cluster")
async def the_broker_names_the_address_that_it_was_reached_at(address):
    async with admin(address) as client:
        cluster = await client.describe_cluster()
    found = [f"{broker['host']}:{broker['port']}" for broker in cluster["brokers"]]
    equal(found, [address], "addresses")


if __name__ == "__main__":
    main()

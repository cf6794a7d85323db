"""What the cases of confluent-kafka share: topics, records, and members that come and go."""

import contextlib
import pathlib
import sys
import threading
import time

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import equal, fresh  # noqa: E402
from members import PARTITIONS, join_and_leave_under_load  # noqa: E402

# Members of the classic protocol that notice each other quickly, and the ways they assign.
CLASSIC = {"session_timeout_ms": 10_000, "heartbeat_interval_ms": 300}
RANGE = {"partition_assignment_strategy": "range"}
COOPERATIVE = {"partition_assignment_strategy": "cooperative-sticky"}


_admins, _admins_lock = {}, threading.Lock()


def admin(address):
    # Kept: a client that is collected while its call is under way fails the call.
    with _admins_lock:
        if address not in _admins:
            _admins[address] = AdminClient({"bootstrap.servers": address})
        return _admins[address]


def done(futures, seconds=30):
    """The results of an admin call, by what it was asked for."""
    return {what: future.result(seconds) for what, future in futures.items()}


def topic_with(address, partitions=1, **config):
    name = fresh("topic")
    settings = {key.replace("_", "."): str(value) for key, value in config.items()}
    done(admin(address).create_topics([NewTopic(name, partitions, 1, config=settings)]))
    return name


def produce(address, topic, values, partition=-1, headers=None, key=None, timestamp=0, **config):
    """Produces and waits for every acknowledgement; returns the delivered messages."""
    settings = {name.replace("_", "."): value for name, value in config.items()}
    producer = Producer({"bootstrap.servers": address, **settings})
    delivered, errors = [], []

    def report(error, message):
        (errors if error else delivered).append(error or message)

    for value in values:
        named = {"partition": partition} if partition >= 0 else {}
        producer.produce(
            topic, value, key=key, headers=headers, timestamp=timestamp, on_delivery=report, **named
        )
        producer.poll(0)
    equal(producer.flush(60), 0, "messages left in the producer")
    equal(errors, [], "errors of delivery")
    return delivered


def consumer_of(address, group=None, **config):
    settings = {name.replace("_", "."): value for name, value in config.items()}
    return Consumer({
        "bootstrap.servers": address,
        "group.id": group or fresh("group"),
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        **settings,
    })


def take(consumer, count, seconds=60):
    """The next `count` messages."""
    messages, deadline = [], time.monotonic() + seconds
    while len(messages) < count:
        left = deadline - time.monotonic()
        assert left > 0, f"only {len(messages)} of {count} messages within {seconds} s"
        for message in consumer.consume(count - len(messages), min(left, 1.0)):
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
    return messages


def read(address, topic, count, **config):
    """The first `count` messages of a topic, through a group of its own."""
    consumer = consumer_of(address, **config)
    try:
        consumer.subscribe([topic])
        return take(consumer, count)
    finally:
        consumer.close()


def rebalancing(address, settings):
    """Members come and go under load; `settings(name)` are those of a member."""
    topic, group = topic_with(address, partitions=PARTITIONS), fresh("group")
    producer = Producer({"bootstrap.servers": address, "linger.ms": 1})

    def feed(send):
        def report(error, message):
            equal(error, None, "an error of delivery")
            send(message.partition(), message.offset())
        for partition in range(PARTITIONS):
            producer.produce(topic, b"x", partition=partition, on_delivery=report)
        producer.flush(30)

    @contextlib.contextmanager
    def member(name):
        consumer = consumer_of(address, group, client_id=name, **settings(name))
        consumer.subscribe([topic])

        def turn(see):
            messages = consumer.consume(100, 0.1)
            # A group that changes over while somebody joins tells it to come again.
            asked = KafkaError.REBALANCE_IN_PROGRESS
            messages = [m for m in messages if not m.error() or m.error().code() != asked]
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
                see(message.partition(), message.offset())
            if messages:
                commit(consumer)
            return [place.partition for place in consumer.assignment()]

        try:
            yield turn
        finally:
            consumer.close()

    def committed():
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        asked = [ConsumerGroupTopicPartitions(group, places)]
        found = done(admin(address).list_consumer_group_offsets(asked))[group]
        return [place.offset for place in found.topic_partitions]

    join_and_leave_under_load(feed, member, committed)


def commit(consumer):
    """Commits the position; that the group has begun to rebalance meanwhile is no error."""
    late = (
        KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.UNKNOWN_MEMBER_ID, KafkaError._NO_OFFSET, KafkaError._ASSIGNMENT_LOST,
        KafkaError.STALE_MEMBER_EPOCH,
    )
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() not in late:
            raise

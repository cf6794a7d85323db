"""Transactions as librdkafka runs them: explicit partitions, one epoch per producer."""

import time

from client import consumer_of, produce, take, topic_with
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Producer, TopicPartition

from cases import case, equal, fresh, raises, until


def transactional(address, name, **config):
    """A producer that may begin transactions; fences earlier ones of the name."""
    settings = {key.replace("_", "."): value for key, value in config.items()}
    producer = Producer({"bootstrap.servers": address, "transactional.id": name, **settings})
    producer.init_transactions(30)
    return producer


def quiet(address, topic, isolation_level, partitions=1):
    """Everything a topic holds for a reader of this level, up to the end it is told."""
    consumer = consumer_of(address, isolation_level=isolation_level, enable_partition_eof=True)
    try:
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
        values, ended, deadline = [], set(), time.monotonic() + 30
        while len(ended) < partitions:
            assert time.monotonic() < deadline, f"no end of {topic}; so far {values}"
            message = consumer.poll(0.5)
            if message is None:
                continue
            if message.error():
                equal(message.error().code(), KafkaError._PARTITION_EOF, "error")
                ended.add(message.partition())
            else:
                values.append(message.value())
        return values
    finally:
        consumer.close()


@case("transactions")
def a_committed_transaction_is_seen_whole_over_several_partitions(address):
    topic = topic_with(address, partitions=3)
    producer = transactional(address, fresh("id"))
    for number in range(3):
        producer.begin_transaction()
        for partition in range(3):
            for i in range(10):
                producer.produce(topic, f"{number} {partition} {i}".encode(), partition=partition)
        producer.flush(30)
        seen = quiet(address, topic, "read_committed", 3)
        equal(len(seen), 30 * number, "values before the end")
        producer.commit_transaction(30)
    wanted = sorted(f"{n} {p} {i}".encode() for n in range(3) for p in range(3) for i in range(10))
    equal(sorted(quiet(address, topic, "read_committed", 3)), wanted, "values")


@case("transactions")
def an_aborted_transaction_is_hidden_from_read_committed_only(address):
    topic = topic_with(address)
    producer = transactional(address, fresh("id"))
    for value, is_kept in [(b"a", True), (b"b", False), (b"c", True), (b"d", False)]:
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(30)
        producer.commit_transaction(30) if is_kept else producer.abort_transaction(30)
    equal(quiet(address, topic, "read_committed"), [b"a", b"c"], "committed")
    equal(quiet(address, topic, "read_uncommitted"), [b"a", b"b", b"c", b"d"], "all")


@case("fencing")
def a_second_producer_of_the_name_fences_the_first(address):
    topic, name = topic_with(address), fresh("id")
    first = transactional(address, name)
    first.begin_transaction()
    first.produce(topic, b"lost")
    first.flush(30)
    second = transactional(address, name)
    first.produce(topic, b"late")
    error = raises(KafkaException, first.commit_transaction, 30).args[0]
    assert error.fatal(), error
    second.begin_transaction()
    second.produce(topic, b"kept")
    second.commit_transaction(30)
    equal(quiet(address, topic, "read_committed"), [b"kept"], "committed")


@case("pipeline")
def consume_transform_produce_counts_once_with_its_offsets(address):
    source, sink, group = topic_with(address, partitions=2), topic_with(address), fresh("group")
    produce(address, source, [str(i).encode() for i in range(100)])
    name = fresh("id")

    def work(rounds, last_is_aborted):
        consumer = consumer_of(address, group, isolation_level="read_committed")
        consumer.subscribe([source])
        producer = transactional(address, name)
        try:
            for number in range(rounds):
                messages = take(consumer, 20)
                producer.begin_transaction()
                for message in messages:
                    producer.produce(sink, b"done " + message.value())
                producer.send_offsets_to_transaction(
                    consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30
                )
                if last_is_aborted and number == rounds - 1:
                    producer.abort_transaction(30)
                else:
                    producer.commit_transaction(30)
        finally:
            consumer.close()

    work(3, last_is_aborted=True)
    work(3, last_is_aborted=False)
    values = quiet(address, sink, "read_committed")
    equal(sorted(values), sorted(f"done {i}".encode() for i in range(100)), "values")


@case("pipeline")
def offsets_of_an_aborted_transaction_do_not_count(address):
    topic, group = topic_with(address), fresh("group")
    produce(address, topic, [b"a", b"b"])
    consumer = consumer_of(address, group)
    consumer.subscribe([topic])
    take(consumer, 2)
    producer = transactional(address, fresh("id"))
    producer.begin_transaction()
    position = [TopicPartition(topic, 0, 2)]
    producer.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), 30)
    producer.abort_transaction(30)
    assert consumer.committed([TopicPartition(topic, 0)], 30)[0].offset < 0
    producer.begin_transaction()
    producer.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), 30)
    producer.commit_transaction(30)
    equal(consumer.committed([TopicPartition(topic, 0)], 30)[0].offset, 2, "offset")
    consumer.close()


@case("transactions")
def a_transaction_that_is_open_too_long_is_aborted(address):
    topic = topic_with(address)
    producer = transactional(address, fresh("id"), transaction_timeout_ms=1000)
    producer.begin_transaction()
    producer.produce(topic, b"slow")
    producer.flush(30)
    # Read to the end: the abort moves what a reader of committed records is told it is.
    consumer = consumer_of(address, isolation_level="read_committed")
    end = TopicPartition(topic, 0)
    until(lambda: consumer.get_watermark_offsets(end, 10)[1] >= 1, "the abort", 60)
    consumer.close()
    error = raises(KafkaException, producer.commit_transaction, 30).args[0]
    assert error.fatal() or error.txn_requires_abort(), error
    equal(quiet(address, topic, "read_committed"), [], "committed")


@case("transactions")
def a_time_out_beyond_the_brokers_limit_is_refused(address):
    producer = Producer({
        "bootstrap.servers": address, "transactional.id": fresh("id"),
        "transaction.timeout.ms": 1_000_000,
    })
    error = raises(KafkaException, producer.init_transactions, 30).args[0]
    equal(error.code(), KafkaError.INVALID_TRANSACTION_TIMEOUT, "error")

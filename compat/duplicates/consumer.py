"""Consumers for the duplicate-delivery test: the same deposits, booked in several ways.

    consumer.py BROKER TOPIC GROUP DATABASE HOW

Effects are rows of SQLite, and messages to the topic TOPIC.booked. Each commits its offset after its
effects; what sets them apart is what they do with a message that comes again.
"""

import json
import sqlite3
import sys
import uuid

from confluent_kafka import Consumer, Producer

TABLES = """
CREATE TABLE IF NOT EXISTS balances (account TEXT PRIMARY KEY, amount INTEGER);
CREATE TABLE IF NOT EXISTS inbox (source TEXT, id TEXT, PRIMARY KEY (source, id));
CREATE TABLE IF NOT EXISTS latest (account TEXT PRIMARY KEY, amount INTEGER);
"""


def add(database, body):
    database.execute(
        "INSERT INTO balances VALUES (?, ?) ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
        (body["account"], body["amount"]),
    )


def with_inbox(database, identity, body, _publish):
    """Correct: the inbox row and the effects are one transaction."""
    with database:
        new = database.execute("INSERT OR IGNORE INTO inbox VALUES (?, ?)", identity).rowcount
        if new:
            add(database, body)


def with_derived_ids(database, identity, body, publish):
    """Correct: it publishes every time, with an id that comes from the message's."""
    with_inbox(database, identity, body, publish)
    publish(str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(identity))), body)


def without_memory(database, _identity, body, _publish):
    """Broken: every delivery is booked."""
    with database:
        add(database, body)


def in_memory(database, identity, body, _publish, seen=set()):
    """Broken: what was seen is forgotten when the process ends."""
    if identity not in seen:
        seen.add(identity)
        with database:
            add(database, body)


def last_writer(database, _identity, body, _publish):
    """Broken: an old message that comes again overwrites a newer one."""
    with database:
        database.execute(
            "INSERT OR REPLACE INTO latest VALUES (?, ?)", (body["account"], body["amount"])
        )


def with_new_ids(database, identity, body, publish):
    """Broken: rows are right, but each attempt publishes under a new id."""
    with_inbox(database, identity, body, publish)
    publish(str(uuid.uuid4()), body)


WAYS = [with_inbox, with_derived_ids, without_memory, in_memory, last_writer, with_new_ids]


def main():
    broker, topic, group, path, how = sys.argv[1:]
    handle = next(way for way in WAYS if way.__name__ == how)
    database = sqlite3.connect(path)
    database.executescript(TABLES)
    producer = Producer({"bootstrap.servers": broker, "enable.idempotence": True})

    def publish(id, body):
        headers = {"ce_id": id, "ce_source": "booking", "ce_type": "booked"}
        producer.produce(f"{topic}.booked", json.dumps(body), body["account"], headers=headers)
        producer.flush()

    consumer = Consumer({
        "bootstrap.servers": broker,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    })
    consumer.subscribe([topic])
    while True:
        message = consumer.poll(1.0)
        if message is None or message.error():
            continue
        headers = {name: value.decode() for name, value in message.headers() or []}
        identity = (headers["ce_source"], headers["ce_id"])
        handle(database, identity, json.loads(message.value()), publish)
        consumer.commit(message, asynchronous=False)


main()

"""The notification service of the shop, in Python: one message to the customer for every order
that ended. It is the same service as src/services/notification.rs, in the same consumer group, and
shows what another language needs to take part: a Kafka client and the envelope's headers.

    notification.py BROKER RUN DATABASE

What it does to the world is one row per notification in an SQLite database. The row is its inbox
too: its key is the event's source and id, so a repeat adds nothing, whatever crashes in between.
It reports each message on its standard output as a line of JSON, and ends when its standard input
does. RUN is what the keys of this run's messages begin with; those of other runs are left alone.
`wharf test duplicates` gives it a group and a topic of its own, as WHARF_GROUP and WHARF_TOPIC.
"""

import json
import os
import sqlite3
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer

GROUP = os.environ.get("WHARF_GROUP", "notification")
TOPIC = os.environ.get("WHARF_TOPIC", "shop.outcomes")
BROKER, RUN, DATABASE = sys.argv[1:]

TEXTS = {
    "shop.order.completed": "your order {order} is on its way",
    "shop.order.rejected": "we are sorry, there will be no order {order}: {reason}",
}


def handle(message, database, producer):
    """Brings one message to its end and says which one it was."""
    if not (message.key() or b"").startswith(RUN.encode() + b"-"):
        return {"did": "left alone"}
    try:
        headers = {name: (value or b"").decode() for name, value in message.headers() or []}
        source, event = headers["ce_source"], headers["ce_id"]
        order = json.loads(message.value())
        text = TEXTS[headers["ce_type"]].format(**order)
        row = (source, event, order["customer"], text)
    except (KeyError, TypeError, ValueError) as error:
        set_aside(message, producer, f"{type(error).__name__}: {error}")
        return {"did": "set aside"}
    added = database.execute("INSERT OR IGNORE INTO notifications VALUES (?, ?, ?, ?)", row)
    return {"did": "notified" if added.rowcount else "repeat", "customer": row[2], "text": text}


def set_aside(message, producer, error):
    """Keeps what cannot be read, with its bytes, its place and the reason, as the library does."""
    about = {
        "wharf-dlq-reason": "undecodable",
        "wharf-dlq-error": error,
        "wharf-dlq-attempts": "1",
        "wharf-dlq-topic": message.topic(),
        "wharf-dlq-partition": str(message.partition()),
        "wharf-dlq-offset": str(message.offset()),
        "wharf-dlq-group": GROUP,
    }
    headers = (message.headers() or []) + list(about.items())
    producer.produce(f"dlq.{TOPIC}.{GROUP}", message.value(), message.key(), headers=headers)


def run(consumer, producer, database, stop):
    while not stop.is_set():
        first = consumer.poll(0.2)
        if first is None:
            continue
        received = [first, *consumer.consume(499, timeout=0)]
        for message in received:
            if message.error():
                print(message.error(), file=sys.stderr, flush=True)
        messages = [message for message in received if not message.error()]
        with database:  # one transaction
            reports = [handle(message, database, producer) for message in messages]
        if producer.flush(30) > 0:
            raise SystemExit("the broker took no dead letter for 30 seconds")
        for message, report in zip(messages, reports):
            report["millis"] = max(0, int(time.time() * 1000) - message.timestamp()[1])
            print(json.dumps(report))
        sys.stdout.flush()
        # Only now: what was received before a crash is received again, and adds nothing.
        if messages:
            try:
                consumer.commit(asynchronous=False)
            except KafkaException as error:  # the partitions went to another member
                print(error, file=sys.stderr, flush=True)


def main():
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    database = sqlite3.connect(DATABASE)
    database.execute(
        "CREATE TABLE IF NOT EXISTS notifications"
        " (source TEXT, id TEXT, customer TEXT, text TEXT, PRIMARY KEY (source, id))"
    )
    broker = {"bootstrap.servers": BROKER, "client.id": GROUP}
    producer = Producer({**broker, "enable.idempotence": True})
    consumer = Consumer(
        {
            **broker,
            "group.id": GROUP,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 10000,
        }
    )
    consumer.subscribe([TOPIC])
    try:
        run(consumer, producer, database, stop)
    finally:
        consumer.close()


main()

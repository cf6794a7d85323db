"""What the cases of confluent-kafka's registry client share: clients, schemas of each kind, and the way
of a record through the broker."""

import json
import os
import pathlib
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
from cases import equal, fresh, raises  # noqa: E402

F = descriptor_pb2.FieldDescriptorProto


def registry(address):
    """A client of the registry; it keeps what it has seen, so a case that asks twice takes two. The
    address may be a whole URL with a path."""
    url = address if "://" in address else f"http://{address}"
    return SchemaRegistryClient({"url": url, "max.retries": 0})


def broker():
    """Where the records go: what the environment variable BROKER says."""
    address = os.environ.get("BROKER")
    if not address:
        raise SystemExit("BROKER must be the address of a broker")
    return address


def refused(code, call, *arguments, **named):
    """Fails unless the registry answers with this error code; returns its message."""
    error = raises(SchemaRegistryError, call, *arguments, **named)
    equal((error.error_code, error.http_status_code), (code, code // 100), "the error's code")
    assert error.error_message, "the error has no message"
    return error.error_message


def avro(fields, name="Order"):
    """An Avro record; a field is (name, type) or (name, type, default)."""
    def one(name, kind, *default):
        return {"name": name, "type": kind} | ({"default": default[0]} if default else {})
    record = {"type": "record", "name": name, "namespace": "shop",
              "fields": [one(*field) for field in fields]}
    return Schema(json.dumps(record), "AVRO")


def json_schema(properties, required=(), closed=True):
    """A JSON Schema of an object."""
    text = {
        "$schema": "http://json-schema.org/draft-07/schema#", "title": "Order", "type": "object",
        "properties": properties, "required": list(required),
    }
    if closed:
        text["additionalProperties"] = False
    return Schema(json.dumps(text), "JSON")


def protobuf(fields, message="Order", extra=""):
    """A file of Protobuf with one message; a field is its text without the semicolon."""
    lines = "".join(f"  {field};\n" for field in fields)
    return Schema(f'syntax = "proto3";\npackage shop;\n\n{extra}message {message} {{\n{lines}}}\n', "PROTOBUF")


def with_references(schema, *references):
    """The schema with references: (name, subject, version)."""
    return Schema(schema.schema_str, schema.schema_type,
                  [SchemaReference(*reference) for reference in references])


def proto_file(name, messages, package="shop", dependencies=()):
    """The classes of a file that protoc would have generated: for each message its fields as
    (name, number, type) or (name, number, the full name of a message). Answers them by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name=name, package=package, syntax="proto3", dependency=dependencies)
    for message, fields in messages.items():
        described = file.message_type.add(name=message)
        for field, number, kind in fields:
            made = described.field.add(
                name=field, number=number, label=F.LABEL_OPTIONAL, json_name=field)
            if isinstance(kind, str):
                made.type, made.type_name = F.TYPE_MESSAGE, f".{kind}"
            else:
                made.type = kind
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {message: message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{package}.{message}")) for message in messages}


def new_topic(partitions=1):
    """A topic that nobody else uses."""
    name = fresh("registry")
    admin = AdminClient({"bootstrap.servers": broker()})
    admin.create_topics([NewTopic(name, partitions)])[name].result(30)
    return name


def value_of(topic, headers=None):
    """The context of a record's value."""
    return SerializationContext(topic, MessageField.VALUE, headers)


def send(topic, serialiser, values):
    """Serialises and produces values, each with the headers that the serialiser asks for."""
    producer = Producer({"bootstrap.servers": broker(), "linger.ms": 5})
    for value in values:
        headers = []
        payload = serialiser(value, value_of(topic, headers))
        producer.produce(topic, payload, headers=headers)
    equal(producer.flush(30), 0, "messages left in the producer")


def take(topic, count):
    """So many messages from the topic's beginning."""
    consumer = Consumer({"bootstrap.servers": broker(), "group.id": fresh("group"),
                         "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        found = []
        while len(found) < count:
            more = consumer.consume(count - len(found), 10)
            if not more:
                raise AssertionError(f"{len(found)} of {count} messages came")
            for message in more:
                if message.error():
                    raise AssertionError(message.error())
            found += more
        return found
    finally:
        consumer.close()


def receive(topic, deserialiser, count):
    """So many values from the topic's beginning."""
    return [deserialiser(message.value(), value_of(topic, message.headers()))
            for message in take(topic, count)]

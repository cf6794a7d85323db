"""Records that go through the serialisers, the broker and the deserialisers."""

import json
import uuid

from client import (
    F, avro, json_schema, new_topic, proto_file, protobuf, receive, refused, registry, send, take, value_of,
    with_references,
)
from confluent_kafka.schema_registry import (
    AsyncSchemaRegistryClient, Metadata, MetadataProperties, Schema, header_schema_id_serializer, prefix_schema_id_deserializer,
    record_subject_name_strategy, topic_record_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AsyncAvroSerializer, AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext, SerializationError

from cases import case, equal, fresh, raises

ORDER = avro([("id", "string"), ("total", "long")])
ORDERS = [{"id": f"order-{i}", "total": i * 100} for i in range(20)]
JSON_ORDER = json_schema({"id": {"type": "string"}, "total": {"type": "integer", "minimum": 0}}, ["id", "total"])


def generated(topic):
    """The class of a message that protoc would have generated for a topic's own file."""
    name = topic.replace("-", "_")
    fields = [("id", 1, F.TYPE_STRING), ("total", 2, F.TYPE_INT64)]
    return proto_file(f"{name}.proto", {"Order": fields}, package=f"shop.{name}")["Order"]


@case("avro")
def avro_records_register_their_schema_and_are_read_back(address):
    topic, client = new_topic(), registry(address)
    send(topic, AvroSerializer(client, ORDER), ORDERS)
    equal(receive(topic, AvroDeserializer(registry(address)), 20), ORDERS, "values")
    latest = client.get_latest_version(f"{topic}-value")
    equal(latest.version, 1, "the version")
    message = take(topic, 1)[0].value()
    equal((message[0], int.from_bytes(message[1:5], "big")), (0, latest.schema_id), "the prefix")


@case("avro")
def avro_records_are_read_with_a_newer_schema_of_the_readers_own(address):
    topic, client = new_topic(), registry(address)
    send(topic, AvroSerializer(client, ORDER), ORDERS[:3])
    newer = avro([("id", "string"), ("total", "double"), ("currency", "string", "EUR")])
    found = receive(topic, AvroDeserializer(registry(address), newer), 3)
    equal(found, [{"id": o["id"], "total": float(o["total"]), "currency": "EUR"} for o in ORDERS[:3]], "values")


@case("avro")
def keys_and_values_have_subjects_of_their_own(address):
    topic, client = new_topic(), registry(address)
    key = AvroSerializer(client, '"string"')
    key("k", SerializationContext(topic, MessageField.KEY))
    AvroSerializer(client, ORDER)(ORDERS[0], value_of(topic))
    found = sorted(s for s in client.get_subjects(f"{topic}-"))
    equal(found, [f"{topic}-key", f"{topic}-value"], "subjects")
    equal(json.loads(client.get_latest_version(f"{topic}-key").schema.schema_str), "string", "the key's schema")


@case("lookup")
def an_unregistered_schema_is_refused_where_registering_is_off(address):
    topic, client = new_topic(), registry(address)
    off = {"auto.register.schemas": False}
    refused(40401, AvroSerializer(client, ORDER, conf=off), ORDERS[0], value_of(topic))
    client.register_schema(f"{topic}-value", avro([("id", "string")]))
    refused(40403, AvroSerializer(registry(address), ORDER, conf=off), ORDERS[0], value_of(topic))
    equal(client.get_versions(f"{topic}-value"), [1], "versions")


@case("lookup")
def a_registered_schema_is_found_where_registering_is_off(address):
    topic, client = new_topic(), registry(address)
    wanted = client.register_schema(f"{topic}-value", ORDER)
    off = {"auto.register.schemas": False}
    send(topic, AvroSerializer(registry(address), ORDER, conf=off), ORDERS)
    equal(receive(topic, AvroDeserializer(registry(address)), 20), ORDERS, "values")
    equal(int.from_bytes(take(topic, 1)[0].value()[1:5], "big"), wanted, "the id")


@case("latest")
def the_latest_version_serialises_where_it_is_asked_for(address):
    topic, client = new_topic(), registry(address)
    client.register_schema(f"{topic}-value", ORDER)
    latest = client.register_schema(
        f"{topic}-value", avro([("id", "string"), ("total", "long"), ("note", "string", "")]))
    conf = {"auto.register.schemas": False, "use.latest.version": True}
    send(topic, AvroSerializer(registry(address), conf=conf), [o | {"note": "n"} for o in ORDERS])
    equal(int.from_bytes(take(topic, 1)[0].value()[1:5], "big"), latest, "the id")
    found = receive(topic, AvroDeserializer(registry(address)), 20)
    equal(found, [o | {"note": "n"} for o in ORDERS], "values")


@case("latest")
def an_id_serialises_where_it_is_asked_for(address):
    topic, client = new_topic(), registry(address)
    first = client.register_schema(f"{topic}-value", ORDER)
    client.register_schema(f"{topic}-value", avro([("id", "string"), ("total", "long"), ("x", "int", 1)]))
    conf = {"auto.register.schemas": False, "use.schema.id": first}
    send(topic, AvroSerializer(registry(address), conf=conf), ORDERS[:2])
    equal(int.from_bytes(take(topic, 1)[0].value()[1:5], "big"), first, "the id")


@case("latest")
def the_latest_version_with_metadata_serialises(address):
    topic, client = new_topic(), registry(address)
    subject = f"{topic}-value"

    def major(text, schema):
        return Schema(schema.schema_str, "AVRO", metadata=Metadata(
            None, MetadataProperties({"application.major.version": text}), None))
    first = client.register_schema(subject, major("1", ORDER))
    client.register_schema(subject, major("2", avro([("id", "string"), ("total", "long"), ("x", "int", 1)])))
    equal(client.get_latest_with_metadata(subject, {"application.major.version": "1"}).schema_id, first, "the id")
    conf = {"auto.register.schemas": False, "use.latest.with.metadata": {"application.major.version": "1"}}
    send(topic, AvroSerializer(registry(address), conf=conf), ORDERS[:2])
    equal(int.from_bytes(take(topic, 1)[0].value()[1:5], "big"), first, "the id in the record")


@case("normalize")
def normalising_serialisers_find_the_schema_in_another_writing(address):
    topic, client = new_topic(), registry(address)
    wanted = client.register_schema(f"{topic}-value", ORDER, normalize_schemas=True)
    other = json.dumps({
        "fields": [{"type": {"type": "string"}, "name": "id"}, {"type": "long", "name": "total"}],
        "name": "shop.Order", "type": "record",
    })
    conf = {"auto.register.schemas": False, "normalize.schemas": True}
    send(topic, AvroSerializer(registry(address), other, conf=conf), ORDERS[:2])
    equal(int.from_bytes(take(topic, 1)[0].value()[1:5], "big"), wanted, "the id")


@case("incompatible")
def a_serialiser_whose_schema_would_break_readers_is_refused(address):
    topic, client = new_topic(), registry(address)
    send(topic, AvroSerializer(client, ORDER), ORDERS[:1])
    broken = avro([("id", "string"), ("total", "long"), ("currency", "string")])
    value = ORDERS[0] | {"currency": "EUR"}
    refused(40901, AvroSerializer(registry(address), broken), value, value_of(topic))
    equal(client.get_versions(f"{topic}-value"), [1], "versions")


@case("json")
def json_records_register_their_schema_and_are_read_back(address):
    topic, client = new_topic(), registry(address)
    send(topic, JSONSerializer(JSON_ORDER.schema_str, client), ORDERS)
    deserialiser = JSONDeserializer(None, schema_registry_client=registry(address))
    equal(receive(topic, deserialiser, 20), ORDERS, "values")
    latest = client.get_latest_version(f"{topic}-value")
    equal(latest.schema.schema_type, "JSON", "the type")
    equal(json.loads(latest.schema.schema_str), json.loads(JSON_ORDER.schema_str), "the schema")
    raises(SerializationError, JSONSerializer(JSON_ORDER.schema_str, client), {"id": "x", "total": -1}, value_of(topic))


@case("json")
def json_schemas_refer_to_those_of_other_subjects(address):
    topic, client = new_topic(), registry(address)
    money = fresh("money")
    client.register_schema(money, json_schema({"cents": {"type": "integer"}}, ["cents"]))
    order = with_references(
        json_schema({"id": {"type": "string"}, "total": {"$ref": "money.json"}}, ["id", "total"]),
        ("money.json", money, 1))
    values = [{"id": "a", "total": {"cents": 5}}, {"id": "b", "total": {"cents": 7}}]
    send(topic, JSONSerializer(order, client), values)
    deserialiser = JSONDeserializer(None, schema_registry_client=registry(address))
    equal(receive(topic, deserialiser, 2), values, "values")
    raises(SerializationError, JSONSerializer(order, client), {"id": "x", "total": {"cents": "y"}}, value_of(topic))
    wanted = client.get_latest_version(f"{topic}-value").schema_id
    equal(registry(address).get_referenced_by(money, 1), [wanted], "who refers to it")


@case("protobuf")
def protobuf_records_register_their_schema_and_are_read_back(address):
    topic, client = new_topic(), registry(address)
    order = generated(topic)
    sent = [order(**one) for one in ORDERS]
    send(topic, ProtobufSerializer(order, client), sent)
    deserialiser = ProtobufDeserializer(order, schema_registry_client=registry(address))
    equal(receive(topic, deserialiser, 20), sent, "values")
    latest = client.get_latest_version(f"{topic}-value")
    equal(latest.schema.schema_type, "PROTOBUF", "the type")
    assert "message Order {" in latest.schema.schema_str, latest.schema.schema_str
    message = take(topic, 1)[0].value()
    equal((int.from_bytes(message[1:5], "big"), message[5]), (latest.schema_id, 0), "the prefix and the index")


@case("protobuf")
def protobuf_imports_are_registered_as_references(address):
    topic, client = new_topic(), registry(address)
    name = topic.replace("-", "_")
    proto_file(f"{name}_money.proto", {"Money": [("cents", 1, F.TYPE_INT64)]}, package=f"shop.{name}")
    order = proto_file(
        f"{name}_order.proto", {"Order": [("id", 1, F.TYPE_STRING), ("total", 2, f"shop.{name}.Money")]},
        package=f"shop.{name}", dependencies=[f"{name}_money.proto"])["Order"]
    sent = [order(id="a"), order(id="b")]
    sent[1].total.cents = 7
    send(topic, ProtobufSerializer(order, client), sent)
    deserialiser = ProtobufDeserializer(order, schema_registry_client=registry(address))
    equal(receive(topic, deserialiser, 2), sent, "values")
    latest = client.get_latest_version(f"{topic}-value")
    references = [(r.name, r.subject, r.version) for r in latest.schema.references]
    equal(references, [(f"{name}_money.proto", f"{name}_money.proto", 1)], "references")
    equal(registry(address).get_referenced_by(f"{name}_money.proto", 1), [latest.schema_id], "who refers to it")


@case("protobuf")
def protobuf_well_known_types_need_no_reference(address):
    from google.protobuf import timestamp_pb2
    topic, client = new_topic(), registry(address)
    name = topic.replace("-", "_")
    order = proto_file(
        f"{name}.proto", {"Order": [("id", 1, F.TYPE_STRING), ("at", 2, "google.protobuf.Timestamp")]},
        package=f"shop.{name}", dependencies=["google/protobuf/timestamp.proto"])["Order"]
    sent = [order(id="a", at=timestamp_pb2.Timestamp(seconds=12))]
    send(topic, ProtobufSerializer(order, client), sent)
    deserialiser = ProtobufDeserializer(order, schema_registry_client=registry(address))
    equal(receive(topic, deserialiser, 1), sent, "values")
    equal(client.get_latest_version(f"{topic}-value").schema.references or [], [], "references")


@case("protobuf")
def a_message_that_is_not_the_files_first_has_its_index(address):
    topic, client = new_topic(), registry(address)
    name = topic.replace("-", "_")
    classes = proto_file(f"{name}.proto", {
        "First": [("a", 1, F.TYPE_STRING)], "Second": [("b", 1, F.TYPE_STRING)],
    }, package=f"shop.{name}")
    sent = [classes["Second"](b="x")]
    send(topic, ProtobufSerializer(classes["Second"], client), sent)
    equal(take(topic, 1)[0].value()[5:7], bytes([2, 2]), "one index, the second message")
    deserialiser = ProtobufDeserializer(classes["Second"], schema_registry_client=registry(address))
    equal(receive(topic, deserialiser, 1), sent, "values")


@case("protobuf")
def a_descriptor_and_its_text_are_the_same_schema(address):
    topic, client = new_topic(), registry(address)
    subject = f"{topic}-value"
    order = generated(topic)
    ProtobufSerializer(order, client)(order(id="x"), value_of(topic))
    text = client.get_latest_version(subject).schema.schema_str
    equal(registry(address).lookup_schema(subject, Schema(text, "PROTOBUF")).version, 1, "the version of the text")
    equal(registry(address).register_schema_full_response(subject, Schema(text, "PROTOBUF")).version, 1, "the version")


@case("guid")
def the_header_carries_the_guid_of_avro(address):
    topic, client = new_topic(), registry(address)
    conf = {"schema.id.serializer": header_schema_id_serializer}
    send(topic, AvroSerializer(client, ORDER, conf=conf), ORDERS)
    equal(receive(topic, AvroDeserializer(registry(address)), 20), ORDERS, "values")
    message = take(topic, 1)[0]
    header = dict(message.headers())["__value_schema_id"]
    equal((header[0], len(header)), (1, 17), "the header's shape")
    guid = str(uuid.UUID(bytes=header[1:]))
    equal(client.get_latest_version(f"{topic}-value").guid, guid, "the GUID")
    equal(json.loads(registry(address).get_schema_by_guid(guid).schema_str), json.loads(ORDER.schema_str), "the schema")
    equal(message.value()[0], len("order-0") * 2, "the payload begins with the record, without a prefix")


@case("guid")
def the_header_carries_the_guid_of_json_and_protobuf(address):
    conf = {"schema.id.serializer": header_schema_id_serializer}
    topic, client = new_topic(), registry(address)
    send(topic, JSONSerializer(JSON_ORDER.schema_str, client, conf=conf), ORDERS[:3])
    equal(receive(topic, JSONDeserializer(None, schema_registry_client=registry(address)), 3), ORDERS[:3], "JSON")
    topic = new_topic()
    order = generated(topic)
    sent = [order(**one) for one in ORDERS[:3]]
    send(topic, ProtobufSerializer(order, client, conf=conf), sent)
    deserialiser = ProtobufDeserializer(order, schema_registry_client=registry(address))
    equal(receive(topic, deserialiser, 3), sent, "Protobuf")


@case("guid")
def a_deserialiser_reads_prefix_and_header_in_one_topic(address):
    topic, client = new_topic(), registry(address)
    send(topic, AvroSerializer(client, ORDER), ORDERS[:1])
    conf = {"schema.id.serializer": header_schema_id_serializer}
    send(topic, AvroSerializer(client, ORDER, conf=conf), ORDERS[1:2])
    equal(receive(topic, AvroDeserializer(registry(address)), 2), ORDERS[:2], "values")
    prefix = AvroDeserializer(registry(address), conf={"schema.id.deserializer": prefix_schema_id_deserializer})
    equal(receive(topic, prefix, 1), ORDERS[:1], "the first by its prefix")


@case("unknown")
def an_id_and_a_guid_that_nobody_has_are_not_found(address):
    client = registry(address)
    refused(40403, client.get_schema, 2_000_000_000)
    refused(40403, client.get_schema_by_guid, "8d1e5a0c-0000-4000-8000-000000000001")
    payload = bytes([0]) + (2_000_000_000).to_bytes(4, "big") + b"\x02x"
    refused(40403, AvroDeserializer(client), payload, value_of("nobody"))


@case("strategies")
def subjects_are_named_by_record_and_by_topic_and_record(address):
    topic, client = new_topic(), registry(address)
    name = topic.replace("-", "_")
    order = avro([("id", "string")], name)
    for strategy in (record_subject_name_strategy, topic_record_subject_name_strategy):
        conf = {"subject.name.strategy": strategy}
        AvroSerializer(client, order, conf=conf)({"id": "x"}, value_of(topic))
    equal(client.get_subjects(f"shop.{name}"), [f"shop.{name}"], "the record's")
    equal(client.get_subjects(f"{topic}-shop"), [f"{topic}-shop.{name}"], "the topic's and the record's")


@case("asynchronous")
async def the_asynchronous_client_registers_and_looks_up(address):
    url = address if "://" in address else f"http://{address}"
    async with AsyncSchemaRegistryClient({"url": url, "max.retries": 0}) as client:
        subject = fresh("async")
        serialiser = await AsyncAvroSerializer(client, ORDER)
        payload = await serialiser(ORDERS[0], value_of(subject))
        found = await client.get_latest_version(f"{subject}-value")
        equal(int.from_bytes(payload[1:5], "big"), found.schema_id, "the id")


@case("references")
def avro_schemas_refer_to_those_of_other_subjects(address):
    topic, client = new_topic(), registry(address)
    money = fresh("money")
    client.register_schema(money, avro([("cents", "long")], "Money"))
    order = with_references(avro([("id", "string"), ("total", "shop.Money")]), ("shop.Money", money, 1))
    values = [{"id": "a", "total": {"cents": 5}}]
    send(topic, AvroSerializer(client, order), values)
    equal(receive(topic, AvroDeserializer(registry(address)), 1), values, "values")
    latest = client.get_latest_version(f"{topic}-value")
    equal([(r.name, r.subject, r.version) for r in latest.schema.references], [("shop.Money", money, 1)], "references")


@case("references")
def protobuf_text_refers_to_other_subjects(address):
    client = registry(address)
    money, subject = fresh("money"), fresh("order")
    client.register_schema(money, protobuf(["int64 cents = 1"], "Money"))
    order = with_references(
        protobuf(["string id = 1", "Money total = 2"], extra='import "money.proto";\n\n'), ("money.proto", money, 1))
    wanted = client.register_schema(subject, order)
    equal(registry(address).lookup_schema(subject, order).schema_id, wanted, "the id")
    missing = with_references(
        protobuf(["string id = 1", "Money total = 2"], extra='import "money.proto";\n\n'))
    refused(42201, registry(address).register_schema, fresh("missing"), missing)
    unknown = with_references(order, ("money.proto", fresh("nobody"), 1))
    refused(42201, registry(address).register_schema, fresh("unknown"), unknown)

"""Metadata and rule sets: stored, served, and executed by the client that gets them."""

import json

from client import Schema, avro, new_topic, receive, registry, send, value_of
from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel, Metadata, MetadataProperties, MetadataTags, Rule, RuleKind, RuleMode, RuleParams, RuleSet, ServerConfig,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.rules.cel.cel_executor import CelExecutor
from confluent_kafka.schema_registry.rules.jsonata.jsonata_executor import JsonataExecutor
from confluent_kafka.serialization import SerializationError

from cases import case, equal, fresh, raises

CelExecutor.register()
JsonataExecutor.register()
FIELDS = [("id", "string"), ("total", "long")]


def with_rules(schema, rule_set=None, metadata=None):
    return Schema(schema.schema_str, schema.schema_type, metadata=metadata, rule_set=rule_set)


def rule(name, kind, mode, executor, expression, on_failure=None):
    return Rule(name, "says why", kind, mode, executor, None, RuleParams({}), expression, None, on_failure, False)


@case("metadata")
def metadata_and_rules_are_kept_as_they_were_sent(address):
    client, subject = registry(address), fresh("metadata")
    metadata = Metadata(
        MetadataTags({"shop.Order.id": ["KEY", "PII"]}), MetadataProperties({"owner": "shop", "tier": "1"}), ["tier"])
    rules = RuleSet(
        [rule("up", RuleKind.TRANSFORM, RuleMode.UPGRADE, "JSONATA", "$")],
        [rule("positive", RuleKind.CONDITION, RuleMode.WRITE, "CEL", "message.total > 0", "ERROR")])
    sent = with_rules(avro(FIELDS), rules, metadata)
    client.register_schema(subject, sent)
    found = registry(address).get_latest_version(subject).schema
    equal(found.metadata.to_dict(), metadata.to_dict(), "metadata")

    def shown(rule_set):
        return {name: [{key: value for key, value in one.items() if value not in (None, {}, False)}
                       for one in of or []]
                for name, of in rule_set.to_dict().items() if name in ("migrationRules", "domainRules")}
    equal(shown(found.rule_set), shown(rules), "rules")


@case("metadata")
def other_metadata_makes_another_version(address):
    client, subject = registry(address), fresh("metadata")

    def owned_by(owner):
        return with_rules(avro(FIELDS), metadata=Metadata(None, MetadataProperties({"owner": owner}), None))
    first = client.register_schema_full_response(subject, owned_by("a"))
    second = client.register_schema_full_response(subject, owned_by("b"))
    equal((first.version, second.version), (1, 2), "versions")
    assert first.schema_id != second.schema_id and first.guid != second.guid, (first, second)
    equal(registry(address).lookup_schema(subject, owned_by("a")).version, 1, "by the schema and its metadata")


@case("rules")
def a_condition_is_executed_before_writing(address):
    topic, client = new_topic(), registry(address)
    rules = RuleSet(None, [rule("positive", RuleKind.CONDITION, RuleMode.WRITE, "CEL", "message.total > 0", "ERROR")])
    client.register_schema(f"{topic}-value", with_rules(avro(FIELDS), rules))
    serialiser = AvroSerializer(
        registry(address), conf={"auto.register.schemas": False, "use.latest.version": True})
    send(topic, serialiser, [{"id": "a", "total": 1}])
    raises(SerializationError, serialiser, {"id": "b", "total": 0}, value_of(topic))
    equal(receive(topic, AvroDeserializer(registry(address)), 1), [{"id": "a", "total": 1}], "values")


@case("rules")
def old_records_are_migrated_to_the_latest_version(address):
    topic, client = new_topic(), registry(address)
    subject = f"{topic}-value"
    client.set_config(subject, ServerConfig(compatibility=ConfigCompatibilityLevel.NONE, compatibility_group="major"))

    def major(text):
        return Metadata(None, MetadataProperties({"major": text}), None)
    client.register_schema(subject, with_rules(avro(FIELDS), metadata=major("1")))
    renaming = RuleSet([
        rule("up", RuleKind.TRANSFORM, RuleMode.UPGRADE, "JSONATA",
             "$merge([$sift($, function($v, $k) {$k != 'total'}), {'amount': $.'total'}])"),
        rule("down", RuleKind.TRANSFORM, RuleMode.DOWNGRADE, "JSONATA",
             "$merge([$sift($, function($v, $k) {$k != 'amount'}), {'total': $.'amount'}])"),
    ], None)
    client.register_schema(subject, with_rules(avro([("id", "string"), ("amount", "long")]), renaming, major("2")))
    writing = {"auto.register.schemas": False, "use.latest.with.metadata": {"major": "1"}}
    send(topic, AvroSerializer(registry(address), conf=writing), [{"id": "a", "total": 7}])
    reading = {"use.latest.with.metadata": {"major": "2"}}
    found = receive(topic, AvroDeserializer(registry(address), conf=reading), 1)
    equal(found, [{"id": "a", "amount": 7}], "upgraded")
    writing["use.latest.with.metadata"], reading["use.latest.with.metadata"] = {"major": "2"}, {"major": "1"}
    other = AvroSerializer(registry(address), conf=writing)({"id": "b", "amount": 9}, value_of(topic))
    found = AvroDeserializer(registry(address), conf=reading)(other, value_of(topic))
    equal(found, {"id": "b", "total": 9}, "downgraded")


@case("rules")
def a_default_rule_set_is_added_to_what_is_registered(address):
    client, subject = registry(address), fresh("rules")
    rules = RuleSet(None, [rule("positive", RuleKind.CONDITION, RuleMode.WRITE, "CEL", "message.total > 0")])
    client.set_config(subject, ServerConfig(compatibility=ConfigCompatibilityLevel.BACKWARD, default_rule_set=rules))
    client.register_schema(subject, avro(FIELDS))
    found = registry(address).get_latest_version(subject).schema
    equal([one.name for one in found.rule_set.domain_rules], ["positive"], "rules")
    equal(json.loads(found.schema_str)["name"], "Order", "the schema")

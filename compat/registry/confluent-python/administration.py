"""What the client asks of the registry itself: versions, configuration, modes, deletion, contexts."""

import json
from concurrent.futures import ThreadPoolExecutor

from client import Schema, avro, json_schema, protobuf, refused, registry, with_references
from confluent_kafka.schema_registry import ConfigCompatibilityLevel, Metadata, MetadataProperties, ServerConfig

from cases import case, equal, fresh

ONE = avro([("id", "string")])
TWO = avro([("id", "string"), ("note", "string", "")])
BROKEN = avro([("id", "string"), ("currency", "string")])


@case("types")
def the_three_kinds_are_served(address):
    equal(sorted(registry(address).get_schema_types()), ["AVRO", "JSON", "PROTOBUF"], "types")


@case("versions")
def versions_count_up_and_a_schema_has_one_id_everywhere(address):
    client, subject, other = registry(address), fresh("versions"), fresh("versions")
    first = client.register_schema_full_response(subject, ONE)
    second = client.register_schema_full_response(subject, TWO)
    equal((first.version, second.version), (1, 2), "versions")
    assert second.schema_id > first.schema_id, (first, second)
    again = registry(address).register_schema_full_response(subject, ONE)
    equal((again.version, again.schema_id, again.guid), (1, first.schema_id, first.guid), "the same once more")
    equal(registry(address).register_schema(other, ONE), first.schema_id, "the id under another subject")
    equal(client.get_versions(subject), [1, 2], "the list")
    equal(json.loads(registry(address).get_version(subject, 1).schema.schema_str), json.loads(ONE.schema_str), "one")
    latest = registry(address).get_latest_version(subject)
    equal((latest.version, latest.schema_id, latest.guid), (2, second.schema_id, second.guid), "the latest")
    found = {(v.subject, v.version) for v in client.get_schema_versions(first.schema_id)}
    assert {(subject, 1), (other, 1)} <= found, found
    assert {subject, other} <= set(client.get_subjects_by_schema_id(first.schema_id)), "subjects of the id"


@case("versions")
def what_is_not_there_is_not_found(address):
    client, subject = registry(address), fresh("missing")
    refused(40401, client.get_versions, subject)
    refused(40401, client.get_latest_version, subject)
    refused(40401, client.delete_subject, subject)
    client.register_schema(subject, ONE)
    refused(40402, client.get_version, subject, 2)
    refused(42202, client.get_version, subject, "first")
    refused(40402, client.delete_version, subject, 7)
    refused(40403, client.lookup_schema, subject, TWO)


@case("versions")
def an_invalid_schema_is_refused(address):
    client, subject = registry(address), fresh("invalid")
    for text, kind in [("{", "AVRO"), ('{"type":"record","name":"A"}', "AVRO"), ('"strin"', "AVRO"),
                       ('{"type": "obect"}', "JSON"), ("message A {", "PROTOBUF"),
                       ('syntax = "proto3"; message A { string a = 1; string b = 1; }', "PROTOBUF"), ("{}", "THRIFT")]:
        refused(42201, client.register_schema, subject, Schema(text, kind))
    refused(40401, client.get_versions, subject)


@case("lookup")
def a_schema_is_found_by_what_it_says_not_by_its_blanks(address):
    client, subject = registry(address), fresh("blanks")
    wanted = client.register_schema(subject, ONE)
    spread = Schema(json.dumps(json.loads(ONE.schema_str), indent=4), "AVRO")
    equal(client.lookup_schema(subject, spread).schema_id, wanted, "the id")
    equal(client.register_schema(subject, spread), wanted, "the id, registered")


@case("normalize")
def normalising_makes_other_writings_one_schema(address):
    client = registry(address)
    subject = fresh("normal")
    wanted = client.register_schema(subject, ONE, normalize_schemas=True)
    other = Schema(json.dumps({"type": "record", "name": "shop.Order", "fields": [
        {"type": {"type": "string"}, "name": "id"}]}), "AVRO")
    equal(client.register_schema(subject, other, normalize_schemas=True), wanted, "Avro")
    subject = fresh("normal")
    text = json_schema({"a": {"type": "string"}, "b": {"type": "integer"}})
    wanted = client.register_schema(subject, text, normalize_schemas=True)
    turned = Schema(json.dumps(dict(reversed(json.loads(text.schema_str).items()))), "JSON")
    equal(client.register_schema(subject, turned, normalize_schemas=True), wanted, "JSON Schema")
    subject = fresh("normal")
    wanted = client.register_schema(subject, protobuf(["string a = 1", "string b = 2"]), normalize_schemas=True)
    turned = protobuf(["string b = 2", "string a = 1"])
    equal(client.register_schema(subject, turned, normalize_schemas=True), wanted, "Protobuf")


@case("compatibility")
def the_subjects_level_decides(address):
    client, subject = registry(address), fresh("level")
    client.register_schema(subject, ONE)
    equal(client.test_compatibility(subject, TWO), True, "a field with a default")
    equal(client.test_compatibility(subject, BROKEN), False, "a field without")
    equal(client.test_compatibility(subject, BROKEN, version=1, verbose=True), False, "with reasons")
    refused(40901, client.register_schema, subject, BROKEN)
    client.set_compatibility(subject, "FORWARD")
    equal(client.test_compatibility(subject, BROKEN), True, "forward")
    client.set_compatibility(subject, "NONE")
    equal(client.test_compatibility(subject, avro([("other", "int")])), True, "none")
    equal(client.register_schema_full_response(subject, avro([("other", "int")])).version, 2, "the version")


@case("compatibility")
def transitive_levels_look_at_every_version(address):
    client, subject = registry(address), fresh("transitive")
    client.set_compatibility(subject, "BACKWARD")
    for fields in [("a", "string"), ("b", "string")], [("b", "string")], [("b", "string"), ("a", "string", "")]:
        client.register_schema(subject, avro(list(fields)))
    changed = avro([("b", "string"), ("a", ["null", "int"], None), ("c", "int", 0)])
    # No longer of version 3's type.
    equal(client.test_compatibility(subject, changed), False, "the latest")
    dropped = avro([("a", "long", 1)])
    equal(client.test_compatibility(subject, dropped, version=2), True, "version 2 has no such field")
    equal(client.test_compatibility(subject, dropped, version=1), False, "version 1 has another type")
    client.set_compatibility(subject, "BACKWARD_TRANSITIVE")
    equal(client.test_compatibility_all_versions(subject, dropped, verbose=True), False, "all versions")
    equal(client.test_compatibility_all_versions(subject, avro([("b", "string")])), True, "all versions, and good")


@case("compatibility")
def json_schema_and_protobuf_are_checked(address):
    client = registry(address)
    subject = fresh("json")
    client.register_schema(subject, json_schema({"a": {"type": "string"}}))
    added = {"a": {"type": "string"}, "b": {"type": "string"}}
    equal(client.test_compatibility(subject, json_schema(added)), True, "optional, closed")
    equal(client.test_compatibility(subject, json_schema(added, ["b"])), False, "required")
    subject = fresh("proto")
    client.register_schema(subject, protobuf(["string a = 1"]))
    equal(client.test_compatibility(subject, protobuf(["string a = 1", "int32 b = 2"])), True, "a new field")
    equal(client.test_compatibility(subject, protobuf(["int32 a = 1"])), False, "another type")
    equal(client.test_compatibility(subject, ONE), False, "another kind")


@case("compatibility")
def nothing_contradicts_a_subject_that_is_new(address):
    equal(registry(address).test_compatibility(fresh("new"), ONE), True, "the latest of nobody")


@case("config")
def a_subjects_configuration_is_set_and_removed(address):
    client, subject = registry(address), fresh("config")
    refused(40408, client.get_compatibility, subject)
    equal(client.set_compatibility(subject, "FULL_TRANSITIVE"), {"compatibility": "FULL_TRANSITIVE"}, "the answer")
    equal(client.get_compatibility(subject), "FULL_TRANSITIVE", "the level")
    equal(client.delete_config(subject).compatibility_level, "FULL_TRANSITIVE", "what was removed")
    refused(40408, client.get_compatibility, subject)
    refused(42203, client.set_compatibility, subject, "SIDEWAYS")
    equal(client.get_compatibility(), "BACKWARD", "the level of all")


@case("config")
def versions_of_other_groups_are_not_compared(address):
    client, subject = registry(address), fresh("groups")
    client.set_config(subject, ServerConfig(compatibility=ConfigCompatibilityLevel.BACKWARD, compatibility_group="major"))
    equal(client.get_config(subject).compatibility_group, "major", "the group")

    def major(text, schema):
        return Schema(schema.schema_str, "AVRO", metadata=Metadata(None, MetadataProperties({"major": text}), None))
    client.register_schema(subject, major("1", ONE))
    refused(40901, client.register_schema, subject, major("1", BROKEN))
    equal(client.register_schema_full_response(subject, major("2", BROKEN)).version, 2, "of the second group")
    equal(client.register_schema_full_response(subject, major("1", TWO)).version, 3, "of the first group")


@case("config")
def default_metadata_is_added_to_what_is_registered(address):
    client, subject = registry(address), fresh("defaults")
    owner = Metadata(None, MetadataProperties({"owner": "shop"}), None)
    client.set_config(subject, ServerConfig(compatibility=ConfigCompatibilityLevel.BACKWARD, default_metadata=owner))
    client.register_schema(subject, ONE)
    found = registry(address).get_latest_version(subject).schema.metadata
    equal(found.properties.properties, {"owner": "shop"}, "properties")


@case("mode")
def a_read_only_subject_takes_no_schema(address):
    client, subject = registry(address), fresh("mode")
    equal(client.get_global_mode(), "READWRITE", "the mode of all")
    refused(40409, client.get_mode, subject)
    client.register_schema(subject, ONE)
    equal(client.update_mode(subject, "READONLY"), "READONLY", "the answer")
    equal(client.get_mode(subject), "READONLY", "the mode")
    refused(42205, client.register_schema, subject, TWO)
    refused(42205, client.delete_subject, subject)
    equal(client.delete_mode(subject), "READONLY", "what was removed")
    equal(client.register_schema_full_response(subject, TWO).version, 2, "the version")
    refused(42204, client.update_mode, subject, "SIDEWAYS")


@case("mode")
def importing_needs_an_empty_subject_or_force(address):
    client, subject = registry(address), fresh("import")
    client.register_schema(subject, ONE)
    refused(42205, client.update_mode, subject, "IMPORT")
    equal(client.update_mode(subject, "IMPORT", force=True), "IMPORT", "by force")
    equal(client.update_mode(fresh("import"), "IMPORT"), "IMPORT", "the empty one")


@case("deletion")
def a_deleted_version_is_hidden_and_its_number_not_used_again(address):
    client, subject = registry(address), fresh("deleted")
    first = client.register_schema(subject, ONE)
    client.register_schema(subject, TWO)
    refused(40407, client.delete_version, subject, 2, permanent=True)
    equal(client.delete_version(subject, 2), 2, "the answer")
    refused(40406, client.delete_version, subject, 2)
    client.clear_caches()
    equal(client.get_versions(subject), [1], "versions")
    equal(client.get_versions(subject, deleted=True), [1, 2], "with the deleted")
    refused(40402, registry(address).get_version, subject, 2)
    equal(registry(address).get_version(subject, 2, deleted=True).version, 2, "the deleted one, asked for")
    equal(registry(address).get_latest_version(subject).schema_id, first, "the latest")
    again = registry(address).register_schema_full_response(subject, TWO)
    equal(again.version, 3, "the next version")
    equal(registry(address).get_versions(subject, deleted=True), [1, 3], "the deleted one gave its place")


@case("deletion")
def a_subject_is_deleted_softly_and_then_for_good(address):
    client, subject = registry(address), fresh("gone")
    identity = client.register_schema(subject, ONE)
    client.register_schema(subject, TWO)
    refused(40405, client.delete_subject, subject, permanent=True)
    equal(client.delete_subject(subject), [1, 2], "the versions")
    refused(40404, registry(address).delete_subject, subject)
    equal(client.get_subjects(subject), [], "subjects")
    equal(client.get_subjects(subject, deleted=True), [subject], "with the deleted")
    refused(40401, registry(address).get_latest_version, subject)
    equal(json.loads(registry(address).get_schema(identity).schema_str), json.loads(ONE.schema_str), "by its id")
    equal(sorted(client.delete_subject(subject, permanent=True)), [1, 2], "the versions, for good")
    equal(client.get_subjects(subject, deleted=True), [], "with the deleted")
    equal(registry(address).register_schema_full_response(subject, BROKEN).version, 1, "from the beginning")


@case("deletion")
def what_others_refer_to_cannot_be_deleted(address):
    client, money, order = registry(address), fresh("money"), fresh("order")
    client.register_schema(money, avro([("cents", "long")], "Money"))
    referring = with_references(avro([("total", "shop.Money")]), ("shop.Money", money, 1))
    identity = client.register_schema(order, referring)
    equal(client.get_referenced_by(money, 1), [identity], "who refers to it")
    refused(42206, client.delete_version, money, 1)
    refused(42206, client.delete_subject, money)
    client.delete_subject(order)
    client.delete_subject(order, permanent=True)
    equal(client.delete_subject(money), [1], "when nobody does")


@case("contexts")
def contexts_have_subjects_and_ids_of_their_own(address):
    client = registry(address)
    context = f".{fresh('context').replace('-', '')}"
    one, two = f":{context}:orders", f":{context}:payments"
    equal(client.register_schema(one, ONE), 1, "the first id")
    equal(client.register_schema(two, TWO), 2, "the second id")
    equal(registry(address).lookup_schema(one, ONE).subject, one, "the subject")
    assert context in client.get_contexts() and "." in client.get_contexts(), client.get_contexts()
    equal(sorted(client.get_subjects(f":{context}:")), [one, two], "subjects")
    found = registry(address).get_schema(1, subject_name=one)
    equal(json.loads(found.schema_str), json.loads(ONE.schema_str), "by id and subject")
    url = address if "://" in address else f"http://{address}"
    inside = registry(f"{url}/contexts/{context}")
    equal(json.loads(inside.get_schema(2).schema_str), json.loads(TWO.schema_str), "by id, in the context's path")
    equal(inside.get_latest_version("orders").schema_id, 1, "by subject, in the context's path")
    equal(inside.register_schema("returns", ONE), 1, "the same schema has the same id")
    refused(40401, registry(address).get_versions, "returns")


@case("subjects")
def subjects_are_found_by_prefix_in_pages_and_with_odd_names(address):
    client, prefix = registry(address), fresh("prefix")
    names = [f"{prefix}-a", f"{prefix}-b", f"{prefix}/c d%:ü"]
    for name in names:
        client.register_schema(name, ONE)
    equal(sorted(client.get_subjects(prefix)), sorted(names), "by prefix")
    pages = [client.get_subjects(prefix, offset=at, limit=2) for at in (0, 2, 4)]
    equal([len(page) for page in pages], [2, 1, 0], "pages")
    equal(sorted(sum(pages, [])), sorted(names), "all pages")
    equal(registry(address).get_latest_version(names[2]).subject, names[2], "an odd name")


@case("concurrency")
def the_same_schema_from_many_at_once_has_one_id(address):
    subject = fresh("many")
    schema = avro([(fresh("field").replace("-", "_"), "string")])
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda _: registry(address).register_schema(subject, schema), range(36)))
    equal(len(set(found)), 1, "ids")
    equal(registry(address).get_versions(subject), [1], "versions")

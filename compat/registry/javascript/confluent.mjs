// npm's @confluentinc/schemaregistry: Confluent's own client for JavaScript, with its serialisers.
//
//     BROKER=127.0.0.1:9092 node compat/registry/javascript/confluent.mjs 127.0.0.1:8081

import { equal, fresh, main, test } from "../../kafkajs/cases.mjs";
import { avro, jsonSchema, newTopic, require, through, url } from "./client.mjs";

const {
  AvroDeserializer, AvroSerializer, Compatibility, HeaderSchemaIdSerializer, JsonDeserializer, JsonSerializer,
  JsonataExecutor, ProtobufDeserializer, ProtobufSerializer, RuleRegistry, SchemaRegistryClient, SerdeType,
} = require("@confluentinc/schemaregistry");
const { create, createFileRegistry, createMutableRegistry, toBinary } = require("@bufbuild/protobuf");
const { FieldDescriptorProto_Type, FileDescriptorProtoSchema, FileDescriptorSetSchema } =
  require("@bufbuild/protobuf/wkt");

JsonataExecutor.register();

const client = (address) => new SchemaRegistryClient({ baseURLs: [url(address)], maxRetries: 0 });
const info = (schema, schemaType = "AVRO", more = {}) => ({ schema: JSON.stringify(schema), schemaType, ...more });
const ORDER = avro([["id", "string"], ["total", "int"]]);
const TWO = avro([["id", "string"], ["total", "int"], ["note", "string", ""]]);
const BROKEN = avro([["id", "string"], ["currency", "string"]]);
const ORDERS = Array.from({ length: 20 }, (_, i) => ({ id: `o-${i}`, total: i * 100 }));
const plain = (value) => JSON.parse(JSON.stringify(value));

/** Fails unless the registry answers with this error code. */
async function refused(code, call) {
  try {
    await call();
  } catch (error) {
    equal([error.errorCode, error.status], [code, Math.floor(code / 100)], "the error's code");
    return;
  }
  throw new Error(`it was not refused with ${code}`);
}

/** Serialises, produces, consumes and deserialises. */
async function roundTrip(topic, serialiser, deserialiser, values) {
  const messages = [];
  for (const value of values) {
    const headers = {};
    messages.push({ value: await serialiser.serialize(topic, value, headers), headers });
  }
  const found = await through(topic, messages);
  const read = [];
  for (const { value, headers } of found) read.push(await deserialiser.deserialize(topic, value, headers));
  return { read, found };
}

const reading = (kind, address, conf = {}) => new kind(client(address), SerdeType.VALUE, conf);

test("avro", "Avro records register their schema and are read back", async (address) => {
  const topic = await newTopic();
  const registry = client(address);
  await registry.register(`${topic}-value`, info(ORDER), false);
  const serialiser = new AvroSerializer(client(address), SerdeType.VALUE, { useLatestVersion: true });
  const { read, found } = await roundTrip(topic, serialiser, reading(AvroDeserializer, address), ORDERS);
  equal(plain(read), ORDERS, "values");
  const { id } = await client(address).getLatestSchemaMetadata(`${topic}-value`);
  equal([found[0].value[0], found[0].value.readUInt32BE(1)], [0, id], "the prefix");
});

test("avro", "a serialiser registers the schema of what it is given", async (address) => {
  const topic = await newTopic();
  const serialiser = new AvroSerializer(client(address), SerdeType.VALUE, { autoRegisterSchemas: true });
  const { read } = await roundTrip(topic, serialiser, reading(AvroDeserializer, address), ORDERS.slice(0, 3));
  equal(plain(read), ORDERS.slice(0, 3), "values");
  equal(await client(address).getAllVersions(`${topic}-value`), [1], "versions");
});

test("lookup", "an unregistered schema is refused where registering is off", async (address) => {
  const topic = await newTopic();
  const serialiser = new AvroSerializer(client(address), SerdeType.VALUE, { autoRegisterSchemas: false });
  await refused(40401, () => serialiser.serialize(topic, ORDERS[0]));
  const registry = client(address);
  await registry.register(`${topic}-value`, info(BROKEN), false);
  await refused(40403, () => client(address).getId(`${topic}-value`, info(ORDER), false));
});

test("guid", "the header carries the GUID", async (address) => {
  const topic = await newTopic();
  await client(address).register(`${topic}-value`, info(ORDER), false);
  const conf = { useLatestVersion: true, schemaIdSerializer: HeaderSchemaIdSerializer };
  const serialiser = new AvroSerializer(client(address), SerdeType.VALUE, conf);
  const { read, found } = await roundTrip(topic, serialiser, reading(AvroDeserializer, address), ORDERS.slice(0, 3));
  equal(plain(read), ORDERS.slice(0, 3), "values");
  const header = Buffer.from(found[0].headers.__value_schema_id);
  const { guid } = await client(address).getLatestSchemaMetadata(`${topic}-value`);
  equal([header.length, header[0], header.toString("hex", 1)], [17, 1, guid.replaceAll("-", "")], "the header");
  equal(JSON.parse((await client(address).getByGuid(guid)).schema), ORDER, "the schema by its GUID");
});

test("json", "JSON records are read back, and what is invalid is not sent", async (address) => {
  const topic = await newTopic();
  const schema = jsonSchema({ id: { type: "string" }, total: { type: "integer", minimum: 0 } }, ["id"]);
  await client(address).register(`${topic}-value`, info(schema, "JSON"), false);
  const conf = { useLatestVersion: true, validate: true };
  const serialiser = new JsonSerializer(client(address), SerdeType.VALUE, conf);
  const { read } = await roundTrip(topic, serialiser, reading(JsonDeserializer, address), ORDERS);
  equal(plain(read), ORDERS, "values");
  let invalid = false;
  await serialiser.serialize(topic, { id: "x", total: -1 }).catch(() => { invalid = true; });
  equal(invalid, true, "a negative total is refused");
});

test("json", "JSON schemas refer to those of other subjects", async (address) => {
  const topic = await newTopic();
  const money = fresh("money");
  await client(address).register(money, info(jsonSchema({ cents: { type: "integer" } }, ["cents"]), "JSON"), false);
  const order = jsonSchema({ id: { type: "string" }, total: { $ref: "money.json" } }, ["id", "total"]);
  const references = [{ name: "money.json", subject: money, version: 1 }];
  await client(address).register(`${topic}-value`, info(order, "JSON", { references }), false);
  const serialiser = new JsonSerializer(client(address), SerdeType.VALUE, { useLatestVersion: true, validate: true });
  const values = [{ id: "a", total: { cents: 5 } }];
  const { read } = await roundTrip(topic, serialiser, reading(JsonDeserializer, address), values);
  equal(plain(read), values, "values");
  equal((await client(address).getLatestSchemaMetadata(`${topic}-value`)).references, references, "references");
});

function protobufOrder(topic) {
  const name = topic.replaceAll("-", "_");
  const field = (fieldName, number, type) => ({ name: fieldName, number, type, label: 1, jsonName: fieldName });
  const file = create(FileDescriptorProtoSchema, {
    name: `${name}.proto`,
    package: `shop.${name}`,
    syntax: "proto3",
    messageType: [{
      name: "Order",
      field: [
        field("id", 1, FieldDescriptorProto_Type.STRING), field("total", 2, FieldDescriptorProto_Type.INT32),
      ],
    }],
  });
  const set = create(FileDescriptorSetSchema, { file: [file] });
  return createFileRegistry(set).getMessage(`shop.${name}.Order`);
}

test("protobuf", "Protobuf records register their schema and are read back", async (address) => {
  const topic = await newTopic();
  const order = protobufOrder(topic);
  const conf = { autoRegisterSchemas: true, registry: createMutableRegistry(order) };
  const serialiser = new ProtobufSerializer(client(address), SerdeType.VALUE, conf);
  const values = ORDERS.map((one) => create(order, one));
  const { read, found } = await roundTrip(topic, serialiser, reading(ProtobufDeserializer, address), values);
  equal(read.map(({ id, total }) => ({ id, total })), ORDERS, "values");
  const { schema, schemaType, id } = await client(address).getLatestSchemaMetadata(`${topic}-value`);
  equal([schemaType, schema.includes("message Order {")], ["PROTOBUF", true], "the schema is text");
  equal([found[0].value.readUInt32BE(1), found[0].value[5]], [id, 0], "the id and the index");
  equal(found[1].value.subarray(6).equals(Buffer.from(toBinary(order, values[1]))), true, "the payload");
});

test("normalize", "another writing is the same schema where it is normalised", async (address) => {
  const subject = fresh("normal");
  const wanted = await client(address).register(subject, info(ORDER), true);
  const other = { fields: ORDER.fields.map(({ name, type }) => ({ type: { type }, name })), name: "shop.Order", type: "record" };
  equal(await client(address).getId(subject, info(other), true), wanted, "the id");
  equal(await client(address).register(subject, info(other), true), wanted, "the id, registered");
});

test("compatibility", "the subject's level decides", async (address) => {
  const subject = fresh("level");
  const registry = client(address);
  await refused(40408, () => registry.getCompatibility(subject));
  equal(await registry.getDefaultCompatibility(), "BACKWARD", "the level of all");
  await registry.register(subject, info(ORDER), false);
  equal(await registry.testSubjectCompatibility(subject, info(TWO)), true, "a field with a default");
  equal(await registry.testSubjectCompatibility(subject, info(BROKEN)), false, "a field without");
  equal(await registry.testCompatibility(subject, 1, info(BROKEN)), false, "of version 1");
  await refused(40901, () => registry.register(subject, info(BROKEN), false));
  equal(await registry.updateCompatibility(subject, Compatibility.NONE), "NONE", "the answer");
  equal(await registry.getCompatibility(subject), "NONE", "the level");
  equal((await registry.registerFullResponse(subject, info(BROKEN), false)).version, 2, "the version");
});

test("config", "a configuration keeps its group, its defaults and its normalisation", async (address) => {
  const subject = fresh("config");
  const wanted = {
    compatibility: "FULL", compatibilityGroup: "major", normalize: true,
    defaultMetadata: { properties: { owner: "shop" } },
  };
  await client(address).updateConfig(subject, wanted);
  const found = await client(address).getConfig(subject);
  const { compatibilityLevel, compatibilityGroup, normalize, defaultMetadata } = found;
  equal([compatibilityLevel, compatibilityGroup, normalize], ["FULL", "major", true], "the configuration");
  equal(defaultMetadata.properties, { owner: "shop" }, "the metadata");
});

test("deletion", "versions and subjects are deleted softly and then for good", async (address) => {
  const subject = fresh("gone");
  const registry = client(address);
  await registry.register(subject, info(ORDER), false);
  await registry.register(subject, info(TWO), false);
  await refused(40407, () => registry.deleteSubjectVersion(subject, 2, true));
  equal(await registry.deleteSubjectVersion(subject, 2, false), 2, "the version");
  equal(await registry.getAllVersions(subject), [1], "versions");
  equal((await client(address).getSchemaMetadata(subject, 2, true)).version, 2, "the deleted one, asked for");
  await refused(40402, () => client(address).getSchemaMetadata(subject, 2, false));
  equal(await registry.deleteSubjectVersion(subject, 2, true), 2, "for good");
  equal(await registry.deleteSubject(subject, false), [1], "the subject's versions");
  equal((await registry.getAllSubjects()).includes(subject), false, "the subject is gone");
  equal(await registry.deleteSubject(subject, true), [1], "the subject, for good");
  await refused(40401, () => registry.getAllVersions(subject));
});

test("rules", "old records are migrated by the rules that the registry serves", async (address) => {
  const topic = await newTopic();
  const subject = `${topic}-value`;
  const major = (number) => ({ properties: { major: number } });
  const rule = (name, mode, from, to) => ({
    name, kind: "TRANSFORM", mode, type: "JSONATA",
    expr: `$merge([$sift($, function($v, $k) {$k != '${from}'}), {'${to}': $.'${from}'}])`,
  });
  const registry = client(address);
  await registry.updateConfig(subject, { compatibility: "NONE", compatibilityGroup: "major" });
  await registry.register(subject, info(ORDER, "AVRO", { metadata: major("1") }), false);
  const ruleSet = { migrationRules: [rule("up", "UPGRADE", "total", "amount"), rule("down", "DOWNGRADE", "amount", "total")] };
  const renamed = avro([["id", "string"], ["amount", "int"]]);
  await registry.register(subject, info(renamed, "AVRO", { metadata: major("2"), ruleSet }), false);
  const rules = RuleRegistry.getGlobalInstance();
  const serialiser = new AvroSerializer(
    client(address), SerdeType.VALUE, { useLatestWithMetadata: { major: "1" } }, rules);
  const deserialiser = new AvroDeserializer(
    client(address), SerdeType.VALUE, { useLatestWithMetadata: { major: "2" } }, rules);
  const { read } = await roundTrip(topic, serialiser, deserialiser, [{ id: "a", total: 7 }]);
  equal(plain(read), [{ id: "a", amount: 7 }], "upgraded");
});

await main();

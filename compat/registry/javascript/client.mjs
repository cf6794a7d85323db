// What the cases of both registry clients share: packages, topics, and the way of a record through the
// broker, which the environment variable BROKER names.

import { createRequire } from "node:module";

import { fresh } from "../../kafkajs/cases.mjs";

// Found beside this file or below NODE_PATH, which `import` does not look at.
export const require = createRequire(import.meta.url);
const { Kafka, logLevel } = require("kafkajs");

/** The registry's address as an URL; it may be one already, with a path. */
export const url = (address) => (address.includes("://") ? address : `http://${address}`);

function kafka() {
  const { BROKER } = process.env;
  if (!BROKER) throw new Error("BROKER must be the address of a broker");
  return new Kafka({
    brokers: [BROKER],
    clientId: "compat-registry",
    logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 8 },
  });
}

/** A topic that nobody else uses. */
export async function newTopic() {
  const topic = fresh("registry");
  const admin = kafka().admin();
  await admin.connect();
  try {
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], waitForLeaders: true });
  } finally {
    await admin.disconnect();
  }
  return topic;
}

/** Produces messages of { value, headers } and answers what comes back from the topic. */
export async function through(topic, messages) {
  const producer = kafka().producer({ allowAutoTopicCreation: false });
  await producer.connect();
  try {
    await producer.send({ topic, messages });
  } finally {
    await producer.disconnect();
  }
  const consumer = kafka().consumer({ groupId: fresh("group") });
  await consumer.connect();
  try {
    await consumer.subscribe({ topic, fromBeginning: true });
    const found = [];
    await new Promise((enough, failed) => {
      const eachMessage = async ({ message }) => {
        if (found.push(message) === messages.length) enough();
      };
      consumer.on(consumer.events.CRASH, ({ payload }) => failed(payload.error));
      consumer.run({ eachMessage }).catch(failed);
    });
    return found;
  } finally {
    await consumer.disconnect();
  }
}

/** An Avro record of [name, type, default]. */
export const avro = (fields, name = "Order") => ({
  type: "record",
  name,
  namespace: "shop",
  fields: fields.map(([field, type, ...rest]) => ({ name: field, type, ...(rest.length ? { default: rest[0] } : {}) })),
});

/** A closed JSON Schema of an object. */
export const jsonSchema = (properties, required = []) => ({
  $schema: "http://json-schema.org/draft-07/schema#",
  title: "Order",
  type: "object",
  properties,
  required,
  additionalProperties: false,
});

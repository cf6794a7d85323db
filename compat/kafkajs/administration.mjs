// Cases of administration: topics, settings, groups, the cluster.

import { equal, fresh, refused, test, until } from "./cases.mjs";
import { admin, consuming, numbered, produce, read, topicWith, values } from "./client.mjs";
import { committed, shares } from "./groups.mjs";

const TOPIC = 2; // a resource of this kind

test("topics", "topics are created, listed and deleted", async (address) => {
  const topic = await topicWith(address, 3);
  await admin(address, async (client) => {
    equal(await client.createTopics({ topics: [{ topic }] }), false, "creating it twice");
    const configEntries = [{ name: "retention.ms", value: "soon" }];
    await refused("a bad setting", "INVALID_CONFIG", () =>
      client.createTopics({ topics: [{ topic: fresh("topic"), configEntries }] }));
    await until("it is listed", async () => (await client.listTopics()).includes(topic));
    const described = await client.fetchTopicMetadata({ topics: [topic] });
    equal(described.topics[0].partitions.length, 3, "partitions");
    await client.deleteTopics({ topics: [topic] });
    await until("it is gone", async () => !(await client.listTopics()).includes(topic));
    await refused("deleting it twice", "UNKNOWN_TOPIC_OR_PARTITION", () => client.deleteTopics({ topics: [topic] }));
  });
});

test("partitions", "partitions are added, never taken away", async (address) => {
  const topic = await topicWith(address);
  await admin(address, async (client) => {
    const grow = (count) => client.createPartitions({ topicPartitions: [{ topic, count }] });
    await grow(3);
    await until("three partitions", async () =>
      (await client.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 3);
    await refused("fewer", "INVALID_PARTITIONS", () => grow(2));
  });
  await produce(address, topic, [{ partition: 2, value: "new" }]);
  equal((await read(address, topic, 1)).map(({ partition, value }) => [partition, String(value)]), [[2, "new"]], "new");
});

test("configs", "settings are described and replaced", async (address) => {
  const topic = await topicWith(address, 1, { "retention.ms": 3_600_000 });
  await admin(address, async (client) => {
    const settings = (wanted) =>
      until(`the settings are ${JSON.stringify(wanted)}`, async () => {
        const resources = [{ type: TOPIC, name: topic }];
        const { configEntries } = (await client.describeConfigs({ resources })).resources[0];
        const found = Object.fromEntries(configEntries.map(({ configName, configValue }) => [configName, configValue]));
        return Object.entries(wanted).every(([name, value]) => found[name] === value);
      });
    await settings({ "retention.ms": "3600000", "cleanup.policy": "delete" });
    const change = (name, value) =>
      client.alterConfigs({ resources: [{ type: TOPIC, name: topic, configEntries: [{ name, value }] }] });
    await change("retention.bytes", "1000000");
    await settings({ "retention.bytes": "1000000", "retention.ms": "604800000" });
    await refused("a bad value", "INVALID_CONFIG", () => change("retention.ms", "soon"));
  });
});

test("groups", "groups are listed, described and deleted", async (address) => {
  const [topic, group] = [await topicWith(address, 2), fresh("group")];
  await produce(address, topic, numbered(10, undefined, { partition: 0 }));
  await admin(address, async (client) => {
    const listed = async () => (await client.listGroups()).groups.some(({ groupId }) => groupId === group);
    await consuming(address, group, topic, { clientId: "till" }, async ({ member, take }) => {
      await take(10);
      await member.commitOffsets([{ topic, partition: 0, offset: "10" }]);
      equal(await listed(), true, "listed");
      equal(await shares(client, group, topic), { state: "Stable", found: { till: [0, 1] } }, "described");
      await refused("deleting it", "NON_EMPTY_GROUP", () =>
        client.deleteGroups([group]).catch((error) => {
          throw error.groups?.[0]?.error ?? error;
        }));
    });
    equal((await committed(client, group, topic)).map(({ offset }) => offset), ["10", "-1"], "committed");
    equal(await shares(client, group, topic), { state: "Empty", found: {} }, "without members");
    await client.resetOffsets({ groupId: group, topic, earliest: true });
    // What kafkajs commits there means the beginning to a consumer.
    equal((await committed(client, group, topic)).map(({ offset }) => offset), ["-2", "-2"], "reset");
    equal((await client.deleteGroups([group])).map(({ groupId }) => groupId), [group], "deleted");
    equal(await listed(), false, "listed");
  });
});

test("deletion", "records are deleted up to an offset", async (address) => {
  const topic = await topicWith(address);
  await produce(address, topic, numbered(10));
  await admin(address, async (client) => {
    // kafkajs deletes only in topics that it has asked about before.
    equal((await client.fetchTopicOffsets(topic))[0].low, "0", "the beginning");
    await client.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "4" }] });
    const [{ low, high }] = await client.fetchTopicOffsets(topic);
    equal([low, high], ["4", "10"], "both ends");
  });
  equal(values(await read(address, topic, 6)), ["4", "5", "6", "7", "8", "9"], "values");
});

test("cluster", "the broker names the address that it was reached at", async (address) => {
  await admin(address, async (client) => {
    const { brokers } = await client.describeCluster();
    equal(brokers.map(({ host, port }) => `${host}:${port}`), [address], "addresses");
  });
});

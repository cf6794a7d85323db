// Cases of groups: offsets, resets, members that come and go.

import { createRequire } from "node:module";

import { equal, fresh, test, until } from "./cases.mjs";
import { admin, consumer, consuming, numbered, produce, producing, topicWith, values } from "./client.mjs";

const { AssignerProtocol } = createRequire(import.meta.url)("kafkajs");

/** The partitions of each member of a group, by client id; and the group's state. */
export async function shares(client, group, topic) {
  const [{ state, members }] = (await client.describeGroups([group])).groups;
  const found = {};
  for (const { clientId, memberAssignment } of members) {
    const decoded = memberAssignment.length ? AssignerProtocol.MemberAssignment.decode(memberAssignment) : null;
    found[clientId] = (decoded?.assignment[topic] ?? []).sort();
  }
  return { state, found };
}

export const committed = async (client, groupId, topic) =>
  (await client.fetchOffsets({ groupId, topics: [topic] }))[0].partitions
    .sort((left, right) => left.partition - right.partition);

test("resume", "a group resumes from its commit and keeps the metadata", async (address) => {
  const [topic, group] = [await topicWith(address), fresh("group")];
  await produce(address, topic, numbered(10));
  await consuming(address, group, topic, {}, async ({ member, take }) => {
    await take(10);
    await member.commitOffsets([{ topic, partition: 0, offset: "4", metadata: "four, please" }]);
  });
  await consuming(address, group, topic, {}, async ({ take }) =>
    equal(values(await take(6)), ["4", "5", "6", "7", "8", "9"], "values"));
  await admin(address, async (client) => {
    const [{ offset, metadata }] = await committed(client, group, topic);
    equal([offset, metadata], ["4", "four, please"], "the commit");
    await client.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: "8" }] });
  });
  await consuming(address, group, topic, {}, async ({ take }) =>
    equal(values(await take(2)), ["8", "9"], "values from the offset that was set"));
});

test("resets", "a group without offsets begins where it is told", async (address) => {
  const topic = await topicWith(address);
  await produce(address, topic, numbered(5, (i) => `before ${i}`));
  await consuming(address, fresh("group"), topic, {}, async ({ take }) =>
    equal((await take(5))[0].offset, "0", "from the beginning"));
  await consuming(address, fresh("group"), topic, { fromBeginning: false }, async ({ found }) => {
    // The end is looked up at some time after joining: send until something arrives.
    await until("something arrives", async () => {
      await produce(address, topic, [{ value: "after" }]);
      return found.length > 0;
    });
    if (Number(found[0].offset) < 5) throw new Error(`it began at ${found[0].offset}`);
  });
});

test("resets", "a group is reset to a time", async (address) => {
  const [topic, groupId] = [await topicWith(address, 1, { "retention.ms": -1 }), fresh("group")];
  const times = ["1000", "2000", "3000", "4000"];
  await produce(address, topic, times.map((timestamp) => ({ value: "x", timestamp })));
  await admin(address, async (client) => {
    const partitions = await client.fetchTopicOffsetsByTimestamp(topic, 2500);
    await client.setOffsets({ groupId, topic, partitions });
  });
  await consuming(address, groupId, topic, {}, async ({ take }) =>
    equal((await take(2)).map(({ timestamp }) => timestamp), ["3000", "4000"], "times"));
});

test("rebalance", "members join and leave under load and nothing is passed over", async (address) => {
  const partitions = 4;
  const [topic, group] = [await topicWith(address, partitions), fresh("group")];
  const [seen, sent, failures] = [Array(partitions).fill(0), Array(partitions).fill(0), []];
  let feeding = true;
  const feeder = producing(address, {}, async (producer) => {
    while (feeding) {
      const messages = Array.from({ length: partitions }, (_, partition) => ({ partition, value: "x" }));
      for (const { partition, baseOffset } of await producer.send({ topic, messages })) {
        sent[partition] = Number(baseOffset) + 1;
      }
    }
  }).catch((error) => failures.push(error));
  const members = {};
  const join = async (name) => {
    const member = (members[name] = consumer(address, group, { clientId: name }));
    member.on("consumer.crash", ({ payload }) => payload.restart || failures.push(payload.error));
    await member.connect();
    await member.subscribe({ topic, fromBeginning: true });
    await member.run({
      partitionsConsumedConcurrently: partitions,
      eachMessage: async ({ partition, message }) => {
        const offset = Number(message.offset);
        if (offset > seen[partition]) failures.push(new Error(`${offset} came before ${seen[partition]}`));
        seen[partition] = Math.max(seen[partition], offset + 1);
      },
    });
  };
  const leave = async (name) => {
    const member = members[name];
    delete members[name];
    await member.disconnect();
  };
  try {
    await admin(address, async (client) => {
      const shared = (...names) =>
        until(`${names} share the partitions`, async () => {
          if (failures.length) throw failures[0];
          const { state, found } = await shares(client, group, topic);
          const all = Object.values(found).flat().sort();
          return state === "Stable" && Object.keys(found).sort().join() === names.sort().join()
            && all.join() === "0,1,2,3" && Object.values(found).every((own) => own.length > 0);
        });
      await join("one");
      await shared("one");
      await Promise.all([join("two"), join("three")]);
      await shared("one", "two", "three");
      await leave("two");
      await shared("one", "three");
      await join("four");
      await shared("one", "three", "four");
      feeding = false;
      await feeder;
      await until("everything is read", () => seen.join() === sent.join());
      await Promise.all(Object.keys(members).map(leave));
      if (failures.length) throw failures[0];
      const offsets = (await committed(client, group, topic)).map(({ offset }) => Number(offset));
      equal(offsets, sent, "the committed offsets");
    });
  } finally {
    feeding = false;
    await Promise.all(Object.keys(members).map(leave));
  }
});

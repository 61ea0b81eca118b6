import { expect, test } from '@jest/globals';
import { TestBroker, encodePacket } from '@shoalmq/testkit';
import type { ByteClient, WireVersion } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;
const cases = versions.flatMap((version) =>
  [true, false].map((clean) => ({ version, session: clean ? 'clean' : 'persistent', clean })),
);

function connect(broker: TestBroker, version: WireVersion, clean: boolean): Promise<ByteClient> {
  return broker.client({
    version,
    clean,
    ...(version === 5 && !clean ? { properties: { sessionExpiryInterval: 60 } } : {}),
  });
}

/** All in one write. */
function publishTogether(
  client: ByteClient,
  messages: readonly {
    topic: string;
    qos: 0 | 1 | 2;
    payload: string;
    messageId: number;
    retain?: boolean;
  }[],
): void {
  client.send(
    Buffer.concat(
      messages.map((message) =>
        encodePacket({ cmd: 'publish', dup: false, retain: false, ...message }, client.version),
      ),
    ),
  );
}

test.each(cases)(
  '[MQTT-4.6.0-2][MQTT-4.6.0-3][MQTT-4.6.0-4][MQTT3-4.6.0-2][MQTT3-4.6.0-3] PUBACKs, PUBRECs and PUBCOMPs come in the order of their packets, whatever these wait for (version $version, $session session)',
  async ({ version, clean }) => {
    await using broker = await TestBroker.start();
    await using durable = await connect(broker, version, false);
    await durable.subscribe('#', { qos: 2 });
    await using client = await connect(broker, version, clean);
    // Some are retained, some have no subscriber that waits, some nobody may publish.
    const messages = Array.from({ length: 60 }, (_, index) => ({
      topic: index % 5 === 0 ? '$SYS/x' : `t/${String(index % 3)}`,
      qos: (1 + (index % 2)) as 1 | 2,
      payload: String(index),
      messageId: 60_000 + ((index * 7) % 61),
      retain: index % 4 === 0,
    }));
    publishTogether(client, messages);
    const answers = { puback: [] as number[], pubrec: [] as number[] };
    for (let i = 0; i < messages.length; i++) {
      const packet = await client.expectPacket();
      expect(['puback', 'pubrec']).toContain(packet.cmd);
      answers[packet.cmd as 'puback' | 'pubrec'].push(packet.messageId!);
    }
    const idsAt = (qos: number) =>
      messages.filter((message) => message.qos === qos).map(({ messageId }) => messageId);
    expect(answers.puback).toEqual(idsAt(1));
    expect(answers.pubrec).toEqual(idsAt(2));
    for (const messageId of answers.pubrec) client.pubrel(messageId);
    for (const messageId of answers.pubrec) {
      expect(await client.expectPacket('pubcomp')).toMatchObject({ messageId });
    }
  },
);

test.each(cases)(
  '[MQTT-4.6.0-4][MQTT3-4.6.0-4] PUBRELs come in the order of the PUBRECs, not of the messages (version $version, $session session)',
  async ({ version, clean }) => {
    await using broker = await TestBroker.start();
    await using client = await connect(broker, version, clean);
    await client.subscribe('t', { qos: 2 });
    const ids: number[] = [];
    for (let i = 0; i < 6; i++) {
      await broker.broker.publish({ topic: 't', payload: String(i), qos: 2 });
      ids.push((await client.expectPublish()).messageId!);
    }
    const order = [3, 0, 5, 1, 4, 2].map((index) => ids[index]!);
    for (const id of order) client.pubrec(id);
    for (const messageId of order) {
      expect(await client.expectPacket('pubrel')).toMatchObject({ messageId });
    }
  },
);

test.each(cases)(
  '[MQTT-4.6.0-5][MQTT-4.6.0-6][MQTT3-4.6.0-5][MQTT3-4.6.0-6] on every topic messages of one QoS come in the order they were published, through a window of any size (version $version, $session session)',
  async ({ version, clean }) => {
    await using broker = await TestBroker.start({ config: { limits: { inflightMax: 3 } } });
    await using subscriber = await connect(broker, version, clean);
    await subscriber.subscribe('#', { qos: 2 });
    await using publisher = await broker.client({ version });
    const messages = Array.from({ length: 90 }, (_, index) => ({
      topic: `t/${String(index % 2)}`,
      qos: (Math.floor(index / 2) % 3) as 0 | 1 | 2,
      payload: String(index),
      messageId: index + 1,
    }));
    publishTogether(publisher, messages);
    const seen = new Map<string, number[]>();
    for (let i = 0; i < messages.length; i++) {
      const { topic, qos, payload } = await subscriber.expectPublish({ acknowledge: true });
      const stream = `${topic} ${String(qos)}`;
      seen.set(stream, [...(seen.get(stream) ?? []), Number(payload.toString())]);
    }
    expect(seen.size).toBe(6);
    for (const [stream, numbers] of seen) {
      const expected = messages
        .filter(({ topic, qos }) => `${topic} ${String(qos)}` === stream)
        .map(({ payload }) => Number(payload));
      expect(numbers).toEqual(expected);
    }
    await subscriber.expectNothing();
  },
);

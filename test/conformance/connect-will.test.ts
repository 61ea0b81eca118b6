import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;

test.each(versions)(
  '[MQTT-3.1.2-14][MQTT3-3.1.2-16] with Will Retain 0 the will is not retained, and leaves a retained message as it was (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watcher = await broker.client({ version });
    await watcher.publishFully({ topic: 'will', payload: 'kept', qos: 1, retain: true });
    await watcher.subscribe('#');
    await watcher.expectPublish({ topic: 'will', payload: 'kept', retain: true });
    for (const topic of ['will', 'other']) {
      const payload = Buffer.from('gone');
      await using client = await broker.client({
        version,
        will: { topic, payload, qos: 0, retain: false },
      });
      client.abort();
      await watcher.expectPublish({ topic, payload: 'gone', retain: false });
    }
    await using late = await broker.client({ version });
    await late.subscribe('#');
    await late.expectPublish({ topic: 'will', payload: 'kept', retain: true });
    await late.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-3.1.2-15][MQTT3-3.1.2-17] with Will Retain 1 the will is published as a retained message (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using watcher = await broker.client({ version });
    await watcher.publishFully({ topic: 'will', payload: 'kept', qos: 1, retain: true });
    await watcher.subscribe('will');
    await watcher.expectPublish({ payload: 'kept', retain: true });
    const payload = Buffer.from('gone');
    await using client = await broker.client({
      version,
      will: { topic: 'will', payload, qos: 1, retain: true },
    });
    client.abort();
    // To those who subscribed before it is a message like any other.
    await watcher.expectPublish({ payload: 'gone', retain: false });
    await using late = await broker.client({ version });
    await late.subscribe('will', { qos: 1 });
    const { qos } = await late.expectPublish({ payload: 'gone', retain: true });
    expect(qos).toBe(1);
  },
);

test.each([
  ['a wildcard', 'will/#'],
  ['too many levels', '/'.repeat(200)],
  ['a control character', 'will\u0007'],
])('a will topic that is %s is refused with its CONNECT', async (_, topic) => {
  await using broker = await TestBroker.start();
  await using bystander = await broker.client();
  for (const version of versions) {
    await using client = await broker.open({ version });
    client.sendConnect({
      will: { topic, payload: Buffer.of(), qos: 0, retain: false },
    });
    await client.expectClose();
  }
  await bystander.expectNothing();
});

test('a will of any size that CONNECT may have is published whole', async () => {
  await using broker = await TestBroker.start();
  await using watcher = await broker.client();
  await watcher.subscribe('will');
  const payload = Buffer.alloc(60_000, 'x');
  await using client = await broker.client({
    will: { topic: 'will', payload, qos: 0, retain: false },
  });
  client.abort();
  await watcher.expectPublish({ payload });
});

import { expect, test } from '@jest/globals';
import { bytes } from '../conformance/bytes.ts';
import { attack, eventually, usedBytes } from './attack.ts';

/** Bytes of one kind of packet, many times. */
function flood(packet: readonly number[], bytes: number): Buffer {
  return Buffer.alloc(bytes - (bytes % packet.length), Buffer.from(packet));
}

const MIB = 1_048_576;

test('ATTACK 18: who sends and never reads is not answered into our memory', async () => {
  const outboundBytesMax = 65_536;
  await attack(
    {
      counted: ({ connectionsClosed }) => connectionsClosed.slow_consumer,
      config: { limits: { outboundBytesMax, stallTimeoutMs: 1_000 } },
    },
    async ({ broker }) => {
      await using client = await broker.client({ clientId: 'deaf' });
      client.stream.pause();
      const closed = new Promise((resolve) => client.stream.once('close', resolve));
      client.stream.on('error', () => undefined);
      // What the kernel buffers between us is some megabytes; this is more.
      client.send(flood([0xc0, 0], 32 * MIB));
      await closed;
      const { packetsReceived } = broker.broker.counters;
      expect(packetsReceived[12]).toBeLessThan(14 * MIB);
    },
  );
}, 20_000);

test('ATTACK 18: a QoS 1 subscriber that never reads costs its window of small messages, not of large ones', async () => {
  const outboundBytesMax = 1 * MIB;
  const waitingBytesMax = 4 * MIB;
  await attack(
    {
      counted: ({ connectionsClosed }) => connectionsClosed.slow_consumer,
      config: { limits: { outboundBytesMax, waitingBytesMax } },
    },
    async ({ broker }) => {
      await using deaf = await broker.client({ clientId: 'deaf' });
      await deaf.subscribe('big', { qos: 1 });
      deaf.stream.on('error', () => undefined);
      deaf.stream.pause();
      await using publisher = await broker.client({ clientId: 'publisher' });
      const payload = Buffer.alloc(MIB / 2);
      let published = 0;
      while (broker.broker.counters.connectionsClosed.slow_consumer === 0) {
        await publisher.publishFully({ topic: 'big', payload, qos: 1 });
        published += 1;
        // The kernel's buffers, the output twice, what waits.
        expect(published).toBeLessThan(100);
      }
      publisher.disconnect();
    },
  );
}, 20_000);

test('ATTACK 18: a QoS 0 subscriber that never reads loses messages, which are counted', async () => {
  await attack(
    {
      counted: ({ messagesDropped }) => messagesDropped.slow_consumer,
      config: { limits: { outboundBytesMax: 65_536, stallTimeoutMs: 1_000 } },
    },
    async ({ broker }) => {
      await using deaf = await broker.client({ clientId: 'deaf' });
      await deaf.subscribe('big');
      deaf.stream.on('error', () => undefined);
      deaf.stream.pause();
      await using publisher = await broker.client({ clientId: 'publisher' });
      const payload = Buffer.alloc(MIB / 4);
      for (let i = 0; i < 100; i++) await publisher.publishFully({ topic: 'big', payload });
      const { messagesDropped, publishSent } = broker.broker.counters;
      expect(messagesDropped.slow_consumer).toBeGreaterThan(50);
      expect(publishSent[0]).toBeLessThan(50);
      await eventually(() => {
        expect(broker.broker.counters.connectionsClosed.slow_consumer).toBe(1);
      });
      publisher.disconnect();
    },
  );
}, 20_000);

test('ATTACK 37: a QoS 1 subscriber that never acknowledges is told 0x97 at its bound', async () => {
  await attack(
    {
      counted: ({ connectionsClosed }) => connectionsClosed.slow_consumer,
      config: { limits: { waitingMessagesMax: 100, inflightMax: 10 } },
    },
    async ({ broker }) => {
      await using silent = await broker.client({ clientId: 'silent' });
      await silent.subscribe('t', { qos: 1 });
      await using publisher = await broker.client({ clientId: 'publisher' });
      for (let i = 0; i < 111; i++) await publisher.publishFully({ topic: 't', qos: 1 });
      for (let i = 0; i < 10; i++) await silent.expectPublish({ topic: 't', qos: 1 });
      await silent.expectDisconnect(0x97);
      publisher.disconnect();
    },
  );
});

test('ATTACK 37: a QoS 2 subscriber that never answers PUBLISH is closed when it stalls', async () => {
  await attack(
    {
      counted: ({ connectionsClosed }) => connectionsClosed.slow_consumer,
      config: { limits: { inflightMax: 10, stallTimeoutMs: 500 } },
    },
    async ({ broker }) => {
      await using silent = await broker.client({ clientId: 'silent' });
      await silent.subscribe('t', { qos: 2 });
      await using publisher = await broker.client({ clientId: 'publisher' });
      for (let i = 0; i < 20; i++) await publisher.publishFully({ topic: 't', qos: 2 });
      for (let i = 0; i < 10; i++) await silent.expectPublish({ topic: 't', qos: 2 });
      await silent.expectDisconnect(0x97);
      publisher.disconnect();
    },
  );
});

test.each([
  { version: 5, accepted: 1_024 },
  { version: 4, accepted: 65_535 },
] as const)(
  'ATTACK 37: QoS 2 without PUBREL uses up the identifiers and nothing else (version $version)',
  async ({ version, accepted }) => {
    await attack(
      {
        counted: ({ publishReceived }) => publishReceived[2],
      },
      async ({ broker }) => {
        await using client = await broker.client({
          version,
          clientId: 'collector',
          timeoutMs: 20_000,
        });
        const published: Buffer[] = [];
        for (let id = 1; id <= accepted; id++) {
          published.push(
            Buffer.from([0x34, version === 5 ? 6 : 5, 0, 1, 0x74, id >> 8, id & 0xff]),
          );
          if (version === 5) published.push(Buffer.of(0));
        }
        client.send(Buffer.concat(published));
        for (let id = 1; id <= accepted; id++) {
          expect((await client.expectPacket('pubrec')).messageId).toBe(id);
        }
        if (version === 5) {
          client.publish({ topic: 't', qos: 2, messageId: accepted + 1 });
          await client.expectDisconnect(0x93);
        } else {
          // Each identifier is in use: whatever comes is a repetition.
          client.publish({ topic: 't', qos: 2, messageId: 7 });
          await client.expectPacket('pubrec');
          client.disconnect();
        }
      },
    );
  },
  30_000,
);

test('ATTACK 38: DUP on an unseen identifier is delivered, PUBREL of an unknown one is answered', async () => {
  await attack({ counted: ({ publishReceived }) => publishReceived[1] }, async ({ broker }) => {
    await using client = await broker.client();
    await client.subscribe('t');
    expect(await client.publishFully({ topic: 't', qos: 1, dup: true })).toBe(0);
    await client.expectPublish({ topic: 't', dup: false });
    client.pubrel(99);
    expect(await client.expectPacket('pubcomp')).toMatchObject({ messageId: 99, reasonCode: 0x92 });
    client.pubrec(98);
    expect(await client.expectPacket('pubrel')).toMatchObject({ messageId: 98, reasonCode: 0x92 });
    client.puback(97);
    client.pubcomp(96);
    await client.expectNothing();
    client.disconnect();
  });
});

test.each(['drop-oldest', 'reject-new'] as const)(
  'ATTACK 33: an offline session is bounded by messages and by bytes (%s)',
  async (queuePolicy) => {
    await attack(
      {
        counted: ({ messagesDropped }) => messagesDropped.queue_full,
        config: { limits: { queuePolicy, queueMessagesMax: 10, queueBytesMax: 100_000 } },
      },
      async ({ broker }) => {
        const session = {
          clientId: 'away',
          clean: false,
          properties: { sessionExpiryInterval: 60 },
        };
        await using first = await broker.client(session);
        await first.subscribe('t/#', { qos: 1 });
        first.disconnect();
        await first.expectClose();
        await using publisher = await broker.client({ clientId: 'publisher' });
        const codes = new Set<number>();
        for (let i = 0; i < 50; i++) {
          codes.add(await publisher.publishFully({ topic: 't/small', payload: String(i), qos: 1 }));
        }
        expect(broker.broker.levels()).toMatchObject({ queuedMessages: 10 });
        for (let i = 0; i < 50; i++) {
          const payload = Buffer.alloc(30_000, i);
          codes.add(await publisher.publishFully({ topic: 't/large', payload, qos: 2 }));
        }
        expect([...codes]).toEqual(queuePolicy === 'reject-new' ? [0, 0x97] : [0]);
        expect(broker.broker.levels().queuedMessages).toBeLessThanOrEqual(10);
        expect(broker.broker.levels().queuedBytes).toBeLessThanOrEqual(100_000);
        publisher.disconnect();
        await using last = await broker.client({ ...session, clean: true, properties: {} });
        last.disconnect();
      },
    );
  },
);

test('ATTACK 33: a session cannot be made to outlive the bound of the server', async () => {
  await attack(
    {
      counted: ({ sessionEvents }) => sessionEvents.expired,
      config: { limits: { sessionExpiryMax: 1 } },
    },
    async ({ broker }) => {
      for (const version of [3, 4, 5] as const) {
        await using client = await broker.client({
          version,
          clientId: `eternal-${version}`,
          clean: false,
          ...(version === 5 ? { properties: { sessionExpiryInterval: 0xffff_ffff } } : {}),
        });
        await client.subscribe('t', { qos: 1 });
        client.disconnect();
        await client.expectClose();
      }
      expect(broker.broker.levels().sessionsOffline).toBe(3);
      await eventually(() => {
        expect(broker.broker.levels().sessionsOffline).toBe(0);
      });
    },
  );
});

test('ATTACK 34: subscriptions are bounded by number, by levels and by weight', async () => {
  await attack(
    {
      counted: ({ packetsReceived }) => packetsReceived[8]!,
      config: { limits: { subscriptionsMax: 100 } },
    },
    async ({ broker }) => {
      await using many = await broker.client();
      const filters = Array.from({ length: 150 }, (_, i) => `${i}/+`);
      const { granted } = await many.subscribe(filters);
      expect(granted).toEqual(filters.map((_, i) => (i < 100 ? 0 : 0x97)));
      await using deep = await broker.client();
      expect(await deep.subscribe('+/'.repeat(32_000))).toMatchObject({ granted: [0x8f] });
      await using heavy = await broker.client();
      const heavyFilters = Array.from({ length: 15 }, (_, i) => `${i}/${'x'.repeat(20_000)}`);
      const { granted: weighed } = await heavy.subscribe(heavyFilters);
      expect(weighed).toEqual(heavyFilters.map((_, i) => (i < 5 ? 0 : 0x97)));
      await heavy.unsubscribe(heavyFilters[0]!);
      expect(await heavy.subscribe(heavyFilters[14]!)).toMatchObject({ granted: [0] });
      for (const client of [many, deep, heavy]) client.disconnect();
    },
  );
});

test('ATTACK 34: overlapping filters deliver once, at a cost that does not explode', async () => {
  await attack({ counted: ({ packetsReceived }) => packetsReceived[8]! }, async ({ broker }) => {
    await using bomber = await broker.client();
    const filters = Array.from({ length: 4_096 }, (_, bits) =>
      Array.from({ length: 12 }, (__, level) => ((bits >> level) & 1 ? '+' : 'a')).join('/'),
    );
    for (let i = 0; i < filters.length; i += 512) {
      await bomber.subscribe(filters.slice(i, i + 512), {
        properties: { subscriptionIdentifier: i + 1 },
      });
    }
    await bomber.subscribe(Array.from({ length: 40 }, (_, i) => `${'+/'.repeat(i)}#`));
    await using publisher = await broker.client();
    const topic = Array.from({ length: 12 }, () => 'a').join('/');
    for (let i = 0; i < 50; i++) await publisher.publishFully({ topic, qos: 1 });
    await publisher.publishFully({ topic: 'a/'.repeat(199), qos: 1 });
    const topics = bomber.received.flatMap((each) => (each.cmd === 'publish' ? each.topic : []));
    expect(topics.filter((name) => name === topic)).toHaveLength(50);
    for (const client of [bomber, publisher]) client.disconnect();
  });
}, 20_000);

test('ATTACK 35: subscribing and unsubscribing in a loop leaves nothing', async () => {
  await attack({ counted: ({ packetsReceived }) => packetsReceived[10]! }, async ({ broker }) => {
    const clients = await Promise.all(Array.from({ length: 8 }, () => broker.client()));
    for (const client of clients) {
      for (let i = 0; i < 500; i++) {
        const filters = ['a/+', '$share/g/a/#', `own/${i % 3}`];
        client.sendPacket({
          cmd: 'subscribe',
          messageId: client.nextPacketId(),
          subscriptions: filters.map((topic) => ({ topic, qos: 1 })),
        });
        client.publish({ topic: 'a/b' });
        client.sendPacket({
          cmd: 'unsubscribe',
          messageId: client.nextPacketId(),
          unsubscriptions: filters,
        });
      }
    }
    for (const client of clients) await client.roundTrip();
    expect(broker.broker.levels()).toMatchObject({ subscriptions: 1, sharedGroups: 0 });
    for (const client of clients) client.disconnect();
  });
}, 20_000);

test('ATTACK 39: retained messages are bounded by number and by bytes', async () => {
  await attack(
    {
      counted: ({ messagesDropped }) => messagesDropped.quota,
      config: { limits: { retainedMessagesMax: 20, retainedBytesMax: 200_000 } },
    },
    async ({ broker }) => {
      await using client = await broker.client();
      const retain = (topic: string, payload: Buffer | string) =>
        client.publishFully({ topic, payload, qos: 1, retain: true });
      const codes: number[] = [];
      for (let i = 0; i < 30; i++) codes.push(await retain(`r/${i}`, 'x'));
      expect(codes.map((code) => code === 0x97)).toEqual(codes.map((_, i) => i >= 20));
      expect(await retain('r/0', Buffer.alloc(190_000))).not.toBe(0x97);
      expect(await retain('r/1', Buffer.alloc(20_000))).toBe(0x97);
      // Clearing needs no room.
      for (let i = 0; i < 20; i++) expect(await retain(`r/${i}`, '')).not.toBe(0x97);
      client.disconnect();
    },
  );
});

test('ATTACK 39: who subscribes # again and again and does not read piles up no deliveries', async () => {
  await attack(
    {
      counted: ({ packetsReceived }) => packetsReceived[8]!,
      leaves: ['retainedMessages'],
    },
    async ({ broker }) => {
      await using publisher = await broker.client();
      for (let i = 0; i < 300; i++) {
        publisher.publish({ topic: `r/${i}`, payload: Buffer.alloc(2_000), retain: true });
      }
      await publisher.roundTrip();
      publisher.disconnect();
      await using client = await broker.client({ timeoutMs: 20_000 });
      await client.subscribe(['#', 'r/#'], { rh: 0 });
      const one = bytes(0x82, 7, 0, 1, 0, '#', 0);
      client.stream.pause();
      const before = await usedBytes();
      client.send(flood([...one], 50_000 * one.length));
      await eventually(() => {
        expect(broker.broker.counters.packetsReceived[8]).toBeGreaterThan(50_000);
      });
      expect((await usedBytes()) - before).toBeLessThan(16 * MIB);
      client.abort();
    },
  );
}, 30_000);

test('ATTACK 11: aliases stand for a bounded number of bytes', async () => {
  await attack(
    { counted: ({ connectionsClosed }) => connectionsClosed.protocol_error },
    async ({ broker }) => {
      await using client = await broker.client();
      const alias = (topicAlias: number, length: number) =>
        client.publish({ topic: 'x'.repeat(length), properties: { topicAlias } });
      alias(1, 60_000);
      alias(1, 30_000);
      alias(2, 30_000);
      await client.roundTrip();
      alias(3, 30_000);
      await client.expectDisconnect(0x97);
    },
  );
});

test('ATTACK 20: two devices that fight for one client id harm nobody', async () => {
  await attack(
    { counted: ({ sessionEvents }) => sessionEvents.takeover_local },
    async ({ broker }) => {
      const session = { clientId: 'ours', clean: false, properties: { sessionExpiryInterval: 60 } };
      await using first = await broker.client(session);
      await first.subscribe('t', { qos: 1 });
      const fighter = async () => {
        for (let i = 0; i < 100; i++) {
          await using client = await broker.open();
          client.sendConnect(session);
          await client.expectPacket('connack').catch(() => undefined);
        }
      };
      await Promise.all([fighter(), fighter()]);
      await using winner = await broker.client({ ...session, clean: true, properties: {} });
      expect(broker.broker.levels()).toMatchObject({ sessionsOffline: 0, sessionsConnected: 3 });
      winner.disconnect();
    },
  );
}, 30_000);

test('ATTACK 36: sessions under random ids cost little each and no work per tick', async () => {
  const count = 1_000;
  await attack(
    {
      counted: ({ sessionEvents }) => sessionEvents.created,
      leaves: ['sessionsOffline', 'subscriptions'],
    },
    async ({ broker }) => {
      const before = await usedBytes();
      await Promise.all(
        Array.from({ length: 10 }, async (_, worker) => {
          for (let i = 0; i < count / 10; i++) {
            await using client = await broker.client({
              clientId: `random-${worker}-${i}`,
              clean: false,
              properties: { sessionExpiryInterval: 0xffff_ffff },
            });
            await client.subscribe('t/+/x', { qos: 1 });
            client.disconnect();
          }
        }),
      );
      await eventually(() => {
        expect(broker.broker.levels().sessionsOffline).toBe(count);
      });
      expect(((await usedBytes()) - before) / count).toBeLessThan(8_192);
    },
  );
}, 30_000);

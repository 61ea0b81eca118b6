import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ShoalProcess } from '@shoalmq/testkit';
import type { Qos } from './client-kind.ts';
import { describeClients, installedClients, unique } from './clients.ts';
import { Subscribers } from './subscribers.ts';

let shoal: ShoalProcess;
beforeAll(async () => {
  shoal = await ShoalProcess.start();
});
afterAll(() => shoal.stop());

describeClients(({ kind, version }) => {
  test('every QoS reaches every QoS, at the lower of the two', async () => {
    const { port } = shoal;
    const topic = unique('qos');
    const levels: readonly Qos[] = [0, 1, 2];
    await using subscribers = await Subscribers.of(
      levels.map((qos) => kind.subscribe({ port, version, filters: [topic], qos })),
    );

    const messages = levels.map((qos) => ({ topic, payload: `at ${qos}`, qos }));
    await kind.publish({ port, version }, messages);

    for (const [granted, subscriber] of subscribers.all.entries()) {
      for (const sent of levels) {
        const { payload, qos, retain } = await subscriber.next();
        expect({ payload: payload.toString(), qos, retain }).toEqual({
          payload: `at ${sent}`,
          qos: Math.min(sent, granted),
          retain: false,
        });
      }
    }
  });

  test('a payload of 500 KB arrives as it was sent, at QoS 2', async () => {
    const { port } = shoal;
    const topic = unique('large');
    const payload = Buffer.alloc(500_000, Buffer.from([0, 10, 13, 255, 128, 194, 9]));
    await using subscriber = await kind.subscribe({ port, version, filters: [topic], qos: 2 });
    await kind.publish({ port, version }, [{ topic, payload, qos: 2 }]);

    const message = await subscriber.next();
    expect(message.payload.equals(payload)).toBe(true);
  });

  test('topics and client identifiers may be in any script', async () => {
    const { port } = shoal;
    const topic = `${unique('Küche')}/温度/🌡`;
    const filter = topic.replace('温度', '+');
    const clientId = unique('Ω客户');
    await using subscriber = await kind.subscribe({ port, version, clientId, filters: [filter] });
    await kind.publish({ port, version }, [{ topic, payload: '21 °C' }]);

    const message = await subscriber.next();
    expect([message.topic, message.payload.toString()]).toEqual([topic, '21 °C']);
  });
});

test('every client in every version hears every other one, once and in order', async () => {
  const { port } = shoal;
  const topic = unique('mesh');
  const clients = installedClients();
  await using subscribers = await Subscribers.of(
    clients.map(({ kind, version }) => kind.subscribe({ port, version, filters: [topic], qos: 2 })),
  );

  const sent: string[] = [];
  for (const { kind, version } of clients) {
    const payloads = [1, 2].map((number) => `${number} of ${kind.name} at ${version}`);
    sent.push(...payloads);
    await kind.publish(
      { port, version },
      payloads.map((payload) => ({ topic, payload, qos: 2 })),
    );
  }

  for (const subscriber of subscribers.all) {
    const received: string[] = [];
    while (received.length < sent.length)
      received.push((await subscriber.next()).payload.toString());
    expect(received).toEqual(sent);
  }
});

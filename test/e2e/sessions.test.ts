import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ShoalProcess } from '@shoalmq/testkit';
import { describeClients, unique } from './clients.ts';
import { paho } from './paho.ts';

let shoal: ShoalProcess;
beforeAll(async () => {
  shoal = await ShoalProcess.start();
});
afterAll(() => shoal.stop());

describeClients(({ kind, version }) => {
  test('a persistent session gets what was published while its client was away', async () => {
    const { port } = shoal;
    const topic = unique('offline');
    const clientId = unique('sleeper');
    const connect = () =>
      kind.subscribe({ port, version, clientId, filters: [topic], qos: 2, persistent: true });

    await using first = await connect();
    // At QoS 0: a client may disconnect before it has acknowledged what it shows us.
    await kind.publish({ port, version }, [{ topic, payload: 'awake' }]);
    expect((await first.next()).payload.toString()).toBe('awake');
    await first.end();
    await kind.publish({ port, version }, [
      { topic, payload: 'one', qos: 1 },
      { topic, payload: 'first', qos: 2 },
      { topic, payload: 'two', qos: 1 },
      { topic, payload: 'second', qos: 2 },
    ]);

    await using again = await connect();
    await kind.publish({ port, version }, [
      { topic, payload: 'three', qos: 1 },
      { topic, payload: 'third', qos: 2 },
    ]);
    const received: string[][] = [[], [], []];
    for (let count = 0; count < 6; count += 1) {
      const { payload, qos } = await again.next();
      received[qos]?.push(payload.toString());
    }
    // A client has a QoS 2 message when it is released, which is later.
    expect(received).toEqual([[], ['one', 'two', 'three'], ['first', 'second', 'third']]);
    await again.end();

    // Without a session there is nothing to come back to.
    await using clean = await kind.subscribe({ port, version, clientId, filters: ['nothing'] });
    await clean.end();
    await using fresh = await connect();
    await kind.publish({ port, version }, [{ topic, payload: 'new', qos: 1 }]);
    expect((await fresh.next()).payload.toString()).toBe('new');
  });

  test('a second connection with the same client identifier takes the session over', async () => {
    const { port } = shoal;
    const topic = unique('takeover');
    const clientId = unique('twin');
    const connect = () =>
      kind.subscribe({ port, version, clientId, filters: [topic], qos: 1, persistent: true });

    await using older = await connect();
    await using newer = await connect();
    // mosquitto_sub in 3.x comes back before it can be stopped; then the other one comes back, too.
    const reasonCode = await older.closed;
    // 3.x has no DISCONNECT from the server: the connection just ends. And paho 1.6 overlooks one without properties.
    expect(reasonCode).toBe(version === 5 && kind !== paho ? 0x8e : undefined);
    await older.kill();
    await kind.publish({ port, version }, [{ topic, payload: 'to the newer', qos: 1 }]);

    expect((await newer.next()).payload.toString()).toBe('to the newer');
  });

  if (version !== 5) return;

  test('a message that expires in the queue is not delivered, and another says what is left', async () => {
    const { port } = shoal;
    const topic = unique('expiry');
    const clientId = unique('late');
    const connect = () =>
      kind.subscribe({ port, version, clientId, filters: [topic], qos: 1, persistent: true });
    await using first = await connect();
    await first.end();
    const publish = (payload: string, messageExpiryInterval: number) =>
      kind.publish({ port, version }, [
        { topic, payload, qos: 1, properties: { messageExpiryInterval } },
      ]);
    await publish('milk', 1);
    await publish('honey', 1000);
    // The expiry of a message is no event that one could wait for.
    await delay(1_100);

    await using again = await connect();
    const message = await again.next();
    expect(message.payload.toString()).toBe('honey');
    expect(message.properties.messageExpiryInterval).toBeLessThan(1000);
    expect(message.properties.messageExpiryInterval).toBeGreaterThan(900);
  });
});

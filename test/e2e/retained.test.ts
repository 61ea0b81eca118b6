import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ShoalProcess } from '@shoalmq/testkit';
import { describeClients, unique } from './clients.ts';

let shoal: ShoalProcess;
beforeAll(async () => {
  shoal = await ShoalProcess.start();
});
afterAll(() => shoal.stop());

describeClients(({ kind, version }) => {
  test('a retained message waits for new subscribers until it is cleared', async () => {
    const { port } = shoal;
    const topic = unique('retained');
    const subscribe = () => kind.subscribe({ port, version, filters: [`${topic}/#`], qos: 1 });
    const publish = (payload: string, retain: boolean) =>
      kind.publish({ port, version }, [{ topic: `${topic}/a`, payload, qos: 1, retain }]);

    await using early = await subscribe();
    await publish('first', true);
    await publish('second', true);
    await publish('passing', false);
    for (const payload of ['first', 'second', 'passing']) {
      const message = await early.next();
      expect([message.payload.toString(), message.retain]).toEqual([payload, false]);
    }

    await using late = await subscribe();
    const kept = await late.next();
    expect([kept.payload.toString(), kept.retain]).toEqual(['second', true]);

    await publish('', true);
    expect((await early.next()).payload).toHaveLength(0);

    await using last = await subscribe();
    await publish('marker', false);
    expect((await last.next()).payload.toString()).toBe('marker');
  });
});

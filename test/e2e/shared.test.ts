import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ShoalProcess } from '@shoalmq/testkit';
import { describeClients, unique } from './clients.ts';
import { Subscribers } from './subscribers.ts';

let shoal: ShoalProcess;
beforeAll(async () => {
  shoal = await ShoalProcess.start();
});
afterAll(() => shoal.stop());

describeClients(({ kind, version }) => {
  test('three members of a shared subscription share the messages evenly', async () => {
    const { port } = shoal;
    const topic = unique('shared');
    const filters = [`$share/group/${topic}`];
    await using members = await Subscribers.of(
      [1, 2, 3].map(() => kind.subscribe({ port, version, filters, qos: 1 })),
    );

    const payloads = Array.from({ length: 12 }, (_, index) => String(index));
    await kind.publish(
      { port, version },
      payloads.map((payload) => ({ topic, payload, qos: 1 })),
    );

    const received: string[] = [];
    for (const member of members.all) {
      for (let count = 0; count < 4; count += 1) {
        received.push((await member.next()).payload.toString());
      }
    }
    expect(received.sort()).toEqual(payloads.sort());
  });
});

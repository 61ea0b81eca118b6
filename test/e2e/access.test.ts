import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ShoalProcess } from '@shoalmq/testkit';
import { describeClients, unique } from './clients.ts';

const users = [{ username: 'ada', password: 'engine' }];

let shoal: ShoalProcess;
beforeAll(async () => {
  const args = ['--set', `auth.users=${JSON.stringify(users)}`, '--set', 'sys.intervalSeconds=1'];
  shoal = await ShoalProcess.start({ args });
});
afterAll(() => shoal.stop());

describeClients(({ kind, version }) => {
  const ada = { username: 'ada', password: 'engine' };

  test('users with their password are let in, and nobody else', async () => {
    const { port } = shoal;
    const topic = unique('secret');
    const message = { topic, payload: 'hello', qos: 1 } as const;
    await using subscriber = await kind.subscribe({ port, version, filters: [topic], ...ada });

    await expect(kind.publish({ port, version }, [message])).rejects.toThrow();
    const wrong = { port, version, username: 'ada', password: 'wrong' };
    await expect(kind.publish(wrong, [message])).rejects.toThrow();
    await expect(kind.subscribe({ ...wrong, filters: [topic] })).rejects.toThrow();
    await kind.publish({ port, version, ...ada }, [{ ...message, payload: 'it is me' }]);
    expect((await subscriber.next()).payload.toString()).toBe('it is me');
  });

  test('the $SYS topics can be read, and are not part of #', async () => {
    const { port } = shoal;
    const filters = ['$SYS/broker/version', '$SYS/broker/clients/#'];
    await using reader = await kind.subscribe({ port, version, filters, ...ada });
    const first = await reader.next();
    expect([first.topic, first.retain]).toEqual(['$SYS/broker/version', true]);
    expect(first.payload.toString()).toMatch(/\d+\.\d+\.\d+/);
    expect((await reader.next()).topic).toMatch(/^\$SYS\/broker\/clients\//);

    await using everything = await kind.subscribe({ port, version, filters: ['#'], ...ada });
    await kind.publish({ port, version, ...ada }, [{ topic: unique('plain'), payload: '' }]);
    expect((await everything.next()).topic).toMatch(/^plain/);
  });
});

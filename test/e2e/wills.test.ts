import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ShoalProcess } from '@shoalmq/testkit';
import { describeClients, unique } from './clients.ts';
import { mosquittoClients } from './mosquitto-clients.ts';

let shoal: ShoalProcess;
beforeAll(async () => {
  shoal = await ShoalProcess.start();
});
afterAll(() => shoal.stop());

describeClients(({ kind, version }) => {
  test('a client that dies leaves its will, and one that disconnects only if it says so', async () => {
    const { port } = shoal;
    const topic = unique('will');
    const mortal = (payload: string) =>
      kind.subscribe({
        port,
        version,
        filters: ['nothing'],
        will: { topic, payload, qos: 1, retain: true },
      });
    await using witness = await kind.subscribe({ port, version, filters: [topic], qos: 1 });

    await using polite = await mortal('not said');
    await polite.end();
    if (kind === mosquittoClients && version === 5) {
      // It asks for its will when it is interrupted: Disconnect with Will Message.
      expect((await witness.next()).payload.toString()).toBe('not said');
    }
    await using victim = await mortal('last words');
    await victim.kill();

    const will = await witness.next();
    expect([will.payload.toString(), will.qos]).toEqual(['last words', 1]);
    await using late = await kind.subscribe({ port, version, filters: [topic] });
    const kept = await late.next();
    expect([kept.payload.toString(), kept.retain]).toEqual(['last words', true]);
  });

  if (version !== 5) return;

  test('a will with a delay waits, and is cancelled by a client that comes back', async () => {
    const { port } = shoal;
    const topic = unique('delay');
    const mortal = (clientId: string, payload: string) =>
      kind.subscribe({
        port,
        version,
        clientId,
        persistent: true,
        filters: ['nothing'],
        will: { topic, payload, qos: 1, delaySeconds: 1 },
      });
    await using witness = await kind.subscribe({ port, version, filters: [topic], qos: 1 });
    const returning = unique('returning');

    await using first = await mortal(returning, 'was cancelled');
    await first.kill();
    await using again = await mortal(returning, 'has another one');
    await using victim = await mortal(unique('victim'), 'a second later');
    await victim.kill();
    await kind.publish({ port, version }, [{ topic, payload: 'before', qos: 1 }]);

    expect((await witness.next()).payload.toString()).toBe('before');
    expect((await witness.next()).payload.toString()).toBe('a second later');
    await again.end();
  });
});

const missing = mosquittoClients.missing();
const testMosquitto = missing === undefined ? test : test.skip;

testMosquitto(`a client that no longer answers is given up, and its will published`, async () => {
  // mosquitto_sub asks for 5 s at least; the broker may shorten that in 5.0.
  await using impatient = await ShoalProcess.start({ args: ['--set', 'limits.keepAliveMax=1'] });
  const { port } = impatient;
  const topic = unique('silent');
  const options = { port, version: 5 } as const;
  await using witness = await mosquittoClients.subscribe({ ...options, filters: [topic] });
  await using silent = await mosquittoClients.subscribe({
    ...options,
    filters: ['nothing'],
    will: { topic, payload: 'fell silent' },
  });

  process.kill(silent.pid as number, 'SIGSTOP');
  expect((await witness.next()).payload.toString()).toBe('fell silent');
});

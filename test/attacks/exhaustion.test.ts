import { expect, test } from '@jest/globals';
import { attack } from './attack.ts';

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

import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';

test.each([3, 4, 5] as const)(
  '[MQTT-3.12.4-1][MQTT3-3.12.4-1] the server answers PINGREQ with PINGRESP (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version, clientId: 'ping' });
    client.send('c0 00');
    const packet = await client.expectPacket('pingresp');
    expect(packet.cmd).toBe('pingresp');
  },
);

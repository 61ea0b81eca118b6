import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;

test.each(versions)(
  '[MQTT-3.12.4-1][MQTT3-3.12.4-1] the server answers PINGREQ with PINGRESP (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client({ version, clientId: 'ping' });
    client.send('c0 00');
    const { raw } = await client.expectPacket('pingresp');
    expect(raw.toString('hex')).toBe('d000');
    await client.expectNothing();
  },
);

test.each(versions)('every PINGREQ is answered, in its turn (version %s)', async (version) => {
  await using broker = await TestBroker.start();
  await using client = await broker.client({ version });
  await client.subscribe('t');
  // PINGREQ, PUBLISH to t, PINGREQ, PINGREQ in one write.
  client.send(version === 5 ? 'c000 30 04 0001 74 00 c000 c000' : 'c000 30 03 0001 74 c000 c000');
  await client.expectPacket('pingresp');
  await client.expectPublish({ topic: 't' });
  await client.expectPacket('pingresp');
  await client.expectPacket('pingresp');
  await client.expectNothing();
});

test.each(
  versions.flatMap((version) =>
    ['c0 01 00', 'c1 00', 'd0 00'].map((bytes) => [version, bytes] as const),
  ),
)('version %s: %s is not a PINGREQ and ends the connection', async (version, bytes) => {
  await using broker = await TestBroker.start();
  await using client = await broker.client({ version });
  client.send(bytes);
  await client.expectDisconnect(bytes === 'd0 00' ? 0x82 : 0x81);
});

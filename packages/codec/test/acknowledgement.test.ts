import { expect, test } from '@jest/globals';
import { AckType } from '@shoalmq/core';
import { bytes, decodeAfterConnect, packet, prefixed, properties, refusal } from './wire.ts';

const FIRST_BYTES = [
  [AckType.Puback, 0x40],
  [AckType.Pubrec, 0x50],
  [AckType.Pubrel, 0x62],
  [AckType.Pubcomp, 0x70],
] as const;

test.each(FIRST_BYTES)('type %d without reason code', (type, first) => {
  for (const version of [3, 4, 5] as const) {
    expect(decodeAfterConnect(version, packet(first, 0xab, 0xcd))).toEqual([
      { kind: 'ack', type, packetId: 0xabcd, reasonCode: 0 },
    ]);
  }
});

const RECEIVED = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const RELEASED = [0x00, 0x92];

test('[MQTT-3.4.2-1] [MQTT-3.5.2-1] PUBACK and PUBREC have their reason codes and no others', () => {
  expectReasonCodes(0x40, RECEIVED, 'MQTT-3.4.2-1');
  expectReasonCodes(0x50, RECEIVED, 'MQTT-3.5.2-1');
});

test('[MQTT-3.6.2-1] [MQTT-3.7.2-1] PUBREL and PUBCOMP have their reason codes and no others', () => {
  expectReasonCodes(0x62, RELEASED, 'MQTT-3.6.2-1');
  expectReasonCodes(0x70, RELEASED, 'MQTT-3.7.2-1');
});

function expectReasonCodes(first: number, codes: readonly number[], clause: string): void {
  for (let code = 0; code < 256; code++) {
    const expected = codes.includes(code)
      ? [{ kind: 'ack', type: first >> 4, packetId: 1, reasonCode: code }]
      : refusal(0x82, clause);
    expect(decodeAfterConnect(5, packet(first, 0, 1, code))).toEqual(expected);
    expect(decodeAfterConnect(5, packet(first, 0, 1, code, properties()))).toEqual(expected);
  }
}

test.each(FIRST_BYTES)('type %d with properties, which are checked', (type, first) => {
  const ack = (...props: Parameters<typeof properties>) =>
    decodeAfterConnect(5, packet(first, 0, 1, 0, properties(...props)));
  const user = bytes(0x26, prefixed('k'), prefixed('v'));
  expect(ack(user, 0x1f, prefixed('because'), user)).toEqual([
    { kind: 'ack', type, packetId: 1, reasonCode: 0 },
  ]);
  expect(ack(0x1f, prefixed('a'), 0x1f, prefixed('b'))).toEqual(refusal(0x82, '§2.2.2.2'));
  expect(ack(0x01, 1)).toEqual(refusal(0x82, '§2.2.2.2'));
  expect(ack(0x7f)).toEqual(refusal(0x81, '§2.2.2.2'));
  expect(ack(0x1f, prefixed(0xff))).toEqual(refusal(0x81, 'MQTT-1.5.4-1'));
});

test.each(FIRST_BYTES)('type %d that is malformed', (_, first) => {
  const missing = refusal(0x81, 'MQTT-2.2.1-5');
  const short = refusal(0x81, 'MQTT-4.13.1-1');
  for (const version of [3, 4, 5] as const) {
    expect(decodeAfterConnect(version, packet(first))).toEqual(missing);
    expect(decodeAfterConnect(version, packet(first, 1))).toEqual(missing);
    expect(decodeAfterConnect(version, packet(first, 0, 0))).toEqual(refusal(0x82, 'MQTT-2.2.1-5'));
  }
  expect(decodeAfterConnect(4, packet(first, 0, 1, 0))).toEqual(refusal(0x81, 'MQTT3-4.8.0-1'));
  expect(decodeAfterConnect(5, packet(first, 0, 1, 0, 1), packet(0xc0))).toEqual(short);
  expect(decodeAfterConnect(5, packet(first, 0, 1, 0, 0, 0))).toEqual(short);
});

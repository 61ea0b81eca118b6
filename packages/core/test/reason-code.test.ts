import { expect, test } from '@jest/globals';
import { ReasonCode, connackReasonCode, disconnectReasonCode } from '../src/reason-code.ts';

// The tables of MQTT 5.0 §3.2.2.2 and §3.14.2.1, as far as they are for servers.
const CONNACK = [
  ...[0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95],
  ...[0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f],
];
const DISCONNECT = [
  ...[0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96],
  ...[0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2],
];
const failures = Array.from({ length: 0x80 }, (_, i) => 0x80 + i);

test('[MQTT-3.2.2-8] CONNACK has its own reason codes only', () => {
  for (const code of [0, ...failures]) {
    expect(connackReasonCode(code)).toBe(CONNACK.includes(code) ? code : 0x80);
  }
});

test('[MQTT-3.14.2-1] DISCONNECT has its own reason codes only', () => {
  for (const code of failures) {
    const sent = disconnectReasonCode(code);
    expect(DISCONNECT).toContain(sent);
    if (DISCONNECT.includes(code)) expect(sent).toBe(code);
  }
  expect(disconnectReasonCode(ReasonCode.BadAuthenticationMethod)).toBe(0x87);
  expect(disconnectReasonCode(ReasonCode.ServerUnavailable)).toBe(0x89);
  expect(disconnectReasonCode(ReasonCode.Success)).toBe(0x80);
});

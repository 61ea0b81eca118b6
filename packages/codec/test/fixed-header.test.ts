import { expect, test } from '@jest/globals';
import { ProtocolError } from '@shoalmq/core';
import {
  Recorder,
  bytes,
  connect,
  decode,
  decodeAfterConnect,
  newDecoder,
  packet,
  prefixed,
  refusal,
} from './wire.ts';

const ping = bytes(0xc0, 0);

test('PINGREQ', () => {
  expect(decodeAfterConnect(4, ping, ping)).toEqual([{ kind: 'pingreq' }, { kind: 'pingreq' }]);
});

test('a PINGREQ with a body is malformed', () => {
  expect(decodeAfterConnect(5, bytes(0xc0, 1, 0))).toEqual(refusal(0x81, '§3.12.1'));
});

test.each([
  ['five bytes', bytes(0x30, 0xff, 0xff, 0xff, 0xff, 0x01)],
  ['five bytes, the fifth not there', bytes(0x30, 0x80, 0x80, 0x80, 0x80)],
  ['two bytes for 0', bytes(0xc0, 0x80, 0x00)],
  ['three bytes for 127', bytes(0x30, 0xff, 0x80, 0x00)],
  ['four bytes for 2', bytes(0x40, 0x82, 0x80, 0x80, 0x00, 0, 1)],
])('[MQTT-1.5.5-1] a remaining length of %s is malformed', (_, input) => {
  expect(decodeAfterConnect(5, input)).toEqual(refusal(0x81, 'MQTT-1.5.5-1'));
});

test('[MQTT-3.1.0-1] [MQTT3-3.1.0-1] the first packet is CONNECT', () => {
  for (const first of [0x30, 0x40, 0x62, 0x82, 0xc0, 0xe0, 0xf0, 0x20]) {
    expect(decode(packet(first, 0, 1))).toEqual(refusal(0x82, 'MQTT-3.1.0-1'));
  }
});

test('[MQTT-3.1.0-2] [MQTT3-3.1.0-2] a second CONNECT is refused', () => {
  for (const version of [3, 4, 5] as const) {
    expect(decodeAfterConnect(version, connect(version))).toEqual(refusal(0x82, 'MQTT-3.1.0-2'));
  }
});

test('packet types that only a server sends are refused', () => {
  for (const first of [0x20, 0x90, 0xb0, 0xd0]) {
    expect(decodeAfterConnect(5, packet(first))).toEqual(refusal(0x82, '§2.1.2'));
  }
});

test('packet type 0, and AUTH in 3.x, are malformed', () => {
  expect(decode(packet(0))).toEqual(refusal(0x81, '§2.1.2'));
  expect(decodeAfterConnect(5, packet(0))).toEqual(refusal(0x81, '§2.1.2'));
  expect(decodeAfterConnect(4, packet(0xf0))).toEqual(refusal(0x81, '§2.1.2'));
});

test('[MQTT-2.1.3-1] [MQTT3-2.2.2-1] [MQTT3-2.2.2-2] reserved flags have the values of the standard', () => {
  const right = [0x40, 0x50, 0x62, 0x70, 0x82, 0xa2, 0xc0, 0xe0];
  for (const version of [4, 5] as const) {
    for (const good of version === 5 ? [...right, 0xf0] : right) {
      for (let flags = 0; flags < 16; flags++) {
        const first = (good & 0xf0) | flags;
        if (first === good) continue;
        expect(decodeAfterConnect(version, packet(first, 0, 1))).toEqual(
          refusal(0x81, 'MQTT-2.1.3-1'),
        );
      }
    }
  }
  expect(decode(packet(0x11))).toEqual(refusal(0x81, 'MQTT-2.1.3-1'));
});

test('[MQTT-3.6.1-1] [MQTT3-3.6.1-1] PUBREL with other flags than 0010 is malformed', () => {
  expect(decodeAfterConnect(5, packet(0x60, 0, 1))).toEqual(refusal(0x81, 'MQTT-2.1.3-1'));
});

test('[MQTT-3.8.1-1] [MQTT3-3.8.1-1] SUBSCRIBE with other flags than 0010 is malformed', () => {
  const body = [0, 1, prefixed('a'), 0];
  expect(decodeAfterConnect(4, packet(0x80, ...body))).toEqual(refusal(0x81, 'MQTT-2.1.3-1'));
});

test('[MQTT-3.10.1-1] [MQTT3-3.10.1-1] UNSUBSCRIBE with other flags than 0010 is malformed', () => {
  const body = [0, 1, prefixed('a')];
  expect(decodeAfterConnect(4, packet(0xa0, ...body))).toEqual(refusal(0x81, 'MQTT-2.1.3-1'));
});

test('[MQTT-3.14.1-1] [MQTT3-3.14.1-1] DISCONNECT with flags is malformed and no DISCONNECT', () => {
  expect(decodeAfterConnect(4, packet(0xe1))).toEqual(refusal(0x81, 'MQTT-2.1.3-1'));
  expect(decodeAfterConnect(5, packet(0xe1))).toEqual(refusal(0x81, 'MQTT-2.1.3-1'));
});

test('[MQTT-3.15.1-1] AUTH with flags is malformed', () => {
  expect(decodeAfterConnect(5, packet(0xf8))).toEqual(refusal(0x81, 'MQTT-2.1.3-1'));
});

test('3.1 clients may set DUP in SUBSCRIBE, UNSUBSCRIBE and PUBREL', () => {
  expect(
    decodeAfterConnect(
      3,
      packet(0x8a, 0, 1, prefixed('a'), 1),
      packet(0xaa, 0, 1, prefixed('a')),
      packet(0x6a, 0, 1),
    ).map((event) => event.kind),
  ).toEqual(['subscribe', 'unsubscribe', 'ack']);
});

test('[MQTT-3.2.2-15] a packet above the limit is refused from its fixed header', () => {
  const recorder = new Recorder();
  const decoder = newDecoder(recorder, { packetBytesMax: 100 });
  const input = bytes(connect(5), packet(0x30, prefixed('a'), 0, 'x'.repeat(94)));
  expect(input.length).toBe(connect(5).length + 100);
  decoder.push(input, 0, input.length);
  expect(recorder.events.map((event) => event.kind)).toEqual(['connect', 'publish']);
  decoder.push(bytes(0x30, 99), 0, 2);
  expect(recorder.events.slice(2)).toEqual(refusal(0x95, 'MQTT-3.2.2-15'));
  expect(decoder.heldBytes).toBe(0);
});

test('before CONNECT the limit is that of CONNECT', () => {
  const recorder = new Recorder();
  const decoder = newDecoder(recorder, { connectBytesMax: 1000 });
  decoder.push(bytes(0x10, 0xff, 0xff, 0xff, 0x7f), 0, 5);
  expect(recorder.events).toEqual(refusal(0x95, 'MQTT-3.2.2-15'));
  expect(decoder.heldBytes).toBe(0);
});

test('an error is reported once, after the batch before it, and then nothing', () => {
  const calls: string[] = [];
  const recorder = new Recorder();
  recorder.onBatchEnd = (packets) => void calls.push(`batch of ${packets}`);
  recorder.onDecodeError = (error) => {
    expect(error).toBeInstanceOf(ProtocolError);
    calls.push('error');
  };
  const decoder = newDecoder(recorder);
  const input = bytes(connect(5), ping, 0, 0, ping);
  decoder.push(input, 0, input.length);
  decoder.push(ping, 0, ping.length);
  decoder.resume();
  expect(calls).toEqual(['batch of 2', 'error']);
  expect(recorder.events.map((event) => event.kind)).toEqual(['connect', 'pingreq']);
});

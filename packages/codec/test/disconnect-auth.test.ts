import { expect, test } from '@jest/globals';
import {
  Recorder,
  bytes,
  connect,
  decodeAfterConnect,
  newDecoder,
  packet,
  prefixed,
  properties,
  refusal,
} from './wire.ts';
import type { Piece } from './wire.ts';

test('DISCONNECT in its short forms', () => {
  const normal = [{ kind: 'disconnect', reasonCode: 0 }];
  for (const version of [3, 4, 5] as const) {
    expect(decodeAfterConnect(version, packet(0xe0))).toEqual(normal);
  }
  expect(decodeAfterConnect(5, packet(0xe0, 0))).toEqual(normal);
  expect(decodeAfterConnect(5, packet(0xe0, 4))).toEqual([{ kind: 'disconnect', reasonCode: 4 }]);
});

test('DISCONNECT with properties', () => {
  const props = properties(
    bytes(0x11, 0, 0, 0, 5),
    bytes(0x1f, prefixed('bye')),
    bytes(0x26, prefixed('k'), prefixed('v')),
  );
  expect(decodeAfterConnect(5, packet(0xe0, 4, props))).toEqual([
    {
      kind: 'disconnect',
      reasonCode: 4,
      sessionExpiryInterval: 5,
      reasonString: 'bye',
      userProperties: [['k', 'v']],
    },
  ]);
});

test('[MQTT-3.14.2-1] DISCONNECT has the reason codes of clients and no others', () => {
  const codes = [0, 4, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
  for (let code = 0; code < 256; code++) {
    expect(decodeAfterConnect(5, packet(0xe0, code))).toEqual(
      codes.includes(code)
        ? [{ kind: 'disconnect', reasonCode: code }]
        : refusal(0x82, 'MQTT-3.14.2-1'),
    );
  }
});

test('a malformed DISCONNECT', () => {
  expect(decodeAfterConnect(4, packet(0xe0, 0))).toEqual(refusal(0x81, 'MQTT3-3.14.1-1'));
  expect(decodeAfterConnect(5, packet(0xe0, 0, 0, 0))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
  expect(decodeAfterConnect(5, packet(0xe0, 0, 1))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
  // Server Reference is the server's.
  expect(decodeAfterConnect(5, packet(0xe0, 0, properties(0x1c, prefixed('x'))))).toEqual(
    refusal(0x82, '§2.2.2.2'),
  );
});

test('nothing is decoded behind DISCONNECT', () => {
  const recorder = new Recorder();
  const decoder = newDecoder(recorder);
  const input = bytes(connect(4), packet(0xe0), packet(0xc0), 0);
  decoder.push(input, 0, input.length);
  decoder.push(packet(0xc0), 0, 2);
  expect(recorder.events.map((event) => event.kind)).toEqual(['connect', 'disconnect']);
  expect(recorder.batches).toEqual([[2, 0]]);
});

function auth(code: number, ...props: Piece[]): Uint8Array {
  return packet(0xf0, code, properties(...props));
}

test('AUTH', () => {
  const method = bytes(0x15, prefixed('SCRAM'));
  expect(
    decodeAfterConnect(
      5,
      auth(0x18, method, 0x16, prefixed(1, 2)),
      auth(0x19, 0x26, prefixed('k'), prefixed('v'), method, 0x1f, prefixed('why')),
    ),
  ).toEqual([
    {
      kind: 'auth',
      reasonCode: 0x18,
      authenticationMethod: 'SCRAM',
      authenticationData: bytes(1, 2),
    },
    {
      kind: 'auth',
      reasonCode: 0x19,
      authenticationMethod: 'SCRAM',
      reasonString: 'why',
      userProperties: [['k', 'v']],
    },
  ]);
});

test('[MQTT-3.15.2-1] AUTH has the reason codes of clients and no others', () => {
  const method = bytes(0x15, prefixed('m'));
  for (let code = 0; code < 256; code++) {
    if (code === 0x18 || code === 0x19) continue;
    expect(decodeAfterConnect(5, auth(code, method))).toEqual(refusal(0x82, 'MQTT-3.15.2-1'));
  }
  expect(decodeAfterConnect(5, packet(0xf0))).toEqual(refusal(0x82, 'MQTT-3.15.2-1'));
});

test('AUTH without method, and malformed', () => {
  expect(decodeAfterConnect(5, auth(0x18))).toEqual(refusal(0x82, '§3.15.2.2.2'));
  expect(decodeAfterConnect(5, packet(0xf0, 0x18))).toEqual(refusal(0x82, '§3.15.2.2.2'));
  expect(decodeAfterConnect(5, auth(0x18, 0x16, prefixed(1)))).toEqual(
    refusal(0x82, '§3.15.2.2.2'),
  );
  expect(decodeAfterConnect(5, packet(0xf0, 0x18, properties(0x15, prefixed('m')), 0))).toEqual(
    refusal(0x81, 'MQTT-4.13.1-1'),
  );
});

import { expect, test } from '@jest/globals';
import { bytes, decodeAfterConnect, packet, prefixed, properties, refusal } from './wire.ts';
import type { Piece } from './wire.ts';

const none = properties();

function subscribe5(props: Piece, ...payload: Piece[]): Uint8Array {
  return packet(0x82, 0, 7, props, ...payload);
}

test('SUBSCRIBE in 3.x', () => {
  for (const version of [3, 4] as const) {
    const wire = packet(0x82, 0x12, 0x34, prefixed('a/+'), 0, prefixed('#'), 1, prefixed('a'), 2);
    const rest = { noLocal: false, retainAsPublished: false, retainHandling: 0 };
    expect(decodeAfterConnect(version, wire)).toEqual([
      {
        kind: 'subscribe',
        packetId: 0x1234,
        requests: [
          { filter: 'a/+', qos: 0, ...rest },
          { filter: '#', qos: 1, ...rest },
          { filter: 'a', qos: 2, ...rest },
        ],
        subscriptionIdentifier: 0,
      },
    ]);
  }
});

test('SUBSCRIBE in 5.0 with options and properties', () => {
  const user = bytes(0x26, prefixed('k'), prefixed('1'));
  const props = properties(user, 0x0b, 0xff, 0xff, 0xff, 0x7f, user);
  expect(
    decodeAfterConnect(
      5,
      subscribe5(props, prefixed('a'), 0b10_1110, prefixed('$share/g/a'), 0b01_1001),
    ),
  ).toEqual([
    {
      kind: 'subscribe',
      packetId: 7,
      requests: [
        { filter: 'a', qos: 2, noLocal: true, retainAsPublished: true, retainHandling: 2 },
        {
          filter: '$share/g/a',
          qos: 1,
          noLocal: false,
          retainAsPublished: true,
          retainHandling: 1,
        },
      ],
      subscriptionIdentifier: 268_435_455,
      userProperties: [
        ['k', '1'],
        ['k', '1'],
      ],
    },
  ]);
});

test('[MQTT-3.8.3-2] [MQTT3-3.8.3-3] SUBSCRIBE without topic filter', () => {
  expect(decodeAfterConnect(4, packet(0x82, 0, 1))).toEqual(refusal(0x82, 'MQTT-3.8.3-2'));
  expect(decodeAfterConnect(5, subscribe5(none))).toEqual(refusal(0x82, 'MQTT-3.8.3-2'));
});

test('[MQTT-3.8.3-5] [MQTT3-3.8.3-4] reserved bits in the options', () => {
  for (let options = 3; options < 256; options++) {
    expect(decodeAfterConnect(4, packet(0x82, 0, 1, prefixed('a'), options))).toEqual(
      refusal(0x81, 'MQTT3-3.8.3-4'),
    );
  }
  for (const options of [0x40, 0x80, 0xc1]) {
    expect(decodeAfterConnect(5, subscribe5(none, prefixed('a'), options))).toEqual(
      refusal(0x81, 'MQTT-3.8.3-5'),
    );
  }
});

test('QoS 3 and Retain Handling 3', () => {
  for (const options of [3, 0x30]) {
    expect(decodeAfterConnect(5, subscribe5(none, prefixed('a'), options))).toEqual(
      refusal(0x82, '§3.8.3.1'),
    );
  }
});

test('[MQTT-3.8.3-4] No Local on a shared subscription', () => {
  expect(decodeAfterConnect(5, subscribe5(none, prefixed('$share/g/a'), 4))).toEqual(
    refusal(0x82, 'MQTT-3.8.3-4'),
  );
  expect(decodeAfterConnect(5, subscribe5(none, prefixed('$shared/g/a'), 4))).toHaveLength(1);
});

test.each([
  ['Subscription Identifier 0', bytes(0x0b, 0), 0x82, '§3.8.2.1.2'],
  ['two Subscription Identifiers', bytes(0x0b, 1, 0x0b, 2), 0x82, '§2.2.2.2'],
  ['a padded Subscription Identifier', bytes(0x0b, 0x81, 0), 0x81, 'MQTT-1.5.5-1'],
  [
    'a Subscription Identifier of five bytes',
    bytes(0x0b, 255, 255, 255, 255, 1),
    0x81,
    'MQTT-1.5.5-1',
  ],
  ['a Reason String', bytes(0x1f, prefixed('x')), 0x82, '§2.2.2.2'],
] as const)('SUBSCRIBE with %s', (_, property, code, clause) => {
  expect(decodeAfterConnect(5, subscribe5(properties(property), prefixed('a'), 0))).toEqual(
    refusal(code, clause),
  );
});

test('[MQTT-3.8.3-1] [MQTT3-3.8.3-1] [MQTT-3.10.3-1] [MQTT3-3.10.3-1] filters are UTF-8', () => {
  const bad = prefixed('a/', 0xed, 0xa0, 0x80);
  const refused = refusal(0x81, 'MQTT-1.5.4-1');
  expect(decodeAfterConnect(4, packet(0x82, 0, 1, bad, 0))).toEqual(refused);
  expect(decodeAfterConnect(5, subscribe5(none, bad, 0))).toEqual(refused);
  expect(decodeAfterConnect(4, packet(0xa2, 0, 1, bad))).toEqual(refused);
  expect(decodeAfterConnect(5, packet(0xa2, 0, 1, none, bad))).toEqual(refused);
});

test('control characters and non-characters are refused in filters', () => {
  for (const bad of ['a\u001b/#', '\ufffe']) {
    expect(decodeAfterConnect(4, packet(0x82, 0, 1, prefixed(bad), 0))).toEqual(
      refusal(0x81, '§1.5.4'),
    );
    expect(decodeAfterConnect(4, packet(0xa2, 0, 1, prefixed(bad)))).toEqual(
      refusal(0x81, '§1.5.4'),
    );
  }
});

test('UNSUBSCRIBE', () => {
  expect(decodeAfterConnect(4, packet(0xa2, 0, 9, prefixed('a'), prefixed('b/#')))).toEqual([
    { kind: 'unsubscribe', packetId: 9, filters: ['a', 'b/#'] },
  ]);
  const props = properties(0x26, prefixed('k'), prefixed('v'));
  expect(decodeAfterConnect(5, packet(0xa2, 0, 9, props, prefixed('a')))).toEqual([
    { kind: 'unsubscribe', packetId: 9, filters: ['a'], userProperties: [['k', 'v']] },
  ]);
  expect(decodeAfterConnect(5, packet(0xa2, 0, 9, properties(0x0b, 1), prefixed('a')))).toEqual(
    refusal(0x82, '§2.2.2.2'),
  );
});

test('[MQTT-3.10.3-2] [MQTT3-3.10.3-2] UNSUBSCRIBE without topic filter', () => {
  expect(decodeAfterConnect(4, packet(0xa2, 0, 1))).toEqual(refusal(0x82, 'MQTT-3.10.3-2'));
  expect(decodeAfterConnect(5, packet(0xa2, 0, 1, none))).toEqual(refusal(0x82, 'MQTT-3.10.3-2'));
});

test.each([
  ['no packet identifier', packet(0x82)],
  ['half a packet identifier', packet(0xa2, 0)],
  ['a filter without options', packet(0x82, 0, 1, prefixed('a'))],
  ['a filter cut short', packet(0x82, 0, 1, 0, 2, 'a')],
  ['a filter of UNSUBSCRIBE cut short', packet(0xa2, 0, 1, 0, 2, 'a')],
  ['a byte left over', packet(0xa2, 0, 1, prefixed('a'), 0)],
])('%s is malformed', (_, input) => {
  expect(decodeAfterConnect(4, input, packet(0xc0))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
});

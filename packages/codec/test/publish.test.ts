import { expect, test } from '@jest/globals';
import { TopicTable } from '@shoalmq/core';
import type { Message } from '@shoalmq/core';
import {
  Recorder,
  bytes,
  connect,
  decodeAfterConnect,
  hex,
  newDecoder,
  packet,
  prefixed,
  properties,
  refusal,
} from './wire.ts';
import type { Piece } from './wire.ts';

const none = properties();
const topic = prefixed('a/b');

/** QoS 0 in 5.0 with these properties. */
function publish5(...props: Piece[]): Uint8Array {
  return packet(0x30, topic, properties(...props), 'payload');
}

test.each([0, 1, 2])('QoS %d, both RETAIN, both DUP', (qos) => {
  for (const version of [3, 4, 5] as const) {
    for (const retain of [false, true]) {
      for (const dup of qos === 0 ? [false] : [false, true]) {
        const first = 0x30 | (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0);
        const packetId = qos === 0 ? '' : bytes(0x12, 0x34);
        const wire = packet(first, topic, packetId, version === 5 ? none : '', 1, 2, 3);
        expect(decodeAfterConnect(version, wire)).toEqual([
          {
            kind: 'publish',
            topic: 'a/b',
            payload: '010203',
            qos,
            retain,
            dup,
            packetId: qos === 0 ? 0 : 0x1234,
            properties: '',
            expiryInterval: -1,
          },
        ]);
      }
    }
  }
});

test('an empty payload, and payloads around the sizes of the remaining length', () => {
  for (const size of [0, 1, 121, 122, 123, 16_377, 16_378, 16_379, 100_000]) {
    const wire = packet(0x30, topic, new Uint8Array(size).fill(7));
    expect(decodeAfterConnect(4, wire)).toMatchObject([{ payload: '07'.repeat(size) }]);
  }
});

test('[MQTT-3.3.1-4] [MQTT3-3.3.1-4] QoS 3 is malformed', () => {
  for (const first of [0x36, 0x37, 0x3e, 0x3f]) {
    expect(decodeAfterConnect(4, packet(first, topic, 0, 1))).toEqual(
      refusal(0x81, 'MQTT-3.3.1-4'),
    );
  }
});

test('[MQTT-3.3.1-2] [MQTT3-3.3.1-2] DUP with QoS 0 is refused', () => {
  for (const first of [0x38, 0x39]) {
    expect(decodeAfterConnect(5, packet(first, topic, none))).toEqual(
      refusal(0x82, 'MQTT-3.3.1-2'),
    );
  }
});

test('[MQTT-2.2.1-2] [MQTT3-2.3.1-5] at QoS 0 no packet identifier is read', () => {
  expect(decodeAfterConnect(4, packet(0x30, topic, 0, 7))).toMatchObject([
    { packetId: 0, payload: '0007' },
  ]);
});

test('[MQTT-2.2.1-3] [MQTT3-2.3.1-1] packet identifier 0 is refused', () => {
  expect(decodeAfterConnect(4, packet(0x32, topic, 0, 0))).toEqual(refusal(0x82, 'MQTT-2.2.1-3'));
  expect(decodeAfterConnect(5, packet(0x34, topic, 0, 0, none))).toEqual(
    refusal(0x82, 'MQTT-2.2.1-3'),
  );
  expect(decodeAfterConnect(5, packet(0x82, 0, 0, none, topic, 0))).toEqual(
    refusal(0x82, 'MQTT-2.2.1-3'),
  );
  expect(decodeAfterConnect(4, packet(0xa2, 0, 0, topic))).toEqual(refusal(0x82, 'MQTT-2.2.1-3'));
});

test.each([
  ['C3 28', bytes(0xc3, 0x28), 'MQTT-1.5.4-1'],
  ['an overlong form', bytes(0xc0, 0xaf), 'MQTT-1.5.4-1'],
  ['an overlong form of three bytes', bytes(0xe0, 0x80, 0xaf), 'MQTT-1.5.4-1'],
  ['an overlong form of four bytes', bytes(0xf0, 0x80, 0x80, 0xaf), 'MQTT-1.5.4-1'],
  ['the last overlong form of three bytes', bytes(0xe0, 0x9f, 0xbf), 'MQTT-1.5.4-1'],
  ['the last overlong form of four bytes', bytes(0xf0, 0x8f, 0xbf, 0xbf), 'MQTT-1.5.4-1'],
  ['the last overlong form of two bytes', bytes(0xc1, 0xbf), 'MQTT-1.5.4-1'],
  ['a surrogate', bytes(0xed, 0xa0, 0x80), 'MQTT-1.5.4-1'],
  ['a surrogate pair', bytes(0xed, 0xa0, 0x80, 0xed, 0xb0, 0x80), 'MQTT-1.5.4-1'],
  ['F5', bytes(0xf5, 0x80, 0x80, 0x80), 'MQTT-1.5.4-1'],
  ['a code point above U+10FFFF', bytes(0xf4, 0x90, 0x80, 0x80), 'MQTT-1.5.4-1'],
  ['a lone continuation', bytes(0x80), 'MQTT-1.5.4-1'],
  ['a sequence cut short', bytes('a', 0xe2, 0x82), 'MQTT-1.5.4-1'],
])(
  '[MQTT-1.5.4-1] [MQTT3-1.5.3-1] [MQTT-3.3.2-1] [MQTT3-3.3.2-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19] %s in topic name and properties',
  (_, bad, clause) => {
    const refused = refusal(0x81, clause);
    expect(decodeAfterConnect(4, packet(0x30, prefixed(bad), 'x'))).toEqual(refused);
    expect(decodeAfterConnect(5, packet(0x30, prefixed(bad), none, 'x'))).toEqual(refused);
    expect(decodeAfterConnect(5, publish5(0x08, prefixed(bad)))).toEqual(refused);
    expect(decodeAfterConnect(5, publish5(0x03, prefixed(bad)))).toEqual(refused);
    expect(decodeAfterConnect(5, publish5(0x26, prefixed(bad), prefixed('v')))).toEqual(refused);
    expect(decodeAfterConnect(5, publish5(0x26, prefixed('k'), prefixed(bad)))).toEqual(refused);
  },
);

test('[MQTT-1.5.4-2] [MQTT3-1.5.3-2] [MQTT-4.7.3-2] [MQTT3-4.7.3-2] U+0000', () => {
  const bad = prefixed('a', 0);
  const refused = refusal(0x81, 'MQTT-1.5.4-2');
  expect(decodeAfterConnect(4, packet(0x30, bad, 'x'))).toEqual(refused);
  expect(decodeAfterConnect(4, packet(0x82, 0, 1, bad, 0))).toEqual(refused);
  expect(decodeAfterConnect(4, packet(0xa2, 0, 1, bad))).toEqual(refused);
  expect(decodeAfterConnect(5, publish5(0x08, bad))).toEqual(refused);
  expect(decodeAfterConnect(5, publish5(0x03, bad))).toEqual(refused);
});

test('[MQTT-1.5.4-3] [MQTT3-1.5.3-3] a byte order mark is kept', () => {
  const marked = prefixed(0xef, 0xbb, 0xbf, 'a');
  expect(decodeAfterConnect(4, packet(0x30, marked), packet(0x30, prefixed('a')))).toMatchObject([
    { topic: '\ufeffa' },
    { topic: 'a' },
  ]);
});

test('names are not normalized', () => {
  for (const name of ['\u00c5', 'A\u030a', '\u212b', 'ACCOUNTS', 'Accounts', '\u{10fffd}']) {
    expect(decodeAfterConnect(4, packet(0x30, prefixed(name)))).toMatchObject([{ topic: name }]);
  }
});

test('control characters and non-characters are refused in topic names', () => {
  for (const bad of [
    '\u0001',
    'a\nb',
    '\u007f',
    '\u0080',
    '\u009f',
    '\ufdef',
    '\ufffe',
    '\u{10ffff}',
  ]) {
    expect(decodeAfterConnect(4, packet(0x30, prefixed(bad)))).toEqual(refusal(0x81, '§1.5.4'));
  }
  expect(decodeAfterConnect(4, packet(0x30, prefixed(' \u00a0\ufdcf\ufdf0\ufffd')))).toHaveLength(
    1,
  );
});

test('[MQTT-3.3.2-2] [MQTT3-3.3.2-2] [MQTT-4.7.0-1] [MQTT3-4.7.1-1] no wildcards in topic names', () => {
  for (const name of ['#', '+', 'a/+/b', 'a/#', 'a+', '#b']) {
    const refused = refusal(0x90, 'MQTT-3.3.2-2');
    expect(decodeAfterConnect(4, packet(0x30, prefixed(name)))).toEqual(refused);
    expect(decodeAfterConnect(5, packet(0x30, prefixed(name), none))).toEqual(refused);
  }
});

test('[MQTT-4.7.3-1] [MQTT3-4.7.3-1] an empty topic name is refused', () => {
  const empty = prefixed('');
  const refused = refusal(0x82, 'MQTT-4.7.3-1');
  expect(decodeAfterConnect(4, packet(0x30, empty, 'x'))).toEqual(refused);
  expect(decodeAfterConnect(5, packet(0x30, empty, none, 'x'))).toEqual(refused);
  const before = packet(0x30, topic, 'x');
  expect(decodeAfterConnect(4, before, packet(0x30, empty, 'x')).slice(1)).toEqual(refused);
});

test('[MQTT-4.7.3-3] [MQTT3-4.7.3-3] a topic name has up to 65,535 bytes', () => {
  const name = 'x'.repeat(65_535);
  expect(decodeAfterConnect(4, packet(0x30, prefixed(name), 'p'))).toMatchObject([
    { topic: name, payload: '70' },
  ]);
});

test('too many levels', () => {
  expect(decodeAfterConnect(4, packet(0x30, prefixed('/'.repeat(199))))).toHaveLength(1);
  expect(decodeAfterConnect(4, packet(0x30, prefixed('/'.repeat(200))))).toEqual(
    refusal(0x90, '§4.7.3'),
  );
});

test('a topic is interned once', () => {
  const topics = new TopicTable(64);
  const seen = new Set();
  const recorder = new Recorder();
  recorder.onPublish = (message: Message) => void seen.add(message.topic);
  const input = bytes(
    connect(4),
    packet(0x30, topic, 1),
    packet(0x30, prefixed('c')),
    packet(0x30, topic, 2),
  );
  newDecoder(recorder, { topics }).push(input, 0, input.length);
  newDecoder(recorder, { topics }).push(input, 0, input.length);
  expect(seen.size).toBe(2);
});

test('an interned topic does not change with the read buffer', () => {
  const topics = new TopicTable(64);
  const input = bytes(connect(4), packet(0x30, topic, 1));
  newDecoder(new Recorder(), { topics }).push(input, 0, input.length);
  input.fill(0);
  expect(topics.find(topic, 2, topic.length)?.name).toBe('a/b');
});

test('a message owned by its handler survives the read buffer, a node Buffer too', () => {
  const owned: Message[] = [];
  const recorder = new Recorder();
  recorder.onPublish = (message) => void owned.push(message.owned());
  const input = Buffer.from(bytes(connect(5), publish5(0x03, prefixed('t'))));
  newDecoder(recorder).push(input, 0, input.length);
  input.fill(0);
  expect(
    owned.map((message) => [Buffer.from(message.bytes).toString(), hex(message.properties)]),
  ).toEqual([['payload', hex(bytes(0x03, prefixed('t')))]]);
});

test.each([
  ['no topic', bytes(0x30, 0)],
  ['half a topic length', bytes(0x30, 1, 0)],
  ['a topic beyond the packet', bytes(0x30, 4, 0, 3, 'ab', 'c')],
  ['no packet identifier', bytes(0x32, 3, 0, 1, 'a')],
  ['half a packet identifier', bytes(0x32, 4, 0, 1, 'a', 1)],
])('%s is malformed', (_, input) => {
  for (const version of [4, 5] as const) {
    expect(decodeAfterConnect(version, input, packet(0xc0))).toMatchObject([
      { kind: 'error', reasonCode: 0x81 },
    ]);
  }
});

test('[MQTT-2.2.2-1] a PUBLISH in 5.0 has a property length', () => {
  expect(decodeAfterConnect(5, packet(0x30, topic))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
});

test('a property length beyond the packet reads nothing of the next packet', () => {
  const wire = packet(0x30, topic, 3, 0x01, 1);
  expect(decodeAfterConnect(5, wire, packet(0xc0))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
});

// Payload format, expiry, content type, response topic, correlation data, topic alias, user properties.
const FORMAT = bytes(0x01, 1);
const EXPIRY = bytes(0x02, 0xff, 0xff, 0xff, 0xff);
const TYPE = bytes(0x03, prefixed('t'));
const RESPONSE = bytes(0x08, prefixed('r/s'));
const CORRELATION = bytes(0x09, prefixed(0, 255));
const ALIAS = bytes(0x23, 0, 1);
const USER = bytes(0x26, prefixed('__proto__'), prefixed('v'));

test.each([
  ['nothing', []],
  ['all', [FORMAT, EXPIRY, TYPE, RESPONSE, CORRELATION, ALIAS, USER, USER]],
  ['for the server only', [EXPIRY, ALIAS]],
  ['alias only', [ALIAS]],
  ['both in front', [ALIAS, EXPIRY, TYPE, USER]],
  ['both at the end', [TYPE, USER, EXPIRY, ALIAS]],
  ['one at each end', [ALIAS, USER, TYPE, EXPIRY]],
  ['one in front, one between', [ALIAS, USER, EXPIRY, TYPE]],
  ['one between, one at the end', [USER, EXPIRY, TYPE, ALIAS]],
  ['both between, together', [USER, EXPIRY, ALIAS, TYPE]],
  ['one between', [USER, ALIAS, TYPE]],
  ['one in front', [EXPIRY, TYPE]],
  ['one at the end', [TYPE, EXPIRY]],
])('properties are forwarded as they came: %s', (_, props) => {
  const forwarded = props.filter((property) => property !== EXPIRY && property !== ALIAS);
  expect(decodeAfterConnect(5, publish5(...props))).toMatchObject([
    {
      topic: 'a/b',
      payload: hex(bytes('payload')),
      properties: hex(bytes(...forwarded)),
      expiryInterval: props.includes(EXPIRY) ? 0xffff_ffff : -1,
    },
  ]);
});

test('nothing of a message is left in the next one', () => {
  const first = packet(0x35, topic, 0, 9, properties(EXPIRY, TYPE), 'x');
  expect(decodeAfterConnect(5, first, packet(0x30, prefixed('c'), none))[1]).toEqual({
    kind: 'publish',
    topic: 'c',
    payload: '',
    qos: 0,
    retain: false,
    dup: false,
    packetId: 0,
    properties: '',
    expiryInterval: -1,
  });
});

test.each([
  ['a Payload Format Indicator of 7', bytes(0x01, 7), 0x82, '§3.3.2.3.2'],
  ['a repeated property', bytes(FORMAT, FORMAT), 0x82, '§2.2.2.2'],
  ['a repeated expiry', bytes(EXPIRY, EXPIRY), 0x82, '§2.2.2.2'],
  ['a repeated alias', bytes(ALIAS, USER, ALIAS), 0x82, '§2.2.2.2'],
  ['a property of CONNECT', bytes(0x11, 0, 0, 0, 1), 0x82, '§2.2.2.2'],
  ['a Will Delay Interval', bytes(0x18, 0, 0, 0, 1), 0x82, '§2.2.2.2'],
  ['an unknown property', bytes(0x00), 0x81, '§2.2.2.2'],
  ['a property number of two bytes', bytes(0x83, 0), 0x81, '§2.2.2.2'],
  ['an empty Response Topic', bytes(0x08, 0, 0), 0x82, 'MQTT-4.7.3-1'],
  ['an expiry cut short', bytes(0x02, 0, 0, 0), 0x81, 'MQTT-4.13.1-1'],
  ['a string cut short', bytes(0x03, 0, 2, 'a'), 0x81, 'MQTT-4.13.1-1'],
  ['a user property without value', bytes(0x26, prefixed('k')), 0x81, 'MQTT-4.13.1-1'],
  ['half a length', bytes(0x09, 0), 0x81, 'MQTT-4.13.1-1'],
] as const)('%s is refused', (_, property, code, clause) => {
  expect(decodeAfterConnect(5, publish5(property))).toEqual(refusal(code, clause));
});

test('[MQTT-3.3.2-14] a Response Topic has no wildcards', () => {
  for (const name of ['a/+', '#']) {
    expect(decodeAfterConnect(5, publish5(0x08, prefixed(name)))).toEqual(
      refusal(0x90, 'MQTT-3.3.2-14'),
    );
  }
});

test('[MQTT-3.3.4-6] a client sends no Subscription Identifier', () => {
  expect(decodeAfterConnect(5, publish5(0x0b, 1))).toEqual(refusal(0x82, 'MQTT-3.3.4-6'));
});

function aliased(name: string, alias: number, payload = ''): Uint8Array {
  return packet(0x30, prefixed(name), properties(0x23, alias >> 8, alias & 0xff), payload);
}

test('[MQTT-3.3.2-12] every alias up to the maximum is accepted, set and set anew', () => {
  const all = Array.from({ length: 10 }, (_, i) => i + 1);
  expect(
    decodeAfterConnect(
      5,
      ...all.map((alias) => aliased(`t/${alias}`, alias)),
      ...all.map((alias) => aliased('', alias)),
      aliased('again', 3),
      aliased('', 3),
      packet(0x30, prefixed('plain'), none),
      aliased('', 3),
    ).map((event) => (event.kind === 'publish' ? event.topic : event)),
  ).toEqual([
    ...all.map((alias) => `t/${alias}`),
    ...all.map((alias) => `t/${alias}`),
    ...['again', 'again', 'plain', 'again'],
  ]);
});

test('[MQTT-3.3.2-8] topic alias 0', () => {
  expect(decodeAfterConnect(5, aliased('a', 0))).toEqual(refusal(0x94, 'MQTT-3.3.2-8'));
});

test('[MQTT-3.3.2-9] [MQTT-3.2.2-17] a topic alias above the maximum', () => {
  for (const alias of [11, 256, 65_535]) {
    expect(decodeAfterConnect(5, aliased('a', alias))).toEqual(refusal(0x94, 'MQTT-3.3.2-9'));
    expect(decodeAfterConnect(5, aliased('', alias))).toEqual(refusal(0x94, 'MQTT-3.3.2-9'));
  }
});

test('[MQTT-3.2.2-18] any topic alias where none was allowed', () => {
  const recorder = new Recorder();
  const input = bytes(connect(5), aliased('a', 1));
  newDecoder(recorder, { topicAliasMaximum: 0 }).push(input, 0, input.length);
  expect(recorder.events.slice(1)).toEqual(refusal(0x94, 'MQTT-3.3.2-9'));
});

test('[MQTT-3.3.2-7] aliases live as long as their connection', () => {
  const topics = new TopicTable(64);
  const push = (...packets: Uint8Array[]) => {
    const recorder = new Recorder();
    const input = bytes(connect(5), ...packets);
    newDecoder(recorder, { topics }).push(input, 0, input.length);
    return recorder.events.slice(1);
  };
  expect(push(aliased('a', 1), aliased('', 1))).toMatchObject([{ topic: 'a' }, { topic: 'a' }]);
  expect(push(aliased('', 1))).toEqual(refusal(0x82, 'MQTT-3.3.2-7'));
});

test('a topic that came with an alias is checked like any other', () => {
  expect(decodeAfterConnect(5, aliased('a/#', 1))).toEqual(refusal(0x90, 'MQTT-3.3.2-2'));
  expect(decodeAfterConnect(5, aliased('ok', 1), aliased('a\u0007', 1)).slice(1)).toEqual(
    refusal(0x81, '§1.5.4'),
  );
});

import { expect, test } from '@jest/globals';
import type { ConnectPacket } from '@shoalmq/core';
import { decodePublishProperties } from '@shoalmq/codec';
import {
  Recorder,
  bytes,
  decode,
  hex,
  newDecoder,
  packet,
  prefixed,
  properties,
  refusal,
  utf8,
} from './wire.ts';
import type { Piece } from './wire.ts';

const NAME = prefixed('MQTT');

function connect5(flags: number, props: Piece, ...payload: Piece[]): Uint8Array {
  return packet(0x10, NAME, 5, flags, 0, 60, props, ...payload);
}

function connect4(flags: number, ...payload: Piece[]): Uint8Array {
  return packet(0x10, NAME, 4, flags, 0, 60, ...payload);
}

function only(events: readonly unknown[]): ConnectPacket {
  expect(events).toHaveLength(1);
  expect(events[0]).toMatchObject({ kind: 'connect' });
  return events[0] as ConnectPacket;
}

const none = properties();
const id = prefixed('c');

test('[MQTT-3.1.3-1] [MQTT3-3.1.3-1] the payload comes in the order of the standard', () => {
  const props = properties(
    bytes(0x11, 0xff, 0xff, 0xff, 0xff),
    bytes(0x21, 0, 10),
    bytes(0x27, 0, 0, 0x10, 0),
    bytes(0x22, 0, 5),
    bytes(0x19, 1),
    bytes(0x17, 0),
    bytes(0x15, prefixed('SCRAM')),
    bytes(0x16, prefixed(1, 2, 3)),
    bytes(0x26, prefixed('b'), prefixed('1')),
    bytes(0x26, prefixed('a'), prefixed('2')),
    bytes(0x26, prefixed('b'), prefixed('3')),
  );
  const willProps = properties(
    bytes(0x01, 1),
    bytes(0x18, 0, 0, 0, 7),
    bytes(0x03, prefixed('text')),
    bytes(0x02, 0, 0, 1, 0),
    bytes(0x26, prefixed('k'), prefixed('v')),
  );
  const events = decode(
    connect5(
      0b1111_0110,
      props,
      prefixed('client'),
      willProps,
      prefixed('will/topic'),
      prefixed(9, 8, 7),
      prefixed('user'),
      prefixed(0, 255),
    ),
  );
  expect(only(events)).toEqual({
    kind: 'connect',
    protocolVersion: 5,
    cleanStart: true,
    keepAlive: 60,
    clientId: 'client',
    username: 'user',
    password: bytes(0, 255),
    will: {
      topic: 'will/topic',
      payload: bytes(9, 8, 7),
      qos: 2,
      retain: true,
      delayInterval: 7,
      messageExpiryInterval: 256,
      properties: bytes(0x01, 1, 0x03, prefixed('text'), 0x26, prefixed('k'), prefixed('v')),
    },
    properties: {
      sessionExpiryInterval: 0xffff_ffff,
      receiveMaximum: 10,
      maximumPacketSize: 4096,
      topicAliasMaximum: 5,
      requestResponseInformation: true,
      requestProblemInformation: false,
      authenticationMethod: 'SCRAM',
      authenticationData: bytes(1, 2, 3),
      userProperties: [
        ['b', '1'],
        ['a', '2'],
        ['b', '3'],
      ],
    },
  });
  const wire4 = connect4(
    0b1110_1100,
    prefixed('client'),
    prefixed('w'),
    prefixed('m'),
    prefixed('u'),
    prefixed('p'),
  );
  expect(only(decode(wire4))).toEqual({
    kind: 'connect',
    protocolVersion: 4,
    cleanStart: false,
    keepAlive: 60,
    clientId: 'client',
    username: 'u',
    password: utf8('p'),
    will: {
      topic: 'w',
      payload: utf8('m'),
      qos: 1,
      retain: true,
      delayInterval: 0,
      messageExpiryInterval: undefined,
      properties: new Uint8Array(0),
    },
    properties: {},
  });
});

test('what was decoded does not change with the read buffer', () => {
  const input = connect5(
    0b1100_0100,
    properties(0x15, prefixed('m'), 0x16, prefixed('data')),
    id,
    properties(0x26, prefixed('k'), prefixed('v')),
    prefixed('w'),
    prefixed('payload'),
    prefixed('u'),
    prefixed('secret'),
  );
  const recorder = new Recorder();
  newDecoder(recorder).push(input, 0, input.length);
  const { will, password, properties: props } = only(recorder.events);
  input.fill(0);
  expect(will?.payload).toEqual(utf8('payload'));
  expect(decodePublishProperties(will?.properties ?? none)).toEqual({
    userProperties: [['k', 'v']],
  });
  expect(password).toEqual(utf8('secret'));
  expect(props.authenticationData).toEqual(utf8('data'));
});

test('3.1: protocol name MQIsdp, level 3', () => {
  const events = decode(packet(0x10, prefixed('MQIsdp'), 3, 0, 0, 0, prefixed('')));
  expect(only(events)).toMatchObject({ protocolVersion: 3, clientId: '', cleanStart: false });
});

test('3.1: a user name or password that is announced may be missing, a reserved flag be set', () => {
  const wire = packet(0x10, prefixed('MQIsdp'), 3, 0b1100_0001, 0, 0, id, prefixed('u'));
  expect(only(decode(wire))).toMatchObject({ username: 'u', password: undefined });
  const bare = packet(0x10, prefixed('MQIsdp'), 3, 0b1100_0000, 0, 0, id);
  expect(only(decode(bare))).toMatchObject({ username: undefined, password: undefined });
});

test('[MQTT-3.1.2-1] [MQTT3-3.1.2-1] another protocol name is refused', () => {
  for (const name of ['', 'mqtt', 'MQTT ', 'HTTP', 'MQIsdp1']) {
    expect(decode(packet(0x10, prefixed(name), 4, 2, 0, 0, id))).toEqual(
      refusal(0x84, 'MQTT-3.1.2-1'),
    );
  }
  expect(decode(packet(0x10, prefixed(0xff), 4, 2, 0, 0, id))).toEqual(
    refusal(0x81, 'MQTT-1.5.4-1'),
  );
});

test('[MQTT-3.1.2-2] an unsupported protocol level is refused with 0x84', () => {
  for (const level of [0, 1, 2, 3, 6, 0x84, 255]) {
    expect(decode(packet(0x10, NAME, level, 2, 0, 0, id))).toEqual(refusal(0x84, 'MQTT-3.1.2-2'));
  }
  expect(decode(packet(0x10, prefixed('MQIsdp'), 4, 2, 0, 0, id))).toEqual(
    refusal(0x84, 'MQTT-3.1.2-2'),
  );
});

test('[MQTT-3.1.2-3] [MQTT3-3.1.2-3] the reserved flag', () => {
  expect(decode(connect4(3, id))).toEqual(refusal(0x81, 'MQTT-3.1.2-3'));
  expect(decode(connect5(3, none, id))).toEqual(refusal(0x81, 'MQTT-3.1.2-3'));
});

test('[MQTT-3.1.2-11] [MQTT3-3.1.2-11] [MQTT3-3.1.2-13] Will QoS without will', () => {
  expect(decode(connect4(0b0000_1010, id))).toEqual(refusal(0x81, 'MQTT-3.1.2-11'));
  expect(decode(connect5(0b0001_0010, none, id))).toEqual(refusal(0x81, 'MQTT-3.1.2-11'));
});

test('[MQTT-3.1.2-12] [MQTT3-3.1.2-14] Will QoS 0, 1 and 2 are accepted, 3 is malformed', () => {
  const will = [prefixed('w'), prefixed('')];
  for (const qos of [0, 1, 2]) {
    expect(only(decode(connect4(6 | (qos << 3), id, ...will))).will?.qos).toBe(qos);
    expect(only(decode(connect5(6 | (qos << 3), none, id, none, ...will))).will?.qos).toBe(qos);
  }
  expect(decode(connect4(0x1e, id, ...will))).toEqual(refusal(0x81, 'MQTT-3.1.2-12'));
  expect(decode(connect5(0x1e, none, id, none, ...will))).toEqual(refusal(0x81, 'MQTT-3.1.2-12'));
});

test('[MQTT-3.1.2-13] [MQTT3-3.1.2-15] Will Retain without will', () => {
  expect(decode(connect4(0b0010_0010, id))).toEqual(refusal(0x81, 'MQTT-3.1.2-13'));
  expect(decode(connect5(0b0010_0010, none, id))).toEqual(refusal(0x81, 'MQTT-3.1.2-13'));
});

test('[MQTT-3.1.2-9] [MQTT3-3.1.2-9] a will that is announced is there', () => {
  expect(decode(connect4(6, id))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
  expect(decode(connect4(6, id, prefixed('w')))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
  expect(decode(connect5(6, none, id))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
  expect(decode(connect5(6, none, id, none, prefixed('w')))).toEqual(
    refusal(0x81, 'MQTT-4.13.1-1'),
  );
});

test('[MQTT-3.1.2-16] [MQTT-3.1.2-18] [MQTT3-3.1.2-18] [MQTT3-3.1.2-20] fields that were not announced are left over', () => {
  for (const [flags, payload] of [
    [2, [prefixed('user')]],
    [2, [prefixed('user'), prefixed('pass')]],
    [0x82, [prefixed('user'), prefixed('pass')]],
    [2, [0]],
  ] as const) {
    expect(decode(connect4(flags, id, ...payload))).toEqual(refusal(0x81, 'MQTT-3.1.4-1'));
    expect(decode(connect5(flags, none, id, ...payload))).toEqual(refusal(0x81, 'MQTT-3.1.4-1'));
  }
});

test('[MQTT-3.1.2-17] [MQTT-3.1.2-19] [MQTT3-3.1.2-19] [MQTT3-3.1.2-21] fields that were announced are there', () => {
  expect(decode(connect4(0x82, id))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
  expect(decode(connect4(0xc2, id, prefixed('u')))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
  expect(decode(connect5(0x82, none, id))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
  expect(decode(connect5(0x42, none, id))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
});

test('[MQTT3-3.1.2-22] a password needs a user name in 3.x', () => {
  expect(decode(connect4(0x42, id, prefixed('p')))).toEqual(refusal(0x81, 'MQTT3-3.1.2-22'));
  expect(only(decode(connect5(0x42, none, id, prefixed('p')))).password).toEqual(utf8('p'));
});

test('[MQTT-3.1.3-3] [MQTT3-3.1.3-3] the client id is there', () => {
  expect(decode(connect4(2))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
  expect(decode(connect5(2, none))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
});

test('client ids of 1 to 23 letters and digits are accepted', () => {
  const alphabet = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';
  for (let length = 1; length <= 23; length++) {
    const clientId = alphabet.slice(length, length * 2);
    expect(only(decode(connect4(2, prefixed(clientId)))).clientId).toBe(clientId);
    expect(only(decode(connect5(2, none, prefixed(clientId)))).clientId).toBe(clientId);
  }
});

const BAD_STRINGS = [
  ['C3 28', bytes(0xc3, 0x28), 'MQTT-1.5.4-1'],
  ['an overlong slash', bytes(0xc0, 0xaf), 'MQTT-1.5.4-1'],
  ['a surrogate', bytes(0xed, 0xa0, 0x80), 'MQTT-1.5.4-1'],
  ['U+0000', bytes('a', 0, 'b'), 'MQTT-1.5.4-2'],
] as const;

test.each(BAD_STRINGS)(
  '[MQTT-3.1.3-4] [MQTT3-3.1.3-4] [MQTT-3.1.3-11] [MQTT3-3.1.3-10] [MQTT-3.1.3-12] [MQTT3-3.1.3-11] %s in client id, will topic, user name',
  (_, bad, clause) => {
    const refused = refusal(0x81, clause);
    const field = prefixed(bad);
    expect(decode(connect4(2, field))).toEqual(refused);
    expect(decode(connect5(2, none, field))).toEqual(refused);
    expect(decode(connect4(6, id, field, prefixed('')))).toEqual(refused);
    expect(decode(connect5(6, none, id, none, field, prefixed('')))).toEqual(refused);
    expect(decode(connect4(0x82, id, field))).toEqual(refused);
    expect(decode(connect5(0x82, none, id, field))).toEqual(refused);
  },
);

test.each(BAD_STRINGS)('[MQTT-1.5.7-1] %s in properties', (_, bad, clause) => {
  const refused = refusal(0x81, clause);
  for (const property of [
    bytes(0x15, prefixed(bad)),
    bytes(0x26, prefixed(bad), prefixed('v')),
    bytes(0x26, prefixed('k'), prefixed(bad)),
  ]) {
    expect(decode(connect5(2, properties(property), id))).toEqual(refused);
  }
  for (const property of [
    bytes(0x03, prefixed(bad)),
    bytes(0x08, prefixed(bad)),
    bytes(0x26, prefixed(bad), prefixed('v')),
    bytes(0x26, prefixed('k'), prefixed(bad)),
  ]) {
    const wire = connect5(6, none, id, properties(property), prefixed('w'), prefixed(''));
    expect(decode(wire)).toEqual(refused);
  }
});

test('control characters and non-characters are refused in client id and will topic, not in user names', () => {
  for (const bad of ['\u0001', '\u001f', '\u007f', '\u009f', '\ufdd0', '\uffff', '\u{1fffe}']) {
    expect(decode(connect4(2, prefixed(bad)))).toEqual(refusal(0x81, '§1.5.4'));
    expect(decode(connect4(6, id, prefixed(bad), prefixed('')))).toEqual(refusal(0x81, '§1.5.4'));
    expect(only(decode(connect4(0x82, id, prefixed(bad)))).username).toBe(bad);
  }
});

test('will topics', () => {
  const will = (topic: string) => decode(connect4(6, id, prefixed(topic), prefixed('')));
  expect(will('')).toEqual(refusal(0x82, 'MQTT-4.7.3-1'));
  expect(will('a/+')).toEqual(refusal(0x90, 'MQTT-4.7.0-1'));
  expect(will('#')).toEqual(refusal(0x90, 'MQTT-4.7.0-1'));
  expect(only(will('/'.repeat(199))).will?.topic).toBe('/'.repeat(199));
  expect(will('/'.repeat(200))).toEqual(refusal(0x90, '§4.7.3'));
});

test.each([
  ['Receive Maximum 0', bytes(0x21, 0, 0), 0x82, '§3.1.2.11.3'],
  ['Maximum Packet Size 0', bytes(0x27, 0, 0, 0, 0), 0x82, '§3.1.2.11.4'],
  ['Request Problem Information 2', bytes(0x17, 2), 0x82, '§2.2.2.2'],
  ['Request Response Information 255', bytes(0x19, 255), 0x82, '§2.2.2.2'],
  ['a repeated property', bytes(0x21, 0, 1, 0x21, 0, 1), 0x82, '§2.2.2.2'],
  ['a property of PUBLISH', bytes(0x01, 0), 0x82, '§2.2.2.2'],
  ['a property of CONNACK', bytes(0x24, 1), 0x82, '§2.2.2.2'],
  ['an unknown property', bytes(0x04, 0), 0x81, '§2.2.2.2'],
  ['an unknown property of two bytes', bytes(0x91, 0x01), 0x81, '§2.2.2.2'],
  ['data without method', bytes(0x16, prefixed(1)), 0x82, '§3.1.2.11.10'],
  ['a value cut short', bytes(0x21, 1), 0x81, 'MQTT-4.13.1-1'],
  ['a string beyond the properties', bytes(0x15, 0, 9, 'abc'), 0x81, 'MQTT-4.13.1-1'],
] as const)('CONNECT with %s', (_, property, code, clause) => {
  expect(decode(connect5(2, properties(property), id))).toEqual(refusal(code, clause));
});

test('will properties are checked like those of PUBLISH', () => {
  const will = (...props: Piece[]) =>
    decode(connect5(6, none, id, properties(...props), prefixed('w'), prefixed('')));
  expect(will(0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1)).toEqual(refusal(0x82, '§2.2.2.2'));
  expect(will(0x23, 0, 1)).toEqual(refusal(0x82, '§2.2.2.2'));
  expect(will(0x0b, 1)).toEqual(refusal(0x82, '§2.2.2.2'));
  expect(will(0x01, 2)).toEqual(refusal(0x82, '§3.3.2.3.2'));
  expect(will(0x08, prefixed('a/#'))).toEqual(refusal(0x90, 'MQTT-3.3.2-14'));
  expect(will(0x18, 0, 0)).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
});

test('a property length beyond the packet reads nothing of the next packet', () => {
  const next = packet(0xc0);
  expect(decode(bytes(connect5(2, bytes(9), id), next))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
  const will = connect5(6, none, id, bytes(0x7f), prefixed('w'), prefixed(''));
  expect(decode(bytes(will, next))).toEqual(refusal(0x81, 'MQTT-4.13.1-1'));
});

test('user properties of a will keep their order', () => {
  const pairs = [
    ['z', '1'],
    ['__proto__', '2'],
    ['z', '3'],
    ['constructor', ''],
  ] as const;
  const props = properties(
    ...pairs.map(([name, value]) => bytes(0x26, prefixed(name), prefixed(value))),
    bytes(0x18, 0, 0, 0, 9),
  );
  const { will } = only(decode(connect5(6, none, id, props, prefixed('w'), prefixed(''))));
  expect(decodePublishProperties(will?.properties ?? none)).toEqual({ userProperties: pairs });
  expect(hex(will?.properties ?? none)).not.toContain('1800000009');
});

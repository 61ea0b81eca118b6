import { expect, test } from '@jest/globals';
import { AckType, Message, TopicTable } from '@shoalmq/core';
import type { ByteSink, OutgoingPacket, ProtocolVersion, PublishForm } from '@shoalmq/core';
import { createPacketEncoder, topicFromName } from '@shoalmq/codec';
import fc from 'fast-check';
import { parser } from 'mqtt-packet';
import type { IPublishPacket, Packet } from 'mqtt-packet';
import { data, name, packetId, qos, seconds } from './arbitraries.ts';
import {
  bytes,
  decodeAfterConnect,
  hex,
  prefixed,
  properties,
  publishEvent,
  varint,
} from './wire.ts';

const topics = new TopicTable(64);
const encoder = createPacketEncoder();
const NO_LIMIT = 0xffff_ffff;

/** Grows by no more than it must, and starts in the middle of its bytes. */
class Sink implements ByteSink {
  bytes = new Uint8Array(7).fill(0xaa);
  length = 7;
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    const larger = new Uint8Array(needed);
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }
  get written(): Uint8Array {
    expect(this.bytes.subarray(0, 7)).toEqual(new Uint8Array(7).fill(0xaa));
    return this.bytes.slice(7, this.length);
  }
}

function encode(packet: OutgoingPacket, version: ProtocolVersion, packetBytesMax = NO_LIMIT) {
  const sink = new Sink();
  const fits = encoder.packet(sink, packet, version, packetBytesMax);
  expect(sink.length === 7).toBe(!fits);
  return fits ? hex(sink.written) : false;
}

function parse(wire: Uint8Array, protocolVersion: ProtocolVersion): Packet[] {
  const packets: Packet[] = [];
  const incoming = parser({ protocolVersion });
  incoming.on('packet', (packet) => void packets.push(packet));
  incoming.parse(Buffer.from(wire));
  return packets;
}

function message(topic: string, payload: Uint8Array, forwarded = bytes()): Message {
  return Message.of(topicFromName(topics, topic), payload, {
    qos: 0,
    retain: false,
    properties: forwarded,
  });
}

interface PublishOptions {
  readonly header?: number;
  readonly packetId?: number;
  readonly expiry?: number;
  readonly alias?: number;
  readonly omitTopic?: boolean;
  readonly withPayload?: boolean;
}

function publish(subject: Message, form: PublishForm, options: PublishOptions = {}) {
  const { header = 0x30, packetId: id = 0, expiry = -1, alias = 0, omitTopic = false } = options;
  const { withPayload = true } = options;
  const sink = new Sink();
  const total = encoder.publish(
    sink,
    subject,
    form,
    header,
    id,
    expiry,
    alias,
    omitTopic,
    withPayload,
  );
  expect(encoder.publishBytes(subject, form, (header >> 1) & 3, alias, omitTopic)).toBe(total);
  expect(sink.written.length).toBe(total - (withPayload ? 0 : subject.payloadBytes));
  return sink.written;
}

const v4: PublishForm = { version: 4, subscriptionIds: [] };
const v5: PublishForm = { version: 5, subscriptionIds: [] };

test('PUBLISH in 3.x has no properties', () => {
  const subject = message('a', bytes('xy'), bytes(0x01, 1));
  const form: PublishForm = { version: 4, subscriptionIds: [3] };
  expect(hex(publish(subject, form))).toBe(hex(bytes(0x30, 5, prefixed('a'), 'xy')));
  expect(hex(publish(subject, form, { header: 0x3d, packetId: 0x1234 }))).toBe(
    hex(bytes(0x3d, 7, prefixed('a'), 0x12, 0x34, 'xy')),
  );
});

test('[MQTT-2.2.2-1] PUBLISH in 5.0 without properties has a length of 0', () => {
  expect(hex(publish(message('a', bytes('xy')), v5))).toBe(
    hex(bytes(0x30, 6, prefixed('a'), 0, 'xy')),
  );
});

test('PUBLISH with everything', () => {
  const subject = message('topic', bytes('xy'), bytes(0x03, prefixed('t')));
  subject.expiryInterval = 10;
  const form: PublishForm = { version: 5, subscriptionIds: [1, 128, 268_435_455] };
  const props = properties(
    bytes(0x02, 0xff, 0xff, 0xff, 0xfe),
    bytes(0x23, 0x01, 0x02),
    bytes(0x0b, 1, 0x0b, 0x80, 1, 0x0b, 0xff, 0xff, 0xff, 0x7f),
    bytes(0x03, prefixed('t')),
  );
  const options = { header: 0x33, packetId: 9, expiry: 0xffff_fffe, alias: 0x0102 };
  expect(hex(publish(subject, form, options))).toBe(
    hex(bytes(0x33, varint(7 + 2 + props.length + 2), prefixed('topic'), 0, 9, props, 'xy')),
  );
  expect(hex(publish(subject, form, { ...options, omitTopic: true }))).toBe(
    hex(bytes(0x33, varint(2 + 2 + props.length + 2), prefixed(''), 0, 9, props, 'xy')),
  );
});

test('the packet identifier can be patched where packetIdOffset says', () => {
  for (const [form, alias] of [
    [v4, 0],
    [v5, 300],
  ] as const) {
    const sink = new Sink();
    const subject = message('some/topic', new Uint8Array(500));
    encoder.publish(sink, subject, form, 0x32, 0, -1, alias, false, true);
    sink.bytes[encoder.packetIdOffset] = 0xbe;
    sink.bytes[encoder.packetIdOffset + 1] = 0xef;
    expect(hex(sink.written)).toBe(
      hex(publish(subject, form, { header: 0x32, packetId: 0xbeef, alias })),
    );
  }
});

test('without payload the lengths include it', () => {
  const subject = message('a', new Uint8Array(1000).fill(7));
  const whole = publish(subject, v5, { header: 0x32, packetId: 5 });
  const head = publish(subject, v5, { header: 0x32, packetId: 5, withPayload: false });
  expect(hex(bytes(head, new Uint8Array(1000).fill(7)))).toBe(hex(whole));
});

test('payloads of all sizes, owned and borrowed', () => {
  for (const size of [
    0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 121, 122, 123, 16_377, 16_378, 16_379,
    70_000,
  ]) {
    const source = new Uint8Array(size + 20);
    for (let i = 0; i < source.length; i++) source[i] = i;
    const owned = message('a/b', source.slice(5, 5 + size));
    const borrowed = new Message(owned.topic);
    borrowed.bytes = source;
    borrowed.start = 5;
    borrowed.end = 5 + size;
    const expected = bytes(0x30, varint(5 + size), prefixed('a/b'), source.slice(5, 5 + size));
    expect(publish(owned, v4)).toEqual(expected);
    expect(publish(borrowed, v4)).toEqual(expected);
  }
});

test('[MQTT-1.5.5-1] the remaining length has as few bytes as possible', () => {
  const subject = message('abc', bytes());
  for (const [remaining, lengthBytes] of [
    [127, 1],
    [128, 2],
    [16_383, 2],
    [16_384, 3],
    [2_097_151, 3],
    [2_097_152, 4],
  ] as const) {
    subject.end = remaining - 5;
    const sink = new Sink();
    const total = encoder.publish(sink, subject, v4, 0x30, 0, -1, 0, false, false);
    expect(total).toBe(1 + lengthBytes + remaining);
    expect(sink.written).toEqual(bytes(0x30, varint(remaining), prefixed('abc')));
  }
});

test('decode(encode(message)) is the message', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(3 as const, 4 as const, 5 as const),
      name,
      data,
      qos,
      fc.boolean(),
      packetId,
      fc.option(seconds, { nil: -1 }),
      fc.integer({ min: 0, max: 10 }),
      fc.array(fc.tuple(name, name), { maxLength: 3 }),
      (version, topic, payload, quality, retain, id, expiry, alias, pairs) => {
        const forwarded = bytes(
          ...pairs.map(([key, value]) => bytes(0x26, prefixed(key), prefixed(value))),
        );
        const subject = message(topic, payload, forwarded);
        subject.qos = quality;
        subject.retain = retain;
        subject.packetId = quality === 0 ? 0 : id;
        subject.expiryInterval = expiry;
        const header = 0x30 | (quality << 1) | (retain ? 1 : 0);
        const wire = publish(
          subject,
          { version, subscriptionIds: [] },
          {
            header,
            packetId: subject.packetId,
            expiry,
            alias,
          },
        );
        expect(decodeAfterConnect(version, wire)).toEqual([
          version === 5
            ? publishEvent(subject)
            : { ...publishEvent(subject), properties: '', expiryInterval: -1 },
        ]);
      },
    ),
  );
});

test('mqtt-packet reads what was written', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(4 as const, 5 as const),
      name,
      data,
      qos,
      packetId,
      fc.uniqueArray(fc.integer({ min: 1, max: 268_435_455 }), { maxLength: 3 }),
      (version, topic, payload, quality, id, subscriptionIds) => {
        const wire = publish(
          message(topic, payload),
          { version, subscriptionIds },
          {
            header: 0x30 | (quality << 1),
            packetId: id,
          },
        );
        const [parsed] = parse(wire, version) as IPublishPacket[];
        expect(parsed).toMatchObject({ topic, qos: quality });
        expect(parsed?.payload.toString('hex')).toBe(hex(payload));
        if (quality > 0) expect(parsed?.messageId).toBe(id);
        if (version < 5) return;
        expect([parsed?.properties?.subscriptionIdentifier ?? []].flat()).toEqual(subscriptionIds);
      },
    ),
  );
});

test('acknowledgements', () => {
  const ack = (type: AckType, reasonCode: number, version: ProtocolVersion) => {
    const sink = new Sink();
    encoder.ack(sink, type, 0x1234, reasonCode, version);
    return hex(sink.written);
  };
  expect(ack(AckType.Puback, 0, 5)).toBe('40021234');
  expect(ack(AckType.Pubrec, 0, 4)).toBe('50021234');
  expect(ack(AckType.Pubrel, 0, 5)).toBe('62021234');
  expect(ack(AckType.Pubcomp, 0, 3)).toBe('70021234');
  expect(ack(AckType.Puback, 0x10, 5)).toBe('4003123410');
  expect(ack(AckType.Pubcomp, 0x92, 5)).toBe('7003123492');
  expect(ack(AckType.Pubcomp, 0x92, 4)).toBe('70021234');
});

test('CONNACK in 5.0', () => {
  const wire = encode(
    {
      kind: 'connack',
      sessionPresent: true,
      reasonCode: 0,
      properties: {
        sessionExpiryInterval: 100,
        receiveMaximum: 10,
        maximumQoS: 1,
        retainAvailable: false,
        maximumPacketSize: 1000,
        assignedClientIdentifier: 'id',
        topicAliasMaximum: 3,
        reasonString: 'why',
        userProperties: [
          ['__proto__', 'x'],
          ['a', '1'],
          ['a', '2'],
        ],
        wildcardSubscriptionAvailable: true,
        subscriptionIdentifiersAvailable: true,
        sharedSubscriptionAvailable: true,
        serverKeepAlive: 60,
        responseInformation: 'r',
        serverReference: 's',
        authenticationMethod: 'm',
        authenticationData: bytes(1, 2),
      },
    },
    5,
  );
  const [parsed] = parse(Buffer.from(wire || '', 'hex'), 5);
  expect(parsed).toMatchObject({
    cmd: 'connack',
    sessionPresent: true,
    reasonCode: 0,
    properties: {
      sessionExpiryInterval: 100,
      receiveMaximum: 10,
      maximumQoS: 1,
      retainAvailable: false,
      maximumPacketSize: 1000,
      assignedClientIdentifier: 'id',
      topicAliasMaximum: 3,
      reasonString: 'why',
      wildcardSubscriptionAvailable: true,
      subscriptionIdentifiersAvailable: true,
      sharedSubscriptionAvailable: true,
      serverKeepAlive: 60,
      responseInformation: 'r',
      serverReference: 's',
      authenticationMethod: 'm',
      authenticationData: Buffer.from([1, 2]),
    },
  });
  expect(wire).toContain(hex(bytes(0x26, prefixed('__proto__'), prefixed('x'))));
  expect(wire).toContain(
    hex(bytes(0x26, prefixed('a'), prefixed('1'), 0x26, prefixed('a'), prefixed('2'))),
  );
});

test('CONNACK in 3.x has a return code', () => {
  const connack = (sessionPresent: boolean, reasonCode: number) =>
    ({ kind: 'connack', sessionPresent, reasonCode, properties: { receiveMaximum: 9 } }) as const;
  expect(encode(connack(false, 0), 4)).toBe('20020000');
  expect(encode(connack(true, 0), 4)).toBe('20020100');
  expect(encode(connack(true, 0), 3)).toBe('20020000');
  for (const [reasonCode, returnCode] of [
    [0x84, 1],
    [0x85, 2],
    [0x88, 3],
    [0x86, 4],
    [0x87, 5],
  ] as const) {
    expect(encode(connack(false, reasonCode), 4)).toBe(`2002000${returnCode}`);
  }
  expect(encode({ ...connack(true, 0), properties: {} }, 5)).toBe('2003010000');
});

test('[MQTT3-3.9.3-1] [MQTT3-3.9.3-2] SUBACK in 3.x knows one failure', () => {
  const suback = { kind: 'suback', packetId: 9, reasonCodes: [0, 1, 2, 0x80, 0x87, 0x8f] } as const;
  expect(encode(suback, 4)).toBe('90080009000102808080');
  expect(encode(suback, 5)).toBe('900900090000010280878f');
  expect(encode({ ...suback, reasonString: 'no' }, 5)).toBe('900e0009051f00026e6f00010280878f');
});

test('UNSUBACK has codes in 5.0 only', () => {
  const unsuback = { kind: 'unsuback', packetId: 9, reasonCodes: [0, 0x11] } as const;
  expect(encode(unsuback, 4)).toBe('b0020009');
  expect(encode(unsuback, 5)).toBe('b0050009000011');
});

test('PINGRESP, DISCONNECT, AUTH and acknowledgements with a reason string', () => {
  expect(encode({ kind: 'pingresp' }, 3)).toBe('d000');
  expect(encode({ kind: 'disconnect', reasonCode: 0x8e }, 5)).toBe('e0028e00');
  expect(encode({ kind: 'disconnect', reasonCode: 0x9d, serverReference: 'b' }, 5)).toBe(
    'e0069d041c000162',
  );
  expect(encode({ kind: 'disconnect', reasonCode: 0x81, reasonString: 'x' }, 5)).toBe(
    'e00681041f000178',
  );
  expect(
    encode(
      { kind: 'auth', reasonCode: 0x18, authenticationMethod: 'm', authenticationData: bytes(1) },
      5,
    ),
  ).toBe('f00a180815 00016d 16000101'.replaceAll(' ', ''));
  for (const [kind, first] of [
    ['puback', '40'],
    ['pubrec', '50'],
    ['pubrel', '62'],
    ['pubcomp', '70'],
  ] as const) {
    expect(encode({ kind, packetId: 1, reasonCode: 0x92 }, 5)).toBe(`${first}0400019200`);
    expect(encode({ kind, packetId: 1, reasonCode: 0 }, 5)).toBe(`${first}020001`);
    expect(encode({ kind, packetId: 1, reasonCode: 0x92, reasonString: 'x' }, 4)).toBe(
      `${first}020001`,
    );
    expect(encode({ kind, packetId: 1, reasonCode: 0x92, reasonString: 'x' }, 5)).toBe(
      `${first}08000192041f000178`,
    );
  }
});

test('a server has no DISCONNECT and no AUTH in 3.x', () => {
  for (const version of [3, 4] as const) {
    expect(encode({ kind: 'disconnect', reasonCode: 0x8e }, version)).toBe(false);
    expect(encode({ kind: 'auth', reasonCode: 0x18 }, version)).toBe(false);
  }
});

test('[MQTT-3.2.2-19] [MQTT-3.2.2-20] CONNACK leaves out what would make it too large', () => {
  const connack = {
    kind: 'connack',
    sessionPresent: false,
    reasonCode: 0x87,
    properties: {
      topicAliasMaximum: 1,
      reasonString: 'r'.repeat(20),
      userProperties: [['k', 'u'.repeat(50)]],
    },
  } as const;
  const sizes = [200, 86, 85, 31, 30, 8, 7];
  expect(sizes.map((size) => (encode(connack, 5, size) || '').length / 2)).toEqual([
    ...[87, 31, 31, 31, 8, 8, 0],
  ]);
});

test('[MQTT-3.14.2-3] [MQTT-3.15.2-2] DISCONNECT and AUTH leave out the reason string', () => {
  const reasonString = 'r'.repeat(100);
  expect(encode({ kind: 'disconnect', reasonCode: 0x81, reasonString }, 5, 100)).toBe('e0028100');
  expect(encode({ kind: 'disconnect', reasonCode: 0x81, reasonString }, 5, 3)).toBe(false);
  expect(encode({ kind: 'auth', reasonCode: 0x18, reasonString }, 5, 100)).toBe('f0021800');
});

test('[MQTT-3.4.2-2] [MQTT-3.5.2-2] [MQTT-3.6.2-2] [MQTT-3.7.2-2] acknowledgements leave out the reason string', () => {
  const reasonString = 'r'.repeat(100);
  for (const kind of ['puback', 'pubrec', 'pubrel', 'pubcomp'] as const) {
    const wire = encode({ kind, packetId: 1, reasonCode: 0x92, reasonString }, 5, 100);
    expect(wire).toMatch(/^..0400019200$/);
  }
});

test('[MQTT-3.9.2-1] [MQTT-3.11.2-1] SUBACK and UNSUBACK leave out the reason string', () => {
  const reasonString = 'r'.repeat(100);
  const rest = { packetId: 1, reasonCodes: [0], reasonString };
  expect(encode({ kind: 'suback', ...rest }, 5, 100)).toBe('900400010000');
  expect(encode({ kind: 'unsuback', ...rest }, 5, 100)).toBe('b00400010000');
});

test('a reason string that no packet could hold is left out', () => {
  const reasonString = 'é'.repeat(40_000);
  expect(encode({ kind: 'disconnect', reasonCode: 0x81, reasonString }, 5)).toBe('e0028100');
});

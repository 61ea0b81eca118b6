/**
 * Valid packets as mqtt-packet writes them: the decoder reads from them what went in. mqtt-packet groups user
 * properties by name, so names do not repeat here; the tables have those that do.
 */
import { expect, test } from '@jest/globals';
import { decodePublishProperties } from '@shoalmq/codec';
import fc from 'fast-check';
import { generate } from 'mqtt-packet';
import type { Packet } from 'mqtt-packet';
import { data, name, packetId, qos, seconds, text, version } from './arbitraries.ts';
import { Recorder, bytes, connect, decode, decodeAfterConnect, hex, newDecoder } from './wire.ts';

const userProperties = fc
  .uniqueArray(fc.tuple(fc.constantFrom('a', 'b', 'é', 'constructor', ''), text), {
    selector: ([key]) => key,
    minLength: 1,
  })
  .map((pairs) => ({ pairs, object: Object.fromEntries(pairs) }));

function encode(packet: Packet, protocolVersion: 3 | 4 | 5): Uint8Array {
  return new Uint8Array(generate(packet, { protocolVersion }));
}

function optional<T>(arbitrary: fc.Arbitrary<T>) {
  return fc.option(arbitrary, { nil: undefined });
}

/** Without the members that are undefined. */
function present(value: object) {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined));
}

test('PUBLISH', () => {
  const properties = fc.record({
    payloadFormatIndicator: optional(fc.boolean()),
    messageExpiryInterval: optional(seconds),
    topicAlias: optional(fc.integer({ min: 1, max: 10 })),
    responseTopic: optional(name),
    correlationData: optional(data),
    contentType: optional(text),
    userProperties: optional(userProperties),
  });
  fc.assert(
    fc.property(
      version,
      name,
      data,
      qos,
      fc.boolean(),
      fc.boolean(),
      packetId,
      properties,
      (level, topic, payload, quality, retain, dup, id, props) => {
        const wire = encode(
          {
            cmd: 'publish',
            topic,
            payload: Buffer.from(payload),
            qos: quality,
            retain,
            dup: dup && quality > 0,
            messageId: id,
            properties: present({
              ...props,
              correlationData: props.correlationData && Buffer.from(props.correlationData),
              userProperties: props.userProperties?.object,
            }),
          },
          level,
        );
        const [event] = decodeAfterConnect(level, wire);
        expect(event).toMatchObject({
          kind: 'publish',
          topic,
          payload: hex(payload),
          qos: quality,
          retain,
          dup: dup && quality > 0,
          packetId: quality === 0 ? 0 : id,
          expiryInterval: level === 5 ? (props.messageExpiryInterval ?? -1) : -1,
        });
        if (event?.kind !== 'publish' || level < 5) return;
        const decoded = decodePublishProperties(Buffer.from(event.properties, 'hex'));
        const forwarded = { ...props, topicAlias: undefined, messageExpiryInterval: undefined };
        expect({ ...decoded, userProperties: undefined }).toEqual({
          ...present(forwarded),
          ...(forwarded.payloadFormatIndicator !== undefined && {
            payloadFormatIndicator: forwarded.payloadFormatIndicator ? 1 : 0,
          }),
          userProperties: undefined,
        });
        expect(new Map(decoded.userProperties)).toEqual(new Map(props.userProperties?.pairs));
      },
    ),
    { numRuns: 1000 },
  );
});

test('CONNECT', () => {
  const properties = fc.record({
    sessionExpiryInterval: optional(seconds),
    receiveMaximum: optional(fc.integer({ min: 1, max: 65_535 })),
    maximumPacketSize: optional(fc.integer({ min: 1, max: 0xffff_ffff })),
    topicAliasMaximum: optional(fc.integer({ min: 0, max: 65_535 })),
    requestResponseInformation: optional(fc.boolean()),
    requestProblemInformation: optional(fc.boolean()),
    authenticationMethod: optional(text),
  });
  const will = fc.record({ topic: name, payload: data, qos, retain: fc.boolean() });
  const willProperties = fc.record({
    willDelayInterval: optional(seconds),
    messageExpiryInterval: optional(seconds),
    contentType: optional(text),
    responseTopic: optional(name),
    correlationData: optional(data),
  });
  fc.assert(
    fc.property(
      version,
      name,
      fc.boolean(),
      fc.integer({ min: 0, max: 65_535 }),
      optional(text),
      data,
      optional(will),
      properties,
      willProperties,
      (level, clientId, clean, keepalive, username, password, testament, props, willProps) => {
        const { willDelayInterval, messageExpiryInterval, ...forwarded } = willProps;
        const wire = encode(
          {
            cmd: 'connect',
            protocolId: level === 3 ? 'MQIsdp' : 'MQTT',
            protocolVersion: level,
            clientId,
            clean,
            keepalive,
            ...(username !== undefined && { username, password: Buffer.from(password) }),
            ...(testament && {
              will: {
                ...testament,
                payload: Buffer.from(testament.payload),
                properties: present({
                  ...willProps,
                  correlationData:
                    willProps.correlationData && Buffer.from(willProps.correlationData),
                }),
              },
            }),
            properties: present(props),
          },
          level,
        );
        const [event] = decode(wire);
        expect(event).toMatchObject({
          kind: 'connect',
          protocolVersion: level,
          clientId,
          cleanStart: clean,
          keepAlive: keepalive,
          username,
          password: username === undefined ? undefined : password,
          will: testament && {
            ...testament,
            delayInterval: level === 5 ? (willDelayInterval ?? 0) : 0,
            messageExpiryInterval: level === 5 ? messageExpiryInterval : undefined,
          },
        });
        if (event?.kind !== 'connect') return;
        expect(event.properties).toEqual(level === 5 ? present(props) : {});
        expect(decodePublishProperties(event.will?.properties ?? new Uint8Array(0))).toEqual(
          level === 5 && testament ? present(forwarded) : {},
        );
      },
    ),
    { numRuns: 1000 },
  );
});

test('SUBSCRIBE and UNSUBSCRIBE', () => {
  const subscription = fc.record({
    topic: name,
    qos,
    nl: fc.boolean(),
    rap: fc.boolean(),
    rh: fc.constantFrom(0, 1, 2),
  });
  fc.assert(
    fc.property(
      version,
      packetId,
      fc.array(subscription, { minLength: 1, maxLength: 5 }),
      optional(fc.integer({ min: 1, max: 268_435_455 })),
      userProperties,
      (level, messageId, subscriptions, subscriptionIdentifier, user) => {
        const subscribe = encode(
          {
            cmd: 'subscribe',
            messageId,
            subscriptions,
            properties: {
              ...(subscriptionIdentifier !== undefined && { subscriptionIdentifier }),
              userProperties: user.object,
            },
          },
          level,
        );
        const unsubscribe = encode(
          {
            cmd: 'unsubscribe',
            messageId,
            unsubscriptions: subscriptions.map(({ topic }) => topic),
            properties: { userProperties: user.object },
          },
          level,
        );
        expect(decodeAfterConnect(level, subscribe, unsubscribe)).toMatchObject([
          {
            kind: 'subscribe',
            packetId: messageId,
            requests: subscriptions.map(({ topic, qos: quality, nl, rap, rh }) => ({
              filter: topic,
              qos: quality,
              noLocal: level === 5 && nl,
              retainAsPublished: level === 5 && rap,
              retainHandling: level === 5 ? rh : 0,
            })),
            subscriptionIdentifier: level === 5 ? (subscriptionIdentifier ?? 0) : 0,
          },
          {
            kind: 'unsubscribe',
            packetId: messageId,
            filters: subscriptions.map(({ topic }) => topic),
          },
        ]);
      },
    ),
    { numRuns: 500 },
  );
});

test('acknowledgements, DISCONNECT and AUTH', () => {
  const acks = fc.constantFrom(
    { cmd: 'puback', type: 4, codes: [0, 0x10, 0x97] } as const,
    { cmd: 'pubrec', type: 5, codes: [0, 0x10, 0x80] } as const,
    { cmd: 'pubrel', type: 6, codes: [0, 0x92] } as const,
    { cmd: 'pubcomp', type: 7, codes: [0, 0x92] } as const,
  );
  fc.assert(
    fc.property(
      acks,
      packetId,
      fc.nat(),
      optional(text),
      data,
      (ack, messageId, pick, why, blob) => {
        const reasonCode = ack.codes[pick % ack.codes.length] ?? 0;
        const properties = why === undefined ? {} : { properties: { reasonString: why } };
        const wire = encode({ cmd: ack.cmd, messageId, reasonCode, ...properties }, 5);
        const old = encode({ cmd: ack.cmd, messageId }, 4);
        const auth = {
          authenticationMethod: 'method',
          authenticationData: Buffer.from(blob),
          ...(why !== undefined && { reasonString: why }),
        };
        expect(decodeAfterConnect(4, old)).toEqual([
          { kind: 'ack', type: ack.type, packetId: messageId, reasonCode: 0 },
        ]);
        expect(
          decodeAfterConnect(
            5,
            wire,
            encode({ cmd: 'auth', reasonCode: 0x18, properties: auth }, 5),
            encode(
              { cmd: 'disconnect', reasonCode: 4, properties: { sessionExpiryInterval: pick } },
              5,
            ),
          ),
        ).toEqual([
          { kind: 'ack', type: ack.type, packetId: messageId, reasonCode },
          { kind: 'auth', reasonCode: 0x18, ...auth, authenticationData: blob },
          { kind: 'disconnect', reasonCode: 4, sessionExpiryInterval: pick },
        ]);
      },
    ),
    { numRuns: 500 },
  );
});

test('a packet of many small user properties is decoded in one pass', () => {
  const pair = bytes(0x26, 0, 1, 0x61, 0, 1, 0x62);
  const count = 100_000;
  const props = new Uint8Array(pair.length * count);
  for (let i = 0; i < count; i++) props.set(pair, i * pair.length);
  const length = bytes(
    (props.length & 0x7f) | 0x80,
    ((props.length >> 7) & 0x7f) | 0x80,
    props.length >> 14,
  );
  const recorder = new Recorder();
  const decoder = newDecoder(recorder);
  decoder.push(connect(5), 0, connect(5).length);
  const remaining = 2 + length.length + props.length + 4;
  const header = bytes(
    0x82,
    (remaining & 0x7f) | 0x80,
    ((remaining >> 7) & 0x7f) | 0x80,
    remaining >> 14,
    0,
    1,
    length,
  );
  for (const part of [header, props, bytes(0, 1, 'a', 0)]) decoder.push(part, 0, part.length);
  const [, subscribe] = recorder.events;
  expect(subscribe?.kind === 'subscribe' && subscribe.userProperties?.length).toBe(count);
});

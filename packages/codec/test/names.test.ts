import { expect, test } from '@jest/globals';
import { ProtocolError, TopicTable } from '@shoalmq/core';
import {
  decodePublishProperties,
  encodePublishProperties,
  topicFromName,
  utf8Decode,
  utf8Encode,
} from '@shoalmq/codec';
import fc from 'fast-check';
import { data, name, text } from './arbitraries.ts';
import { bytes, decodeAfterConnect, packet, prefixed, utf8 } from './wire.ts';

function codeOf(call: () => unknown): number {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(ProtocolError);
    return (error as ProtocolError).reasonCode;
  }
  return 0;
}

test('utf8Decode takes what a fatal TextDecoder takes, but for U+0000', () => {
  const fatal = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const nearlyText = fc
    .tuple(fc.string({ unit: 'grapheme' }), fc.nat(), fc.integer({ min: 0, max: 255 }))
    .map(([value, at, byte]) => {
      const encoded = utf8(value);
      if (encoded.length > 0) encoded[at % encoded.length] = byte;
      return encoded;
    });
  fc.assert(
    fc.property(fc.oneof(nearlyText, fc.uint8Array({ maxLength: 6 })), (input) => {
      let expected: string | undefined;
      try {
        expected = fatal.decode(input);
      } catch {
        // Ill-formed.
      }
      if (expected === undefined || expected.includes('\0')) {
        expect(codeOf(() => utf8Decode(input))).toBe(0x81);
      } else {
        expect(utf8Decode(input)).toBe(expected);
        expect(utf8Encode(expected)).toEqual(input);
      }
    }),
    { numRuns: 3000 },
  );
});

test('every code point is taken or refused as it must be', () => {
  for (let code = 1; code <= 0x10ffff; code += code < 0x3000 || code > 0xd700 ? 1 : 7) {
    if (code === 0xe100) code = 0xf900;
    if (code === 0x10100) code = 0x1ff00;
    if (code === 0x20100) code = 0x10ff00;
    if (code >= 0xd800 && code <= 0xdfff) continue;
    const character = String.fromCodePoint(code);
    if (utf8Decode(utf8(character)) !== character) throw new Error(`U+${code.toString(16)}`);
  }
});

test('a topic from a name is checked and interned', () => {
  const topics = new TopicTable(64);
  const topic = topicFromName(topics, 'a/é');
  expect(topic.name).toBe('a/é');
  expect(topic.bytes).toEqual(utf8('a/é'));
  expect(topicFromName(topics, 'a/é')).toBe(topic);
  expect(codeOf(() => topicFromName(topics, ''))).toBe(0x82);
  expect(codeOf(() => topicFromName(topics, 'a/#'))).toBe(0x90);
  expect(codeOf(() => topicFromName(topics, 'a\0'))).toBe(0x81);
  expect(codeOf(() => topicFromName(topics, 'a\n'))).toBe(0x81);
  expect(codeOf(() => topicFromName(topics, 'x'.repeat(65_536)))).toBe(0x81);
  expect(codeOf(() => topicFromName(topics, '///', 3))).toBe(0x90);
  topicFromName(topics, '\ufffd');
  expect(codeOf(() => topicFromName(topics, '\ud800'))).toBe(0x81);
});

test('[MQTT-3.3.2-18] decode(encode(properties)) is identity, order kept, and a PUBLISH may have them', () => {
  const properties = fc.record(
    {
      payloadFormatIndicator: fc.constantFrom(0 as const, 1 as const),
      contentType: text,
      responseTopic: name,
      correlationData: data,
      userProperties: fc.array(
        fc.tuple(fc.oneof(text, fc.constantFrom('__proto__', 'toString', 'a', 'b')), text),
        { minLength: 1, maxLength: 5 },
      ),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(properties, (value) => {
      const encoded = encodePublishProperties(value);
      expect(decodePublishProperties(encoded)).toEqual(value);
      const length = encoded.length;
      const wire = packet(
        0x30,
        prefixed('a'),
        length < 128 ? bytes(length) : bytes((length & 0x7f) | 0x80, length >> 7),
        encoded,
      );
      expect(decodeAfterConnect(5, wire)).toMatchObject([
        { properties: Buffer.from(encoded).toString('hex') },
      ]);
    }),
  );
});

test('decoded properties do not refer to the bytes', () => {
  const encoded = Buffer.from(encodePublishProperties({ correlationData: bytes(1, 2, 3) }));
  const { correlationData } = decodePublishProperties(encoded);
  encoded.fill(0);
  expect(correlationData).toEqual(bytes(1, 2, 3));
});

test('bytes that are not properties of a message, and values too large', () => {
  expect(codeOf(() => decodePublishProperties(bytes(0x02, 0, 0, 0, 1)))).toBe(0x82);
  expect(codeOf(() => decodePublishProperties(bytes(0x03, 0)))).toBe(0x81);
  expect(() => encodePublishProperties({ contentType: 'x'.repeat(65_536) })).toThrow(RangeError);
});

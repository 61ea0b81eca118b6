import fc from 'fast-check';
import type { Arbitrary } from 'fast-check';
import { bytes, connect, packet, prefixed, properties, utf8, varint } from './wire.ts';

/** Strings that are valid anywhere in MQTT, topic names included. */
export const name: Arbitrary<string> = fc.oneof(
  fc.constantFrom('a', 'a/b', '$SYS/x', '__proto__', '/', '\ufeffx', 'é/日本/😀'),
  fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
    .filter((text) => allowedInNames(text) && !text.includes('+') && !text.includes('#')),
);

/** Strings that are valid where nothing is named. */
export const text: Arbitrary<string> = fc
  .string({ unit: 'grapheme', maxLength: 20 })
  .filter((value) => !value.includes('\0') && isWellFormed(value));

export const data: Arbitrary<Uint8Array> = fc.uint8Array({ maxLength: 40 });
export const packetId = fc.integer({ min: 1, max: 65_535 });
export const qos = fc.constantFrom(0 as const, 1 as const, 2 as const);
export const version = fc.constantFrom(3 as const, 4 as const, 5 as const);
export const seconds = fc.integer({ min: 0, max: 0xffff_ffff });

/** Valid packets, as bytes, of a 5.0 connection after its CONNECT. */
export const validPacket5: Arbitrary<Uint8Array> = fc.oneof(
  fc
    .tuple(
      name,
      packetId,
      data,
      qos,
      fc.boolean(),
      fc.array(fc.tuple(text, text), { maxLength: 3 }),
    )
    .map(([topic, id, payload, level, retain, pairs]) =>
      packet(
        0x30 | (level << 1) | (retain ? 1 : 0),
        prefixed(topic),
        level === 0 ? '' : bytes(id >> 8, id & 0xff),
        properties(...pairs.map(([key, value]) => bytes(0x26, prefixed(key), prefixed(value)))),
        payload,
      ),
    ),
  fc
    .tuple(fc.constantFrom(0x40, 0x50, 0x62, 0x70), packetId, fc.boolean())
    .map(([first, id, long]) =>
      packet(first, id >> 8, id & 0xff, long ? bytes(0, properties(0x1f, prefixed('why'))) : ''),
    ),
  fc
    .tuple(packetId, fc.array(fc.tuple(name, qos), { minLength: 1, maxLength: 3 }))
    .map(([id, filters]) =>
      packet(
        0x82,
        id >> 8,
        id & 0xff,
        properties(0x0b, varint(id)),
        ...filters.map(([filter, level]) => bytes(prefixed(filter), level)),
      ),
    ),
  fc
    .tuple(packetId, name)
    .map(([id, filter]) => packet(0xa2, id >> 8, id & 0xff, properties(), prefixed(filter))),
  fc.constantFrom(packet(0xc0), packet(0xe0), packet(0xf0, 0x18, properties(0x15, prefixed('m')))),
);

/** A 5.0 connection: CONNECT and valid packets. */
export const validStream5: Arbitrary<Uint8Array> = fc
  .array(validPacket5, { maxLength: 6 })
  .map((packets) => bytes(connect(5), ...packets));

/** Streams that begin like MQTT and go wrong somewhere, or do not even begin like it. */
export const anyStream: Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ maxLength: 60 }),
  validStream5,
  // A byte changed.
  fc.tuple(validStream5, fc.nat(), fc.integer({ min: 0, max: 255 })).map(([stream, at, value]) => {
    const mutated = stream.slice();
    mutated[at % mutated.length] = value;
    return mutated;
  }),
  // Bytes cut out.
  fc
    .tuple(validStream5, fc.nat(), fc.integer({ min: 1, max: 5 }))
    .map(([stream, at, count]) =>
      bytes(stream.slice(0, at % stream.length), stream.slice((at % stream.length) + count)),
    ),
  // Well framed nonsense.
  fc
    .tuple(
      version,
      fc.array(
        fc
          .tuple(fc.integer({ min: 0, max: 255 }), fc.uint8Array({ maxLength: 20 }))
          .map(([first, body]) => packet(first, body)),
        { minLength: 1, maxLength: 4 },
      ),
    )
    .map(([level, packets]) => bytes(connect(level), ...packets)),
);

function allowedInNames(value: string): boolean {
  if (!isWellFormed(value)) return false;
  for (const character of value) {
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return false;
    if ((code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) === 0xfffe) return false;
  }
  return utf8(value).length > 0;
}

function isWellFormed(value: string): boolean {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(utf8(value)) === value;
}

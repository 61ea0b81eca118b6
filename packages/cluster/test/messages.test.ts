import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { fileURLToPath } from 'node:url';
import {
  FRAME_HEADER_BYTES_MAX,
  decodeReply,
  decodeRequest,
  encodeEmptyFrame,
  encodeHello,
  encodeHelloFrame,
  encodeProof,
  encodeReply,
  writeFrameHeader,
} from '../src/link/messages.ts';
import type { Hello, Reply, Refusal } from '../src/link/messages.ts';
import { LINK_PATH } from '../src/link/service.ts';

/*
 * The hand-written encoding against protobufjs, which reads proto/peer.proto itself.
 */

const root = await protobuf.load(
  fileURLToPath(new URL('../../../proto/peer.proto', import.meta.url)),
);
const Frame = root.lookupType('shoal.peer.v1.Frame');
const ReplyType = root.lookupType('shoal.peer.v1.Reply');
const asNumbers: protobuf.IConversionOptions = { longs: Number, enums: Number, defaults: true };

/** In the order of their numbers in peer.proto. */
const REFUSALS: readonly Refusal[] = [
  'malformed',
  'version',
  'wrong_receiver',
  'unauthenticated',
  'not_admitted',
  'stale',
  'forgotten',
  'busy',
];

const natural = fc.oneof(fc.nat(), fc.integer({ min: 0, max: 3 }), fc.maxSafeNat());
const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
const bytes = fc.uint8Array({ maxLength: 300 });
const node = fc.record({
  id: fc.string({ unit: 'grapheme', maxLength: 20 }),
  incarnation: fc.string({ maxLength: 20 }),
});
const hello: fc.Arbitrary<Hello> = fc.record({
  versionMajor: uint32,
  versionMinor: uint32,
  sender: node,
  receiver: node,
  link: uint32,
  attempt: uint32,
  acknowledged: natural,
  nonce: bytes,
});
const header = fc.record({
  sequence: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  count: uint32,
  dropped: uint32,
  missed: uint32,
  continues: fc.boolean(),
  urgent: fc.boolean(),
});
const reply: fc.Arbitrary<Exclude<Reply, { kind: 'malformed' }>> = fc.oneof(
  fc.record({ kind: fc.constant('challenge' as const), nonce: bytes }),
  fc.record({ kind: fc.constant('welcome' as const), received: natural, proof: bytes }),
  fc.record({
    kind: fc.constant('refused' as const),
    refusal: fc.constantFrom(...REFUSALS),
  }),
  fc.record({ kind: fc.constant('acknowledged' as const), acknowledged: natural }),
);

test('the path is that of the method in peer.proto', () => {
  const service = root.lookupService('shoal.peer.v1.Peer');
  const method = service.methods['Link'];

  expect(LINK_PATH).toBe(`/shoal.peer.v1.${service.name}/${String(method?.name)}`);
  expect(method).toMatchObject({
    requestStream: true,
    responseStream: true,
    requestType: 'Frame',
    responseType: 'Reply',
  });
});

test('a frame with items is what protobufjs writes for it, byte for byte', () => {
  fc.assert(
    fc.property(header, bytes, (fields, items) => {
      const buffer = new Uint8Array(FRAME_HEADER_BYTES_MAX + items.length);
      buffer.set(items, FRAME_HEADER_BYTES_MAX);
      const start = writeFrameHeader(buffer, FRAME_HEADER_BYTES_MAX, items.length, fields);

      expect(Buffer.from(buffer.subarray(start))).toEqual(encodeWithProtobufjs(fields, items));
    }),
  );
});

test('a frame without items is what protobufjs writes for it', () => {
  fc.assert(
    fc.property(header, (fields) => {
      expect(encodeEmptyFrame(fields)).toEqual(encodeWithProtobufjs(fields, new Uint8Array(0)));
    }),
  );
});

test('the largest header fits where there is room for it', () => {
  const fields = {
    sequence: Number.MAX_SAFE_INTEGER,
    count: 0xffff_ffff,
    dropped: Number.MAX_SAFE_INTEGER,
    missed: 0xffff_ffff,
    continues: true,
    urgent: true,
  };
  const start = writeFrameHeader(
    new Uint8Array(FRAME_HEADER_BYTES_MAX),
    FRAME_HEADER_BYTES_MAX,
    0xffff_ffff,
    fields,
  );

  expect(start).toBeGreaterThanOrEqual(0);
});

test('a frame that protobufjs wrote is read', () => {
  fc.assert(
    fc.property(header, bytes, (fields, items) => {
      const request = decodeRequest(encodeWithProtobufjs(fields, items));

      expect(request).toMatchObject({ kind: 'frame', ...fields });
      if (request.kind !== 'frame') return;
      expect(request.bytes.slice(request.start, request.end)).toEqual(items);
    }),
  );
});

test('a Hello is read by protobufjs, and by us as it was and with its own bytes', () => {
  fc.assert(
    fc.property(hello, (fields) => {
      const helloBytes = encodeHello(fields);
      const frame = encodeHelloFrame(helloBytes);

      const theirs = Frame.toObject(Frame.decode(frame), asNumbers);
      expect(theirs['hello']).toMatchObject({
        ...fields,
        sender: fields.sender,
        nonce: Buffer.from(fields.nonce),
      });
      expect(decodeRequest(frame)).toEqual({
        kind: 'hello',
        hello: { ...fields, nonce: Buffer.from(fields.nonce) },
        helloBytes,
      });
    }),
  );
});

test('a proof is read by protobufjs and by us', () => {
  fc.assert(
    fc.property(bytes, (proof) => {
      const frame = encodeProof(proof);

      expect(Frame.toObject(Frame.decode(frame))['proof']).toEqual(
        proof.length === 0 ? {} : { proof: Buffer.from(proof) },
      );
      expect(decodeRequest(frame)).toEqual({ kind: 'proof', proof: Buffer.from(proof) });
    }),
  );
});

test('a reply is read by protobufjs and by us', () => {
  fc.assert(
    fc.property(reply, (fields) => {
      const encoded = encodeReply(fields);
      const theirs = ReplyType.toObject(ReplyType.decode(encoded), { ...asNumbers, enums: String });

      if (fields.kind === 'acknowledged') {
        if (fields.acknowledged === 0) return; // says nothing
        expect(theirs['acknowledged']).toBe(fields.acknowledged);
      } else if (fields.kind === 'refused') {
        expect(theirs['refused']).toEqual({ reason: `REASON_${fields.refusal.toUpperCase()}` });
      } else if (fields.kind === 'challenge') {
        expect(theirs['challenge']).toEqual({ nonce: Buffer.from(fields.nonce) });
      } else {
        expect(theirs['welcome']).toEqual({
          received: fields.received,
          proof: Buffer.from(fields.proof),
        });
      }
      expect(decodeReply(encoded)).toEqual(fields);
    }),
  );
});

test('fields that this version does not know are skipped', () => {
  const known = encodeEmptyFrame({
    sequence: 7,
    count: 0,
    dropped: 3,
    missed: 0,
    continues: false,
    urgent: true,
  });
  const unknown = protobuf.Writer.create()
    .uint32((100 << 3) | 0)
    .uint64(12)
    .uint32((101 << 3) | 1)
    .fixed64(12)
    .uint32((102 << 3) | 2)
    .string('later')
    .uint32((103 << 3) | 5)
    .fixed32(12)
    .finish();

  expect(decodeRequest(Buffer.concat([unknown, known, unknown]))).toMatchObject({
    kind: 'frame',
    sequence: 7,
    dropped: 3,
    urgent: true,
  });
});

test('arbitrary bytes are a message or malformed, and never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
      decodeRequest(noise);
      decodeReply(noise);
    }),
    { numRuns: 5_000 },
  );
});

test('a message that was cut off is malformed', () => {
  const whole = encodeHelloFrame(
    encodeHello({
      versionMajor: 1,
      versionMinor: 2,
      sender: { id: 'alice', incarnation: 'a1' },
      receiver: { id: 'bob', incarnation: 'b1' },
      link: 1,
      attempt: 1,
      acknowledged: 0,
      nonce: new Uint8Array(16),
    }),
  );

  for (let length = 1; length < whole.length; length++) {
    expect(decodeRequest(whole.subarray(0, length))).toEqual({ kind: 'malformed' });
  }
});

function encodeWithProtobufjs(fields: Record<string, unknown>, items: Uint8Array): Buffer {
  const withoutDefaults = Object.fromEntries(
    Object.entries<unknown>({ ...fields, items }).filter(
      ([, value]) =>
        value !== 0 && value !== false && !(value instanceof Uint8Array && value.length === 0),
    ),
  );
  return Buffer.from(Frame.encode(Frame.fromObject(withoutDefaults)).finish());
}

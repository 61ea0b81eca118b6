import { expect, test } from '@jest/globals';
import { ProtocolError } from '@shoalmq/core';
import fc from 'fast-check';
import { anyStream, validStream5 } from './arbitraries.ts';
import { Recorder, bytes, connect, newDecoder, packet, prefixed, properties } from './wire.ts';
import type { Event } from './wire.ts';

/** Pushes through one read buffer that is overwritten after each call, as a socket's is. */
function decodeInChunks(stream: Uint8Array, sizes: readonly number[]): Event[] {
  const recorder = new Recorder();
  const decoder = newDecoder(recorder, { packetBytesMax: 4096, connectBytesMax: 1024 });
  const readBuffer = new Uint8Array(stream.length + 8);
  let position = 0;
  for (let i = 0; position < stream.length; i++) {
    const size = Math.min(sizes[i % sizes.length] ?? 1, stream.length - position);
    readBuffer.fill(0xee);
    readBuffer.set(stream.subarray(position, position + size), 3);
    decoder.push(readBuffer, 3, 3 + size);
    position += size;
  }
  expect(recorder.errors.length).toBeLessThanOrEqual(1);
  for (const error of recorder.errors) expect(error).toBeInstanceOf(ProtocolError);
  return recorder.events;
}

const chunkSizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 });

test('any bytes at any chunking: packets or one ProtocolError, the same at each', () => {
  fc.assert(
    fc.property(anyStream, chunkSizes, (stream, sizes) => {
      const whole = decodeInChunks(stream, [Math.max(1, stream.length)]);
      expect(decodeInChunks(stream, sizes)).toEqual(whole);
      expect(decodeInChunks(stream, [1])).toEqual(whole);
    }),
    { numRuns: 600 },
  );
});

test('a pause at any packet changes nothing but the time', () => {
  fc.assert(
    fc.property(anyStream, chunkSizes, fc.integer({ min: 1, max: 3 }), (stream, sizes, every) => {
      const recorder = new Recorder();
      const decoder = newDecoder(recorder, { packetBytesMax: 4096, connectBytesMax: 1024 });
      let packets = 0;
      recorder.afterPacket = () => {
        packets += 1;
        recorder.decodingPaused = packets % every === 0;
      };
      let position = 0;
      for (let i = 0; position < stream.length; i++) {
        const size = Math.min(sizes[i % sizes.length] ?? 1, stream.length - position);
        decoder.push(stream.slice(position, position + size), 0, size);
        position += size;
        // Sometimes more bytes come before the pause ends.
        if (i % 2 === 0) continue;
        const before = recorder.events.length;
        recorder.decodingPaused = false;
        decoder.resume();
        expect(recorder.events.length - before).toBeLessThanOrEqual(every + 1);
      }
      for (let i = 0; i <= stream.length && recorder.decodingPaused; i++) {
        recorder.decodingPaused = false;
        decoder.resume();
      }
      expect(recorder.events).toEqual(decodeInChunks(stream, [Math.max(1, stream.length)]));
    }),
    { numRuns: 300 },
  );
});

test('a stream cut at any offset gives the packets before the cut and waits', () => {
  fc.assert(
    fc.property(validStream5, (stream) => {
      const whole = decodeInChunks(stream, [stream.length]);
      for (let end = 0; end < stream.length; end++) {
        const cut = decodeInChunks(stream.subarray(0, end), [Math.max(1, end)]);
        expect(cut).toEqual(whole.slice(0, cut.length));
        expect(cut.every((event) => event.kind !== 'error')).toBe(true);
      }
    }),
    { numRuns: 40 },
  );
});

test('a packet cut at any offset, with a remaining length to match, is refused or another packet', () => {
  fc.assert(
    fc.property(anyStream, (stream) => {
      const body = stream.subarray(2);
      for (const first of [0x10, 0x30, 0x32, 0x40, 0x62, 0x82, 0xa2, 0xe0, 0xf0]) {
        for (let end = 0; end <= Math.min(body.length, 40); end++) {
          const events = decodeInChunks(
            bytes(first === 0x10 ? '' : connect(5), packet(first, body.subarray(0, end))),
            [10_000],
          );
          expect(events).toHaveLength(first === 0x10 ? 1 : 2);
        }
      }
    }),
    { numRuns: 50 },
  );
});

test('the batch ends once per push, with its packets and the bytes that wait', () => {
  const recorder = new Recorder();
  const decoder = newDecoder(recorder);
  const publish = packet(0x30, prefixed('a'), properties(), 'payload');
  const push = (...pieces: Uint8Array[]) => {
    const input = bytes(...pieces);
    decoder.push(input, 0, input.length);
  };
  push(connect(5));
  push(publish, publish, publish.subarray(0, 5));
  push(publish.subarray(5, 7));
  push(publish.subarray(7), packet(0xc0));
  push();
  decoder.resume();
  expect(recorder.batches).toEqual([
    [1, 0],
    [2, 5],
    [0, 7],
    [2, 0],
    [0, 0],
    [0, 0],
  ]);
});

test('[MQTT-3.2.2-15] an announcement of a megabyte holds few bytes, and no more than twice what came', () => {
  const recorder = new Recorder();
  const decoder = newDecoder(recorder, { packetBytesMax: 1_000_000 });
  decoder.push(connect(4), 0, connect(4).length);
  expect(decoder.heldBytes).toBe(0);
  const size = 1_000_000 - 4;
  const header = bytes(0x30, (size & 0x7f) | 0x80, ((size >> 7) & 0x7f) | 0x80, size >> 14);
  decoder.push(header, 0, header.length);
  expect(decoder.heldBytes).toBeLessThanOrEqual(64);
  const chunk = new Uint8Array(1000).fill(0x61);
  chunk.set([0, 1]);
  for (let received = header.length; received < 1_000_000; received += 1000) {
    const count = Math.min(1000, 1_000_000 - received);
    decoder.push(chunk, 0, count);
    chunk.fill(0x61);
    expect(decoder.heldBytes).toBeLessThanOrEqual(Math.min(1_000_000, 2 * (received + count)));
  }
  expect(recorder.events).toHaveLength(2);
  expect(recorder.events[1]).toMatchObject({ kind: 'publish', topic: 'a' });
  expect(decoder.heldBytes).toBe(0);
});

test('during a pause everything is kept; after it, in order', () => {
  const recorder = new Recorder();
  const decoder = newDecoder(recorder);
  recorder.afterPacket = () => {
    recorder.decodingPaused = recorder.events.length === 1;
  };
  const publish = packet(0x30, prefixed('a'), 'x');
  const input = bytes(connect(4), packet(0xc0), publish.subarray(0, 2));
  decoder.push(input, 0, input.length);
  input.fill(0);
  decoder.push(publish, 2, publish.length);
  decoder.resume();
  expect(recorder.events.map((event) => event.kind)).toEqual(['connect']);
  recorder.decodingPaused = false;
  decoder.resume();
  expect(recorder.events.map((event) => event.kind)).toEqual(['connect', 'pingreq', 'publish']);
  expect(recorder.batches).toEqual([
    [1, 0],
    [0, 0],
    [0, 0],
    [2, 0],
  ]);
  expect(decoder.heldBytes).toBe(0);
});

test('a handler may pause, resume and close from within a call', () => {
  const recorder = new Recorder();
  const decoder = newDecoder(recorder);
  recorder.afterPacket = () => {
    if (recorder.events.length === 1) {
      recorder.decodingPaused = true;
      recorder.decodingPaused = false;
      decoder.resume();
    }
    if (recorder.events.length === 3) decoder.close();
  };
  const input = bytes(connect(4), packet(0xc0), packet(0xc0), packet(0xc0), 0x30);
  decoder.push(input, 0, input.length);
  decoder.push(input, 0, input.length);
  expect(recorder.events).toHaveLength(3);
  expect(recorder.batches).toEqual([[3, 0]]);
  expect(decoder.heldBytes).toBe(0);
});

test('close drops what is kept', () => {
  const recorder = new Recorder();
  const decoder = newDecoder(recorder);
  const input = bytes(connect(4), 0x30, 100, 0, 1);
  decoder.push(input, 0, input.length);
  expect(decoder.heldBytes).toBeGreaterThan(0);
  decoder.close();
  decoder.push(packet(0xc0), 0, 2);
  decoder.resume();
  expect(decoder.heldBytes).toBe(0);
  expect(recorder.batches).toHaveLength(1);
});

test('what a handler throws comes out of push and ends the decoder', () => {
  const recorder = new Recorder();
  const decoder = newDecoder(recorder);
  recorder.afterPacket = () => {
    throw new Error('broken handler');
  };
  expect(() => decoder.push(connect(4), 0, connect(4).length)).toThrow('broken handler');
  decoder.push(packet(0xc0), 0, 2);
  expect(recorder.events).toHaveLength(1);
  expect(recorder.errors).toEqual([]);
});

import { expect, test } from '@jest/globals';

import { Publisher } from '../src/load/publisher.ts';
import type { RawClient } from '../src/raw-client.ts';
import { SequenceChecker } from '../src/sequence-checker.ts';
import type { Qos } from '../src/wire.ts';

const TOPIC_BYTES = 1;

/** A publisher on a client that keeps what is written, and the checker of its subscriber. */
function setUp(qos: Qos) {
  const written: Buffer[] = [];
  const answered: number[] = [];
  const fake = {
    pendingBytes: 0,
    receiveMaximum: 65_535,
    write: (bytes: Uint8Array) => written.push(Buffer.from(bytes)),
    acknowledge: (_firstByte: number, packetId: number) => answered.push(packetId),
  };
  const watcher = new SequenceChecker();
  const publisher = new Publisher({
    index: 7,
    topics: ['t'],
    payloadBytes: 16,
    qos,
    level: 4,
    window: 4,
    watchers: [watcher],
  });
  publisher.client = fake as unknown as RawClient;
  const receive = (firstByte: number, packetId: number): void => {
    const body = new DataView(Uint8Array.of(packetId >>> 8, packetId & 0xff).buffer);
    publisher.packet(body, firstByte, 0, 2);
  };
  return { publisher, watcher, written, answered, fake, receive };
}

test('at QoS 0 the window opens by delivery, and the ring wraps with rising sequence numbers', () => {
  const { publisher, watcher, written } = setUp(0);
  expect(publisher.send(1, 100)).toBe(4);
  expect(publisher.send(1, 100)).toBe(0);
  for (const sequence of [0, 1, 2]) watcher.accept(sequence);
  expect(publisher.send(2, 2)).toBe(2);
  expect(publisher.send(3, 100)).toBe(1);
  const packetBytes = 2 + 2 + TOPIC_BYTES + 16;
  const sent = Buffer.concat(written);
  const payloads = Array.from({ length: 7 }, (_, index) =>
    sent.subarray(index * packetBytes + packetBytes - 16, (index + 1) * packetBytes),
  );
  expect(payloads.map((payload) => payload.readUInt32BE(0))).toEqual(Array(7).fill(7));
  expect(payloads.map((payload) => payload.readUInt32BE(4))).toEqual([0, 1, 2, 3, 4, 5, 6]);
  expect(payloads.map((payload) => payload.readDoubleBE(8))).toEqual([1, 1, 1, 1, 2, 2, 3]);
});

test('at QoS 1 acknowledgement and delivery are both needed, in any order of ids', () => {
  const { publisher, watcher, receive } = setUp(1);
  publisher.send(1, 100);
  for (const sequence of [0, 1, 2, 3]) watcher.accept(sequence);
  expect(publisher.unsettled).toBe(4);
  receive(0x40, 2);
  expect(publisher.unsettled).toBe(4);
  receive(0x40, 1);
  expect(publisher.unsettled).toBe(2);
});

test('at QoS 2 PUBREC is answered and PUBCOMP settles', () => {
  const { publisher, watcher, receive, answered } = setUp(2);
  publisher.send(1, 1);
  watcher.accept(0);
  receive(0x50, 1);
  expect(answered).toEqual([1]);
  expect(publisher.unsettled).toBe(1);
  receive(0x70, 1);
  expect(publisher.unsettled).toBe(0);
});

test('what is lost can be given up, but not while the kernel still holds bytes of it', () => {
  const { publisher, fake } = setUp(1);
  publisher.send(1, 100);
  fake.pendingBytes = 1;
  expect(publisher.giveUp()).toBe(false);
  fake.pendingBytes = 0;
  expect(publisher.giveUp()).toBe(true);
  expect(publisher.send(2, 100)).toBe(4);
});

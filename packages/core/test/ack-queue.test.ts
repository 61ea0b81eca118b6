import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { AckQueue } from '../src/connection/ack-queue.ts';
import type { AckSlot } from '../src/connection/ack-queue.ts';
import { AckType } from '../src/packet.ts';

function recording(): { queue: AckQueue; written: string[] } {
  const written: string[] = [];
  const queue = new AckQueue(({ type, packetId, reasonCode }) => {
    written.push(`${type}/${packetId}/${reasonCode}`);
  });
  return { queue, written };
}

test('an acknowledgement waits for those before it', () => {
  const { queue, written } = recording();
  const first = queue.push(AckType.Puback, 1, 0);
  const second = queue.push(AckType.Pubrec, 2, 0);
  const third = queue.push(AckType.Puback, 3, 0);
  queue.settle(second, 0x10);
  queue.settle(third, 0);
  expect(written).toEqual([]);
  expect(queue.length).toBe(3);
  queue.settle(first, 0x97);
  expect(written).toEqual(['4/1/151', '5/2/16', '4/3/0']);
  expect(queue.length).toBe(0);
});

test('what comes after a settled one does not wait for it', () => {
  const { queue, written } = recording();
  queue.settle(queue.push(AckType.Puback, 1, 0), 0);
  expect(written).toEqual(['4/1/0']);
  const slow = queue.push(AckType.Puback, 2, 0);
  queue.settle(queue.push(AckType.Puback, 3, 0), 0);
  expect(written).toEqual(['4/1/0']);
  queue.settle(slow, 0);
  expect(written).toEqual(['4/1/0', '4/2/0', '4/3/0']);
});

test('those of QoS 1 that wait are counted', () => {
  const { queue } = recording();
  const first = queue.push(AckType.Puback, 1, 0);
  const second = queue.push(AckType.Pubrec, 2, 0);
  const third = queue.push(AckType.Puback, 3, 0);
  expect(queue.pubacks).toBe(2);
  queue.settle(third, 0);
  queue.settle(second, 0);
  expect(queue.pubacks).toBe(2);
  queue.settle(first, 0);
  expect(queue.pubacks).toBe(0);
});

test('in whatever order they are settled, they are written in the order they were pushed, and as soon as may be', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ push: fc.boolean(), pick: fc.nat() }), { maxLength: 100 }),
      (steps) => {
        const { queue, written } = recording();
        const slots: AckSlot[] = [];
        const open: number[] = [];
        for (const { push, pick } of steps) {
          if (push || open.length === 0) {
            open.push(slots.length);
            slots.push(queue.push(AckType.Puback, slots.length, 0));
          } else {
            const [index] = open.splice(pick % open.length, 1);
            queue.settle(slots[index!]!, index! % 2);
          }
          const settled = Math.min(slots.length, ...open);
          expect(written).toEqual(Array.from({ length: settled }, (_, i) => `4/${i}/${i % 2}`));
          expect(queue.length).toBe(slots.length - settled);
        }
      },
    ),
  );
});

import { expect, test } from '@jest/globals';
import { PendingPublish } from '../src/delivery/pending-publish.ts';

test('parts that are settled before the end leave nothing to wait for', () => {
  const pending = new PendingPublish();
  pending.expect();
  pending.settle();
  expect(pending.seal()).toBe(true);
  let done = 0;
  pending.whenDone(() => (done += 1));
  expect(done).toBe(1);
});

test('it is done once, when the last part is', () => {
  const pending = new PendingPublish();
  pending.expect();
  pending.expect();
  expect(pending.seal()).toBe(false);
  let done = 0;
  pending.whenDone(() => (done += 1));
  pending.settle();
  expect(done).toBe(0);
  pending.settle();
  expect(done).toBe(1);
});

test('one part that failed fails all, one that was refused gives its reason', () => {
  const pending = new PendingPublish();
  expect(pending.failed).toBe(false);
  expect(pending.reasonCode).toBe(0);
  pending.refuse(0x97);
  pending.fail();
  expect(pending.failed).toBe(true);
  expect(pending.reasonCode).toBe(0x97);
});

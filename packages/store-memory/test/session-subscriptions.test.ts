import { expect, test } from '@jest/globals';
import type { StoredSubscription } from '@shoalmq/core';
import { SessionSubscriptions } from '../src/session-subscriptions.ts';

test('what was set is what is there, for every combination of options', () => {
  const expected: StoredSubscription[] = [];
  for (const qos of [0, 1, 2] as const) {
    for (const retainHandling of [0, 1, 2] as const) {
      for (const noLocal of [false, true]) {
        for (const retainAsPublished of [false, true]) {
          for (const subscriptionIdentifier of [0, 1, 2 ** 25, 268_435_455]) {
            const filter = `filter/${expected.length}`;
            expected.push({
              filter,
              qos,
              noLocal,
              retainAsPublished,
              retainHandling,
              subscriptionIdentifier,
            });
          }
        }
      }
    }
  }
  const subscriptions = new SessionSubscriptions();
  for (const subscription of expected) subscriptions.set(subscription);

  expect(subscriptions.all()).toEqual(expected);
});

test('a subscription with the same filter replaces the other, and a deleted one is gone', () => {
  const plain: StoredSubscription = {
    filter: 'a',
    qos: 2,
    noLocal: true,
    retainAsPublished: true,
    retainHandling: 2,
    subscriptionIdentifier: 7,
  };
  const subscriptions = new SessionSubscriptions();
  subscriptions.set(plain);
  subscriptions.set({ ...plain, filter: 'b' });
  subscriptions.set({ ...plain, qos: 0, subscriptionIdentifier: 0 });
  subscriptions.delete('b');

  expect(subscriptions.all()).toEqual([{ ...plain, qos: 0, subscriptionIdentifier: 0 }]);
});

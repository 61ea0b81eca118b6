import { expect, test } from '@jest/globals';
import { GivenUids } from '../src/delivery/given-uids.ts';

test('a message is given once to each, until its uid is settled', () => {
  const given = new GivenUids();
  expect(given.add('u', '')).toBe(true);
  expect(given.add('u', '$share/g/t')).toBe(true);
  expect(given.add('u', '')).toBe(false);
  expect(given.add('u', '$share/g/t')).toBe(false);
  expect(given.add('v', '')).toBe(true);
  given.settle('u');
  given.settle('unknown');
  expect(given.size).toBe(1);
  expect(given.add('u', '')).toBe(true);
  expect(given.add('v', '')).toBe(false);
});

test('uids that nobody settles are bounded: the oldest go', () => {
  const given = new GivenUids(3);
  for (const uid of ['a', 'b', 'c', 'd']) given.add(uid, '');
  expect(given.size).toBe(3);
  expect(given.add('d', '')).toBe(false);
  expect(given.add('b', '')).toBe(false);
  expect(given.add('a', '')).toBe(true);
});

import { expect, test } from '@jest/globals';

import { SequenceChecker } from '../src/sequence-checker.ts';

function check(...sequences: number[]): SequenceChecker {
  const checker = new SequenceChecker();
  for (const sequence of sequences) checker.accept(sequence);
  return checker;
}

test('an unbroken sequence has no losses, duplicates or disorder', () => {
  const checker = check(0, 1, 2, 3);
  expect(checker).toMatchObject({ next: 4, unique: 4, duplicates: 0, outOfOrder: 0 });
  expect(checker.lost(4)).toBe(0);
});

test('what never comes is lost, within the sequence and at its end', () => {
  const checker = check(0, 3);
  expect(checker.lost(6)).toBe(4);
  expect(checker).toMatchObject({ next: 4, unique: 2, duplicates: 0, outOfOrder: 0 });
});

test('what comes after a later one is out of order and not lost', () => {
  const checker = check(0, 2, 1, 3);
  expect(checker).toMatchObject({ unique: 4, duplicates: 0, outOfOrder: 1 });
  expect(checker.lost(4)).toBe(0);
});

test('what comes again is a duplicate, also after it filled a gap', () => {
  const checker = check(0, 2, 1, 1, 2, 0);
  expect(checker).toMatchObject({ next: 3, unique: 3, duplicates: 3, outOfOrder: 1 });
});

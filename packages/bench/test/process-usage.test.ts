import { expect, test } from '@jest/globals';

import { parseMachineBusyUs, parseProcessUsage, parseResidentBytes } from '../src/process-usage.ts';

test('CPU time is read also when the command name holds spaces and parentheses', () => {
  const stat = '42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 11 0 1000 0 0';
  expect(parseProcessUsage(stat)).toEqual({ userUs: 1_230_000, systemUs: 450_000 });
  expect(() => parseProcessUsage('42 (a) S')).toThrow('unexpected');
});

test('the busy time of the machine leaves out idling and waiting for disks', () => {
  expect(parseMachineBusyUs('cpu  1 2 3 400 500 4 5 6 0 0\ncpu0 9 9 9 9\n')).toBe(210_000);
});

test('the resident memory is read in bytes', () => {
  expect(parseResidentBytes('Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n')).toBe(2 ** 21);
  expect(() => parseResidentBytes('Name:\tx\n')).toThrow('VmRSS');
});

import { expect, test } from '@jest/globals';

import { CASES } from '../src/cases.ts';
import { parseOptions } from '../src/options.ts';

test('without arguments all cases, brokers and both payloads are measured three times', () => {
  expect(parseOptions([])).toMatchObject({
    cases: CASES,
    brokers: ['shoal', 'mosquitto', 'aedes'],
    payloads: [64, 1024],
    runs: 3,
    window: 1000,
    level: 4,
    write: false,
  });
});

test('a case is chosen by its name or by the first words of it', () => {
  const options = parseOptions(['--case', 'pair,fan-out-qos1,idle']);
  expect(options?.cases.map((each) => each.name)).toEqual([
    'pair-qos0',
    'pair-qos1',
    'pair-qos2',
    'fan-out-qos1',
    'idle',
  ]);
});

test('--quick sets defaults that other options override', () => {
  expect(parseOptions(['--quick', '--runs', '2'])).toMatchObject({ payloads: [64], runs: 2 });
});

test('what is wrong is named', () => {
  expect(() => parseOptions(['--case', 'pear'])).toThrow('unknown case pear');
  expect(() => parseOptions(['--broker', 'nats'])).toThrow('nats');
  expect(() => parseOptions(['--payload', '8'])).toThrow('--payload');
  expect(() => parseOptions(['--runs', 'many'])).toThrow('--runs');
  expect(() => parseOptions(['--protocol', '3'])).toThrow('--protocol');
  expect(() => parseOptions(['--external', 'x'])).toThrow('--external');
  expect(parseOptions(['--help'])).toBeUndefined();
});

test('a broker that already runs is given by name, port and process', () => {
  expect(parseOptions(['--external', 'relay=1883:42'])?.external).toEqual([
    { name: 'relay', port: 1883, pid: 42 },
  ]);
});

import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseShare } from '../src/topic/share.ts';
import { topicFilter } from './topic-arbitraries.ts';

test.each(['a', '$SYS/#', '$share', '$SHARE/g/t', '$Share/g/t', '$shared/g/t', '/$share/g/t', ''])(
  '%p is not a Shared Subscription',
  (filter) => {
    expect(parseShare(filter)).toBeUndefined();
  },
);

test.each([
  ['$share/g/t', 'g', 't'],
  ['$share/g//', 'g', '/'],
  ['$share/g/#', 'g', '#'],
  ['$share/g/$SYS/#', 'g', '$SYS/#'],
  ['$share/__proto__/constructor', '__proto__', 'constructor'],
  ['$share/$share/t', '$share', 't'],
])('%p is shared by its share name and filter', (filter, share, inner) => {
  expect(parseShare(filter)).toEqual({ share, filter: inner });
});

test.each(['$share/', '$share/g', '$share//t', '$share//'])(
  '[MQTT-4.8.2-1] a share name of at least one character is needed: %p is invalid',
  (filter) => {
    expect(parseShare(filter)).toBe('invalid');
  },
);

test.each([
  '$share/g',
  '$share/g/',
  '$share/+/t',
  '$share/#',
  '$share/#/t',
  '$share/a+/t',
  '$share/a#b/t',
])(
  '[MQTT-4.8.2-2] a share name has no wildcard and is followed by / and a filter: %p is invalid',
  (filter) => {
    expect(parseShare(filter)).toBe('invalid');
  },
);

test('a Shared Subscription inside another is invalid', () => {
  expect(parseShare('$share/g/$share/h/t')).toBe('invalid');
});

test('every filter can be shared', () => {
  fc.assert(
    fc.property(topicFilter, (filter) => {
      expect(parseShare(`$share/g/${filter}`)).toEqual({ share: 'g', filter });
    }),
  );
});

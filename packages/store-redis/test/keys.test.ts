import { expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { slotOf } from '../src/connection/hash-slot.ts';
import { decodeText, encodeText, keysOf } from '../src/keys.ts';

const keys = keysOf('shoal:');

/** All keys of a client id. */
function keysOfClient(clientId: string): readonly string[] {
  const { queue, seen, ...rest } = keys.session(clientId);
  return [...Object.values(rest), queue('i'), seen('i')];
}

const clientId = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('', 'a', 'b', '{', '}', '}x', '{a}', 'a:b', ':', 'a}', 's', 'cQ', '\u0000'),
);

test('different client ids have no key in common', () => {
  fc.assert(
    fc.property(clientId, clientId, (one, other) => {
      fc.pre(one !== other);
      const theirs = new Set(keysOfClient(other));
      expect(keysOfClient(one).filter((key) => theirs.has(key))).toEqual([]);
    }),
  );
});

test('the keys of a client id have one tag, which is never empty and chosen by nobody', () => {
  fc.assert(
    fc.property(clientId, (id) => {
      const all = keysOfClient(id);
      for (const key of all) expect(key).toMatch(/^shoal:\{s[A-Za-z0-9_-]*\}:[a-z-]+(:i)?$/);
      expect(new Set(all).size).toBe(all.length);
      expect(new Set(all.map(slotOf)).size).toBe(1);
    }),
  );
});

test('text comes back from its encoding', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      expect(decodeText(encodeText(text))).toBe(text);
    }),
  );
});

import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { utf8Bytes, utf8Length } from '../src/topic/utf8.ts';

test('agrees with TextEncoder on every string, lone surrogates included', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary' }),
      fc.array(fc.integer({ min: 0, max: 0xffff })),
      (text, units) => {
        for (const each of [
          text,
          String.fromCharCode(...units),
          `${text}\ud83d`,
          `\udc1f${text}`,
        ]) {
          const bytes = utf8Bytes(each);
          expect(bytes).toEqual(new TextEncoder().encode(each));
          expect(utf8Length(each)).toBe(bytes.length);
        }
      },
    ),
  );
});

test('agrees with TextEncoder at the borders of each length, and among surrogates', () => {
  const borders = [
    0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0xe000, 0xffff,
  ];
  const texts = [...borders, 0x10000, 0x10ffff].map((code) => String.fromCodePoint(code));
  for (const first of texts) {
    for (const second of texts) {
      const text = first + second;
      expect(utf8Bytes(text)).toEqual(new TextEncoder().encode(text));
      expect(utf8Length(text)).toBe(utf8Bytes(text).length);
    }
  }
});

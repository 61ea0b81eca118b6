import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { FactDigest } from '../src/route/fact-digest.ts';

const text = fc.string({ maxLength: 6 });
const fact = fc.oneof(
  fc.tuple(fc.constant('node' as const), text, text, fc.nat(3)),
  fc.tuple(fc.constant('session' as const), text, text, fc.nat(3)),
  fc.tuple(fc.constant('retained' as const), text, text, fc.nat(3)),
);
type Fact = typeof fact extends fc.Arbitrary<infer T> ? T : never;

function toggle(digest: FactDigest, [kind, one, other, number]: Fact): void {
  if (kind === 'node') digest.toggleNode({ id: one, incarnation: 'i' }, other, number);
  else if (kind === 'session') digest.toggleSession(one, 'i', other, String(number));
  else digest.toggleRetained(`${one}/${other}/${number}`);
}

function digestOf(facts: readonly Fact[]): Uint32Array {
  const digest = new FactDigest();
  for (const each of facts) toggle(digest, each);
  return digest.sums;
}

test('equal facts have equal sums in whatever order they come, also after others came and went', () => {
  fc.assert(
    fc.property(
      fc.array(fact),
      fc.array(fact),
      fc.infiniteStream(fc.nat()),
      (facts, gone, keys) => {
        const shuffled = facts
          .map((each) => ({ each, key: keys.next().value as number }))
          .sort((a, b) => a.key - b.key)
          .map(({ each }) => each);
        expect(digestOf([...gone, ...shuffled, ...gone])).toEqual(digestOf(facts));
      },
    ),
  );
});

test('facts that differ in anything have other sums', () => {
  const differing: ((digest: FactDigest) => void)[] = [
    (digest) => digest.toggleNode({ id: 'n', incarnation: 'i' }, 'a/b', 1),
    (digest) => digest.toggleNode({ id: 'n', incarnation: 'i' }, 'a/b', 2),
    (digest) => digest.toggleNode({ id: 'n', incarnation: 'j' }, 'a/b', 1),
    (digest) => digest.toggleNode({ id: 'ni', incarnation: '' }, 'a/b', 1),
    (digest) => digest.toggleNode({ id: 'n', incarnation: 'i' }, 'a/c', 1),
    (digest) => digest.toggleSession('c', 'i', 'a/b', '1 0'),
    (digest) => digest.toggleSession('c', 'i', 'a/b', '2 0'),
    (digest) => digest.toggleSession('ci', '', 'a/b', '1 0'),
    (digest) => digest.toggleRetained('a/b'),
    (digest) => digest.toggleRetained('a/c'),
  ];
  const sums = differing.map((change) => {
    const digest = new FactDigest();
    change(digest);
    return digest.sums.join();
  });
  expect(new Set(sums).size).toBe(differing.length);
});

test('names that begin with $ are not shared', () => {
  const digest = new FactDigest();
  digest.toggleRetained('$SYS/broker/uptime');
  expect(digest.sums.every((sum) => sum === 0)).toBe(true);
});

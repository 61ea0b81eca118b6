import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readUid, uidWithAssignment } from '../src/delivery/assignment.ts';
import type { Assignee } from '../src/delivery/assignment.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 20 });
const assignee: fc.Arbitrary<Assignee> = fc.oneof(
  fc.record({ clientId: text, incarnation: text }),
  fc.record({ nodeId: text, clientId: text, incarnation: text }),
);

test('a uid says who gets the message, whatever clients and groups are called', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('a', 'Z', '0', '-', '_'), minLength: 1 }),
      fc.array(fc.tuple(text, assignee), { minLength: 1, maxLength: 4 }),
      (id, entries) => {
        const assignment = new Map(entries);
        expect(readUid(uidWithAssignment(id, assignment))).toEqual({ id, assignment });
      },
    ),
  );
});

test('a message for no shared group has a plain uid', () => {
  expect(uidWithAssignment('id', new Map())).toBe('id');
  expect(readUid('id')).toEqual({ id: 'id', assignment: undefined });
});

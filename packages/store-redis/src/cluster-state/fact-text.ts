import { FACT_BUCKETS } from '@shoalmq/core';
import type { SharedFact } from '@shoalmq/core';
import { textHash } from '../text-hash.ts';

/*
 * Facts as Redis has them: what makes two facts the same is the field of a hash, the rest its value.
 *
 *   n  node id    incarnation  filter     weight
 *   s  client id  incarnation  filter     options
 *   r                          filter     (empty)
 *
 * Clients choose most of these texts, so no separator is safe: each but the filter, the last one, is preceded by its
 * length in UTF-16 units and a colon.
 */

/** The bucket that a filter's facts are in. */
export function factBucket(filter: string): number {
  return textHash(filter) % FACT_BUCKETS;
}

/** What names a fact. */
export function factField(fact: SharedFact): string {
  switch (fact.kind) {
    case 'node':
      return `n${sized(fact.node.id)}${sized(fact.node.incarnation)}${fact.filter}`;
    case 'session':
      return `s${sized(fact.clientId)}${sized(fact.incarnation)}${fact.filter}`;
    case 'retained':
      return `r${fact.filter}`;
  }
}

/** What may change about a fact. */
export function factValue(fact: SharedFact): string {
  switch (fact.kind) {
    case 'node':
      return String(fact.weight);
    case 'session':
      return fact.options;
    case 'retained':
      return '';
  }
}

/** The fact that a field and its value are. `undefined`: of a kind that this version does not know. */
export function parseFact(field: string, value: string): SharedFact | undefined {
  const kind = field[0];
  if (kind === 'r') return { kind: 'retained', filter: field.slice(1) };
  if (kind !== 'n' && kind !== 's') return undefined;
  const firstAt = field.indexOf(':') + 1;
  const firstEnd = firstAt + Number(field.slice(1, firstAt - 1));
  const secondAt = field.indexOf(':', firstEnd) + 1;
  const secondEnd = secondAt + Number(field.slice(firstEnd, secondAt - 1));
  const name = field.slice(firstAt, firstEnd);
  const incarnation = field.slice(secondAt, secondEnd);
  const filter = copyOf(field.slice(secondEnd));
  return kind === 'n'
    ? { kind: 'node', node: { id: name, incarnation }, filter, weight: Number(value) }
    : { kind: 'session', clientId: name, incarnation, filter, options: value };
}

/** A part of a text keeps all of the text in memory; filters are kept, and there may be millions. */
function copyOf(part: string): string {
  return Buffer.from(part).toString();
}

/** A text that something can follow. */
export function sized(text: string): string {
  return `${text.length}:${text}`;
}

import type { LogPosition } from '@shoalmq/core';

/*
 * A position is the id of an entry of a stream, milliseconds and a number, both of fixed width: so positions are
 * ordered as texts are.
 */
const MS_DIGITS = 16;
const NUMBER_DIGITS = 12;

export function positionOf(entryId: string): LogPosition {
  const dash = entryId.indexOf('-');
  const ms = entryId.slice(0, dash).padStart(MS_DIGITS, '0');
  return `${ms}-${entryId.slice(dash + 1).padStart(NUMBER_DIGITS, '0')}`;
}

export function entryIdOf(position: LogPosition): string {
  const dash = position.indexOf('-');
  return `${withoutZeros(position, 0, dash)}-${withoutZeros(position, dash + 1, position.length)}`;
}

function withoutZeros(digits: string, from: number, end: number): string {
  let start = from;
  while (start < end - 1 && digits[start] === '0') start++;
  return digits.slice(start, end);
}

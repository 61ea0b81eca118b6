import type { Message } from '@shoalmq/core';
import { PropertyId } from './properties.ts';

// Below these a loop beats the call of `TypedArray.prototype.set`, which for a part of an array needs a view first.
const LOOP_BYTES_MAX = 12;
const LOOP_PART_BYTES_MAX = 48;

/** Bytes of `value` as a Variable Byte Integer; 0 to 268,435,455. */
export function variableByteIntegerBytes(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : 4;
}

/** Writes a Variable Byte Integer and returns the position behind it. */
export function writeVariableByteInteger(bytes: Uint8Array, at: number, value: number): number {
  let position = at;
  let rest = value;
  while (rest > 0x7f) {
    bytes[position] = (rest & 0x7f) | 0x80;
    position += 1;
    rest >>>= 7;
  }
  bytes[position] = rest;
  return position + 1;
}

/** Bytes of the properties of a PUBLISH to a 5.0 client, without their length. */
export function publishPropertiesBytes(
  message: Message,
  subscriptionIds: readonly number[],
  withExpiry: boolean,
  topicAlias: number,
): number {
  let count = message.properties.length;
  if (withExpiry) count += 5;
  if (topicAlias !== 0) count += 3;
  for (let i = 0; i < subscriptionIds.length; i++) {
    count += 1 + variableByteIntegerBytes(subscriptionIds[i] as number);
  }
  return count;
}

/** The remaining length of a PUBLISH; `propertiesBytes` -1: the version has no properties. */
export function publishRemainingLength(
  message: Message,
  qos: number,
  propertiesBytes: number,
  omitTopic: boolean,
): number {
  let remaining = 2 + message.end - message.start;
  if (!omitTopic) remaining += message.topic.bytes.length;
  if (qos !== 0) remaining += 2;
  if (propertiesBytes >= 0)
    remaining += variableByteIntegerBytes(propertiesBytes) + propertiesBytes;
  return remaining;
}

/** Writes the properties of a PUBLISH with their length and returns the position behind them. */
export function writePublishProperties(
  bytes: Uint8Array,
  at: number,
  propertiesBytes: number,
  message: Message,
  subscriptionIds: readonly number[],
  remainingExpiry: number,
  topicAlias: number,
): number {
  let position = writeVariableByteInteger(bytes, at, propertiesBytes);
  if (remainingExpiry >= 0) {
    bytes[position] = PropertyId.MessageExpiryInterval;
    bytes[position + 1] = remainingExpiry >>> 24;
    bytes[position + 2] = remainingExpiry >>> 16;
    bytes[position + 3] = remainingExpiry >>> 8;
    bytes[position + 4] = remainingExpiry;
    position += 5;
  }
  if (topicAlias !== 0) {
    bytes[position] = PropertyId.TopicAlias;
    bytes[position + 1] = topicAlias >> 8;
    bytes[position + 2] = topicAlias;
    position += 3;
  }
  for (let i = 0; i < subscriptionIds.length; i++) {
    bytes[position] = PropertyId.SubscriptionIdentifier;
    position = writeVariableByteInteger(bytes, position + 1, subscriptionIds[i] as number);
  }
  const forwarded = message.properties;
  return copyBytes(bytes, position, forwarded, 0, forwarded.length);
}

/** Whether a PUBLISH of this message says when it expires, seen before the remaining time is known. */
export function hasExpiry(message: Message): boolean {
  return message.expiryInterval >= 0 || message.expiresAtMs > 0;
}

/** Copies `source[start, end)` to `at` and returns the position behind the copy. */
export function copyBytes(
  target: Uint8Array,
  at: number,
  source: Uint8Array,
  start: number,
  end: number,
): number {
  const count = end - start;
  const isWhole = count === source.length;
  if (count > (isWhole ? LOOP_BYTES_MAX : LOOP_PART_BYTES_MAX)) {
    target.set(isWhole ? source : source.subarray(start, end), at);
    return at + count;
  }
  let from = start;
  let to = at;
  for (const fours = end - 3; from < fours; from += 4, to += 4) {
    target[to] = source[from] as number;
    target[to + 1] = source[from + 1] as number;
    target[to + 2] = source[from + 2] as number;
    target[to + 3] = source[from + 3] as number;
  }
  for (; from < end; from += 1, to += 1) target[to] = source[from] as number;
  return to;
}

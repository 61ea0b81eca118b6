import { ProtocolError, ReasonCode } from '@shoalmq/core';
import type { Topic, TopicTable } from '@shoalmq/core';
import { Utf8, checkName, stringOf, utf8Encode } from './utf8.ts';
import { malformed, violation } from './violations.ts';

const SEPARATOR = 0x2f;
const STRING_BYTES_MAX = 65_535;

/**
 * Checks that `bytes[start, end)` may name a topic that is published to, and returns what `scanUtf8` found.
 *
 * @throws ProtocolError 0x82 when empty [MQTT-4.7.3-1], 0x81 for bad UTF-8, control characters and non-characters,
 * 0x90 for wildcards (`wildcardClause`) and for more than `topicLevelsMax` levels.
 */
export function checkTopicName(
  bytes: Uint8Array,
  start: number,
  end: number,
  topicLevelsMax: number,
  wildcardClause: string,
): number {
  if (start === end) throw violation('MQTT-4.7.3-1', 'empty topic name');
  const found = checkName(bytes, start, end);
  if ((found & Utf8.Wildcard) !== 0) throw invalid(wildcardClause, 'wildcard in a topic name');
  let levels = 1;
  for (let i = start; i < end; i++) if (bytes[i] === SEPARATOR) levels += 1;
  if (levels > topicLevelsMax) throw invalid('§4.7.3', 'too many topic levels');
  return found;
}

/**
 * The interned topic of a name that did not come from the wire.
 *
 * @throws ProtocolError like a PUBLISH with this topic name: 0x81, 0x82 or 0x90.
 */
export function topicFromName(
  topics: TopicTable,
  name: string,
  topicLevelsMax = Number.POSITIVE_INFINITY,
): Topic {
  const bytes = utf8Encode(name);
  if (bytes.length > STRING_BYTES_MAX) throw malformed('MQTT-4.7.3-3', 'topic name too long');
  const known = topics.find(bytes, 0, bytes.length);
  if (known?.name === name) return known;
  const found = checkTopicName(bytes, 0, bytes.length, topicLevelsMax, 'MQTT-3.3.2-2');
  // The encoder turns unpaired surrogates into U+FFFD, which is another topic.
  if (stringOf(bytes, 0, bytes.length, found) !== name) {
    throw malformed('MQTT-1.5.4-1', 'unpaired surrogate in a topic name');
  }
  return topics.add(name, bytes);
}

function invalid(clause: string, message: string): ProtocolError {
  return new ProtocolError(ReasonCode.TopicNameInvalid, clause, message);
}

import { utf8Length } from './utf8.ts';

const TOPIC_BYTES_MAX = 65_535;

/**
 * Why `name` is not a topic name that may be published to, in words for a reason string; `undefined`: it is.
 * Refused: the empty name [MQTT-4.7.3-1], wildcards [MQTT-3.3.2-2] [MQTT-4.7.0-1], more than `levelsMax` levels,
 * and what `textProblem` refuses.
 */
export function topicNameProblem(name: string, levelsMax: number): string | undefined {
  if (name === '') return 'the topic name is empty';
  if (name.includes('+') || name.includes('#')) return 'the topic name contains a wildcard';
  if (hasMoreLevels(name, levelsMax)) return `the topic name has more than ${levelsMax} levels`;
  return textProblem(name);
}

/** The topic belongs to the server [MQTT-4.7.2-1]: wildcards in the first level of a filter do not match it. */
export function isSystemTopic(name: string): boolean {
  return name.charCodeAt(0) === 0x24;
}

/**
 * The topic belongs to one node: what is published there stays on it and is not in the store, because each node has
 * values of its own.
 */
export function isLocalTopic(name: string): boolean {
  return name.startsWith('$SYS/');
}

/**
 * What a retained message of this topic weighs beside its bytes: a node in the index of each node of the cluster for each
 * topic level.
 */
export function retainedNameWeight(name: string): number {
  let levels = 1;
  for (let at = name.indexOf('/'); at >= 0; at = name.indexOf('/', at + 1)) levels += 1;
  return 64 * levels;
}

/** `text` has more than `levelsMax` topic levels. Looks at no more of it than it must. */
export function hasMoreLevels(text: string, levelsMax: number): boolean {
  let levels = 1;
  for (let slash = text.indexOf('/'); slash >= 0; slash = text.indexOf('/', slash + 1)) {
    levels += 1;
    if (levels > levelsMax) return true;
  }
  return levels > levelsMax;
}

/**
 * Why the characters of a topic name or filter are refused: U+0000 [MQTT-4.7.3-2], other control characters and
 * non-characters (a choice that MQTT 5.0 §1.5.4 leaves to the receiver), text that UTF-8 cannot express, and more
 * than 65,535 bytes of it [MQTT-4.7.3-3]. The decoder checks packets; this is for every other door.
 */
export function textProblem(text: string): string | undefined {
  for (let i = 0; i < text.length; i++) {
    const code = text.codePointAt(i) as number;
    if (code < 0x20 || (code >= 0x7f && code <= 0x9f)) return 'a control character';
    if (code < 0xd800) continue;
    if (code <= 0xdfff) return 'a surrogate';
    if ((code & 0xfffe) === 0xfffe || (code >= 0xfdd0 && code <= 0xfdef)) return 'a non-character';
    if (code > 0xffff) i += 1;
  }
  if (text.length * 3 > TOPIC_BYTES_MAX && utf8Length(text) > TOPIC_BYTES_MAX) {
    return `more than ${TOPIC_BYTES_MAX} bytes`;
  }
  return undefined;
}

import { ProtocolError, ReasonCode } from '@shoalmq/core';
import { checkResponseTopic, misplacedProperty, repeatedProperty } from './properties.ts';
import { PropertyId } from './properties.ts';
import { checkString } from './utf8.ts';
import { malformed, violation } from './violations.ts';

const NO_BYTES = new Uint8Array(0);

/**
 * The properties of a PUBLISH or of a will, checked without being decoded: those for the server as numbers, those
 * for the subscribers as the bytes they arrived in. One instance is scanned into again and again.
 */
export class MessageProperties {
  /** 0: none. */
  topicAlias = 0;
  /** Seconds; -1: none. */
  expiryInterval = -1;
  /** Will Delay Interval in seconds. */
  delayInterval = 0;
  /** The form of `Message.properties`. May be a view of the scanned bytes. */
  forwarded: Uint8Array = NO_BYTES;
  // At most two properties are for the server; these are their places, in order.
  #cuts = 0;
  #firstCut = 0;
  #firstCutEnd = 0;
  #secondCut = 0;
  #secondCutEnd = 0;

  /** Forgets what was scanned, and the bytes with it. */
  clear(): void {
    this.topicAlias = 0;
    this.expiryInterval = -1;
    this.delayInterval = 0;
    this.forwarded = NO_BYTES;
    this.#cuts = 0;
  }

  /**
   * Scans `bytes[start, end)`, which are exactly the properties.
   *
   * @throws ProtocolError 0x81, 0x82, 0x90 (Response Topic with wildcards), 0x94 (topic alias 0).
   */
  scan(bytes: Uint8Array, start: number, end: number, inWill: boolean): void {
    this.clear();
    let seen = 0;
    let position = start;
    while (position < end) {
      const at = position;
      const id = bytes[at] as number;
      position += 1;
      if (id === PropertyId.UserProperty) {
        position = skipString(bytes, skipString(bytes, position, end), end);
        continue;
      }
      const bit = bitOf(id);
      if ((seen & bit) !== 0) throw repeatedProperty(id);
      seen |= bit;
      switch (id) {
        case PropertyId.PayloadFormatIndicator:
          need(position, 1, end);
          if ((bytes[position] as number) > 1) {
            throw violation('§3.3.2.3.2', 'Payload Format Indicator that is neither 0 nor 1');
          }
          position += 1;
          break;
        case PropertyId.MessageExpiryInterval:
          this.expiryInterval = fourBytes(bytes, position, end);
          position += 4;
          this.#cut(at, position);
          break;
        case PropertyId.ContentType:
          position = skipString(bytes, position, end);
          break;
        case PropertyId.ResponseTopic: {
          const after = skip(bytes, position, end);
          checkResponseTopic(bytes, position + 2, after);
          position = after;
          break;
        }
        case PropertyId.CorrelationData:
          position = skip(bytes, position, end);
          break;
        case PropertyId.TopicAlias:
          if (inWill) throw misplacedProperty(id);
          need(position, 2, end);
          this.topicAlias = ((bytes[position] as number) << 8) | (bytes[position + 1] as number);
          if (this.topicAlias === 0) {
            throw new ProtocolError(ReasonCode.TopicAliasInvalid, 'MQTT-3.3.2-8', 'topic alias 0');
          }
          position += 2;
          this.#cut(at, position);
          break;
        case PropertyId.WillDelayInterval:
          if (!inWill) throw misplacedProperty(id);
          this.delayInterval = fourBytes(bytes, position, end);
          position += 4;
          this.#cut(at, position);
          break;
        case PropertyId.SubscriptionIdentifier:
          if (inWill) throw misplacedProperty(id);
          throw violation('MQTT-3.3.4-6', 'Subscription Identifier from a client');
        default:
          throw misplacedProperty(id);
      }
    }
    this.forwarded = this.#withoutCuts(bytes, start, end);
  }

  #cut(start: number, end: number): void {
    if (this.#cuts === 0) {
      this.#firstCut = start;
      this.#firstCutEnd = end;
    } else {
      this.#secondCut = start;
      this.#secondCutEnd = end;
    }
    this.#cuts += 1;
  }

  /** A view when the cuts are at the ends, as they mostly are, otherwise a copy of the pieces between them. */
  #withoutCuts(bytes: Uint8Array, start: number, end: number): Uint8Array {
    let from = start;
    let to = end;
    let first = this.#cuts > 0;
    let second = this.#cuts > 1;
    if (first && this.#firstCut === from) {
      from = this.#firstCutEnd;
      first = false;
      if (second && this.#secondCut === from) {
        from = this.#secondCutEnd;
        second = false;
      }
    }
    if (second && this.#secondCutEnd === to) {
      to = this.#secondCut;
      second = false;
    }
    if (first && this.#firstCutEnd === to) {
      to = this.#firstCut;
      first = false;
    }
    if (from >= to) return NO_BYTES;
    if (!first && !second) return bytes.subarray(from, to);
    const kept = new Uint8Array(to - from);
    let length = 0;
    if (first) {
      kept.set(bytes.subarray(from, this.#firstCut), 0);
      length = this.#firstCut - from;
      from = this.#firstCutEnd;
    }
    if (second) {
      kept.set(bytes.subarray(from, this.#secondCut), length);
      length += this.#secondCut - from;
      from = this.#secondCutEnd;
    }
    kept.set(bytes.subarray(from, to), length);
    return kept.subarray(0, length + to - from);
  }
}

/** A bit for each property that is allowed in a PUBLISH or a will; 0 for all others, which are refused anyway. */
function bitOf(id: number): number {
  if (id < 0x10) return 1 << id;
  if (id === PropertyId.TopicAlias) return 1 << 16;
  return id === PropertyId.WillDelayInterval ? 1 << 17 : 0;
}

function need(position: number, count: number, end: number): void {
  if (count > end - position) throw malformed('MQTT-4.13.1-1', 'properties end within a value');
}

function fourBytes(bytes: Uint8Array, position: number, end: number): number {
  need(position, 4, end);
  return (
    (((bytes[position] as number) << 24) |
      ((bytes[position + 1] as number) << 16) |
      ((bytes[position + 2] as number) << 8) |
      (bytes[position + 3] as number)) >>>
    0
  );
}

/** The position behind a value with a two byte length. */
function skip(bytes: Uint8Array, position: number, end: number): number {
  need(position, 2, end);
  const length = ((bytes[position] as number) << 8) | (bytes[position + 1] as number);
  need(position + 2, length, end);
  return position + 2 + length;
}

function skipString(bytes: Uint8Array, position: number, end: number): number {
  const after = skip(bytes, position, end);
  checkString(bytes, position + 2, after);
  return after;
}

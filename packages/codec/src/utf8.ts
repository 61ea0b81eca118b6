import { malformed } from './violations.ts';

/** What `scanUtf8` found, as bits. */
export const Utf8 = {
  IllFormed: 1,
  Nul: 2,
  /** U+0001 to U+001F and U+007F to U+009F. */
  Control: 4,
  /** U+FDD0 to U+FDEF and the last two code points of each plane. */
  NonCharacter: 8,
  /** `+` or `#`. */
  Wildcard: 16,
  NonAscii: 32,
} as const;

const SHORT_BYTES_MAX = 12;
const CHARACTERS = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code));
// A byte order mark is a character like any other [MQTT-1.5.4-3].
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const encoder = new TextEncoder();

/**
 * Classifies `bytes[start, end)` by the bits of `Utf8`, without building a string. Overlong forms, surrogates and
 * code points above U+10FFFF are ill-formed; the scan ends at the first of them.
 */
export function scanUtf8(bytes: Uint8Array, start: number, end: number): number {
  let found = 0;
  let i = start;
  while (i < end) {
    const first = bytes[i] as number;
    if (first < 0x80) {
      if (first < 0x20) found |= first === 0 ? Utf8.Nul : Utf8.Control;
      else if (first === 0x23 || first === 0x2b) found |= Utf8.Wildcard;
      else if (first === 0x7f) found |= Utf8.Control;
      i += 1;
      continue;
    }
    found |= Utf8.NonAscii;
    if (first < 0xe0) {
      if (first < 0xc2 || i + 1 >= end) return Utf8.IllFormed;
      const second = bytes[i + 1] as number;
      if ((second & 0xc0) !== 0x80) return Utf8.IllFormed;
      if (first === 0xc2 && second < 0xa0) found |= Utf8.Control;
      i += 2;
    } else if (first < 0xf0) {
      if (i + 2 >= end) return Utf8.IllFormed;
      const second = bytes[i + 1] as number;
      const third = bytes[i + 2] as number;
      if ((second & 0xc0) !== 0x80 || (third & 0xc0) !== 0x80) return Utf8.IllFormed;
      const code = ((first & 0x0f) << 12) | ((second & 0x3f) << 6) | (third & 0x3f);
      if (code < 0x800 || (code >= 0xd800 && code <= 0xdfff)) return Utf8.IllFormed;
      if ((code >= 0xfdd0 && code <= 0xfdef) || code >= 0xfffe) found |= Utf8.NonCharacter;
      i += 3;
    } else {
      if (first > 0xf4 || i + 3 >= end) return Utf8.IllFormed;
      const second = bytes[i + 1] as number;
      const third = bytes[i + 2] as number;
      const fourth = bytes[i + 3] as number;
      if ((second & 0xc0) !== 0x80 || (third & 0xc0) !== 0x80 || (fourth & 0xc0) !== 0x80) {
        return Utf8.IllFormed;
      }
      const code =
        ((first & 0x07) << 18) | ((second & 0x3f) << 12) | ((third & 0x3f) << 6) | (fourth & 0x3f);
      if (code < 0x10000 || code > 0x10ffff) return Utf8.IllFormed;
      if ((code & 0xfffe) === 0xfffe) found |= Utf8.NonCharacter;
      i += 4;
    }
  }
  return found;
}

/**
 * Checks what the standard asks of every string, and returns what `scanUtf8` found.
 *
 * @throws ProtocolError 0x81 for ill-formed UTF-8 [MQTT-1.5.4-1] and U+0000 [MQTT-1.5.4-2].
 */
export function checkString(bytes: Uint8Array, start: number, end: number): number {
  const found = scanUtf8(bytes, start, end);
  if ((found & Utf8.IllFormed) !== 0) throw malformed('MQTT-1.5.4-1', 'ill-formed UTF-8');
  if ((found & Utf8.Nul) !== 0) throw malformed('MQTT-1.5.4-2', 'U+0000 in a string');
  return found;
}

/**
 * Like `checkString`, for strings that name something: topic names, topic filters and client ids. The standard
 * lets a receiver refuse control characters and non-characters (§1.5.4), and here it does.
 *
 * @throws ProtocolError 0x81.
 */
export function checkName(bytes: Uint8Array, start: number, end: number): number {
  const found = checkString(bytes, start, end);
  if ((found & Utf8.Control) !== 0) throw malformed('§1.5.4', 'control character in a name');
  if ((found & Utf8.NonCharacter) !== 0) throw malformed('§1.5.4', 'non-character in a name');
  return found;
}

/** The string of bytes that were checked; `found` is what the check returned. */
export function stringOf(bytes: Uint8Array, start: number, end: number, found: number): string {
  // A flood of short strings would otherwise pay for a call into the runtime each.
  if (end - start <= SHORT_BYTES_MAX && (found & Utf8.NonAscii) === 0) {
    let text = '';
    for (let i = start; i < end; i++) text += CHARACTERS[bytes[i] as number] as string;
    return text;
  }
  return decoder.decode(bytes.subarray(start, end));
}

/** UTF-8 of `text`; unpaired surrogates become U+FFFD. */
export function utf8Encode(text: string): Uint8Array {
  return encoder.encode(text);
}

/**
 * The string that `bytes` are the UTF-8 of; U+FEFF is kept wherever it stands.
 *
 * @throws ProtocolError 0x81 for ill-formed UTF-8 and U+0000.
 */
export function utf8Decode(bytes: Uint8Array): string {
  return stringOf(bytes, 0, bytes.length, checkString(bytes, 0, bytes.length));
}

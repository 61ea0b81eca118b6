/** Who published a message, and which of its messages it is: what every payload of a history carries. */
export interface MessageStamp {
  readonly publisher: string;
  readonly seq: number;
}

const STAMP_BYTES_MAX = 256;

/** A payload that says whose it is, as text: `publisher seq filler`, at least `bytes` long. */
export function messagePayload({ publisher, seq }: MessageStamp, bytes = 0): Buffer {
  const head = `${publisher} ${String(seq)} `;
  return Buffer.from(head.padEnd(bytes, String.fromCharCode(97 + (seq % 26))));
}

/** Reads what `messagePayload` wrote. Of any other payload the publisher is `''`: a message nobody published. */
export function messageStamp(payload: Uint8Array): MessageStamp {
  const head = payload.subarray(0, STAMP_BYTES_MAX);
  const [publisher = '', seq = ''] = Buffer.from(head).toString('latin1').split(' ', 2);
  return /^[0-9]+$/.test(seq) ? { publisher, seq: Number(seq) } : { publisher: '', seq: 0 };
}

/** FNV-1a, 32 bits: enough to notice a payload that is not the one that was sent. */
export function payloadHash(payload: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < payload.length; i++) {
    hash = Math.imul(hash ^ payload[i]!, 0x01000193);
  }
  return hash | 0;
}

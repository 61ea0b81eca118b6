import type { DueWill, QoS, Will } from '@shoalmq/core';

const VERSION = 1;
const RETAIN = 0b100;
const EXPIRES = 0b1000;
const HEAD_BYTES = 10;

/** A will and the username of its connection as they stand in Redis. */
export function encodeWill(will: Will, username: string): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head[0] = VERSION;
  head[1] =
    will.qos |
    (will.retain ? RETAIN : 0) |
    (will.messageExpiryInterval === undefined ? 0 : EXPIRES);
  head.writeUInt32BE(will.delayInterval, 2);
  head.writeUInt32BE(will.messageExpiryInterval ?? 0, 6);
  const fields = [Buffer.from(username), Buffer.from(will.topic), will.properties, will.payload];
  return Buffer.concat([head, ...fields.flatMap((field) => [lengthOf(field), field])]);
}

/** The will of a client id that was handed out under a uid. */
export function decodeWill(clientId: string, uid: string, bytes: Buffer): DueWill {
  if (bytes[0] !== VERSION) throw new Error(`a stored will has the form ${bytes[0]}`);
  const flags = bytes[1] as number;
  let at = HEAD_BYTES;
  const field = () => {
    const start = at + 4;
    at = start + bytes.readUInt32BE(at);
    return bytes.subarray(start, at);
  };
  const username = field().toString();
  const topic = field().toString();
  const properties = Uint8Array.from(field());
  const payload = Uint8Array.from(field());
  return {
    uid,
    clientId,
    username,
    will: {
      topic,
      payload,
      qos: (flags & 0b11) as QoS,
      retain: (flags & RETAIN) !== 0,
      delayInterval: bytes.readUInt32BE(2),
      messageExpiryInterval: (flags & EXPIRES) === 0 ? undefined : bytes.readUInt32BE(6),
      properties,
    },
  };
}

function lengthOf(field: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(field.length);
  return length;
}

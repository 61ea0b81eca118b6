/** The packets the generator sends, encoded by hand: MQTT 3.1.1 (level 4) and 5.0 (level 5). */

/** The protocol level byte of CONNECT. */
export type ProtocolLevel = 4 | 5;

/** The three qualities of service. */
export type Qos = 0 | 1 | 2;

/** Bytes at the start of every payload: publisher (4), sequence (4), send time in us (8, a float64). */
export const STAMP_BYTES = 16;

/** What holds when a broker states no Receive Maximum: as many as there are packet ids. */
const NO_RECEIVE_MAXIMUM = 65_535;

/** PINGREQ, the same in all versions. */
export const PINGREQ = Buffer.from([0xc0, 0x00]);

/** A CONNECT for a clean session, or one that does not end by itself, without credentials. */
export function encodeConnect(options: {
  readonly clientId: string;
  readonly level: ProtocolLevel;
  readonly keepAliveSeconds: number;
  readonly persistent?: boolean;
}): Buffer {
  const persistent = options.persistent === true;
  const properties = persistent ? [5, 0x11, 0xff, 0xff, 0xff, 0xff] : [0];
  const id = Buffer.from(options.clientId);
  const body = Buffer.concat([
    Buffer.from([0, 4, 0x4d, 0x51, 0x54, 0x54, options.level, persistent ? 0 : 2]),
    uint16(options.keepAliveSeconds),
    options.level === 5 ? Buffer.from(properties) : Buffer.alloc(0),
    uint16(id.length),
    id,
  ]);
  return frame(0x10, body);
}

/** A SUBSCRIBE of several filters at one QoS. */
export function encodeSubscribe(options: {
  readonly packetId: number;
  readonly filters: readonly string[];
  readonly qos: Qos;
  readonly level: ProtocolLevel;
}): Buffer {
  const parts = [uint16(options.packetId)];
  if (options.level === 5) parts.push(Buffer.from([0]));
  for (const filter of options.filters) {
    const bytes = Buffer.from(filter);
    parts.push(uint16(bytes.length), bytes, Buffer.from([options.qos]));
  }
  return frame(0x82, Buffer.concat(parts));
}

/** A PUBLISH that is sent many times: only the marked places change from one message to the next. */
export interface PublishTemplate {
  readonly bytes: Buffer;
  /** Where the packet id goes; 0 at QoS 0, which has none. */
  readonly packetIdOffset: number;
  readonly payloadOffset: number;
}

/** Prepares a PUBLISH whose payload is `payloadBytes` long; the rest of the payload is filler. */
export function encodePublish(options: {
  readonly topic: string;
  readonly payloadBytes: number;
  readonly qos: Qos;
  readonly level: ProtocolLevel;
  readonly retain?: boolean;
}): PublishTemplate {
  const topic = Buffer.from(options.topic);
  const head = [uint16(topic.length), topic];
  if (options.qos > 0) head.push(uint16(0));
  if (options.level === 5) head.push(Buffer.from([0]));
  const payload = Buffer.alloc(options.payloadBytes, 0x61);
  const bytes = frame(
    0x30 | (options.qos << 1) | (options.retain === true ? 1 : 0),
    Buffer.concat([...head, payload]),
  );
  const payloadOffset = bytes.length - options.payloadBytes;
  const propertyBytes = options.level === 5 ? 1 : 0;
  return {
    bytes,
    packetIdOffset: options.qos > 0 ? payloadOffset - propertyBytes - 2 : 0,
    payloadOffset,
  };
}

/** Reads a variable byte integer whose first byte is at `offset`; undefined when it is cut off. */
export function decodeVariableInteger(
  view: DataView,
  offset: number,
  end: number,
): { readonly value: number; readonly next: number } | undefined {
  let value = 0;
  for (let index = 0; index < 4; index += 1) {
    if (offset + index >= end) return undefined;
    const byte = view.getUint8(offset + index);
    value += (byte & 0x7f) * 128 ** index;
    if (byte < 0x80) return { value, next: offset + index + 1 };
  }
  throw new Error('malformed variable byte integer');
}

/** How many QoS 1 and 2 messages the broker takes at once, from the body of a CONNACK. */
export function decodeReceiveMaximum(connack: Buffer, level: ProtocolLevel): number {
  if (level === 4) return NO_RECEIVE_MAXIMUM;
  const view = new DataView(connack.buffer, connack.byteOffset, connack.length);
  const length = decodeVariableInteger(view, 2, connack.length);
  if (length === undefined) throw new Error('CONNACK without properties');
  const end = length.next + length.value;
  for (let offset = length.next; offset < end;) {
    const property = connack.readUInt8(offset);
    offset += 1;
    if (property === 0x21) return connack.readUInt16BE(offset);
    if ([0x24, 0x25, 0x28, 0x29, 0x2a].includes(property)) offset += 1;
    else if ([0x13, 0x22].includes(property)) offset += 2;
    else if ([0x11, 0x27].includes(property)) offset += 4;
    else {
      // All others are strings or binary; a user property is two.
      offset += 2 + connack.readUInt16BE(offset);
      if (property === 0x26) offset += 2 + connack.readUInt16BE(offset);
    }
  }
  return NO_RECEIVE_MAXIMUM;
}

function frame(firstByte: number, body: Buffer): Buffer {
  const header = [firstByte];
  let rest = body.length;
  do {
    const byte = rest & 0x7f;
    rest >>>= 7;
    header.push(rest > 0 ? byte | 0x80 : byte);
  } while (rest > 0);
  return Buffer.concat([Buffer.from(header), body]);
}

function uint16(value: number): Buffer {
  return Buffer.from([value >>> 8, value & 0xff]);
}

/** A piece of a packet: bytes as they are, a number as one byte, text as a UTF-8 string with its length before it. */
export type Field = Uint8Array | number | string;

/** The bytes of the fields, one after the other. */
export function bytes(...fields: readonly Field[]): Buffer {
  return Buffer.concat(
    fields.map((field) => {
      if (typeof field === 'number') return Buffer.of(field);
      if (typeof field !== 'string') return field;
      const text = Buffer.from(field);
      return Buffer.concat([uint16(text.length), text]);
    }),
  );
}

/** A whole packet: the first byte, the Remaining Length, and the fields. Nothing is checked. */
export function packet(first: number, ...fields: readonly Field[]): Buffer {
  const body = bytes(...fields);
  return bytes(first, variableByteInteger(body.length), body);
}

/** Properties with their length before them. */
export function properties(...fields: readonly Field[]): Buffer {
  const body = bytes(...fields);
  return bytes(variableByteInteger(body.length), body);
}

/** Binary Data or the bytes of a string, with their length before them. */
export function sized(body: Uint8Array): Buffer {
  return Buffer.concat([uint16(body.length), body]);
}

export function uint16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff);
}

export function uint32(value: number): Buffer {
  const four = Buffer.alloc(4);
  four.writeUInt32BE(value);
  return four;
}

export function variableByteInteger(value: number): Buffer {
  const encoded: number[] = [];
  let rest = value;
  do {
    encoded.push((rest % 128) + (rest >= 128 ? 128 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return Buffer.from(encoded);
}

/** What a CONNECT is made of. A clean one without keep alive and properties unless told. */
export interface ConnectFields {
  readonly version?: 3 | 4 | 5;
  /** Connect Flags. */
  readonly flags?: number;
  /** Seconds. */
  readonly keepAlive?: number;
  /** Properties, without their length. */
  readonly properties?: Uint8Array;
  /** The payload after the Client Identifier. */
  readonly rest?: readonly Field[];
}

/** A CONNECT, well-formed or not. */
export function connect(clientId: Field, fields: ConnectFields = {}): Buffer {
  const { version = 5, flags = 0x02, keepAlive = 0, rest = [] } = fields;
  return packet(
    0x10,
    version === 3 ? 'MQIsdp' : 'MQTT',
    version,
    flags,
    uint16(keepAlive),
    version === 5 ? properties(fields.properties ?? Buffer.alloc(0)) : Buffer.alloc(0),
    clientId,
    ...rest,
  );
}

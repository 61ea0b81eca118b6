import { connect } from 'node:net';
import type { Socket } from 'node:net';

/** A message as it came. `payload` is valid during the call only. */
export interface Received {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: number;
  readonly dup: boolean;
  readonly retain: boolean;
}

export interface VolumeClientOptions {
  readonly clientId: string;
  readonly clean?: boolean;
  /** Called for every PUBLISH, before it is acknowledged; not for a repeated one of QoS 2. */
  readonly onMessage?: (message: Received) => void;
  /** The client's side of a session that it goes on with: packet identifiers of QoS 2 whose PUBREL has not come. */
  readonly unreleased?: Set<number>;
}

/** Messages under way from one client, at most: what a node announces by default. */
const WINDOW = 1_000;

interface Waiter {
  resolve: (code: number) => void;
  reject: (error: Error) => void;
}

/**
 * An MQTT 3.1.1 client for a hundred thousand messages and more: keeps nothing of what it received, acknowledges by
 * itself, and says when what it published is acknowledged to the end.
 */
export class VolumeClient implements AsyncDisposable {
  /** Whether the server had a session. */
  sessionPresent = false;
  /** Whether messages are acknowledged. */
  acknowledging = true;
  /** Why it ended, when it did. */
  lost: Error | undefined = undefined;
  readonly #socket: Socket;
  readonly #onMessage: (message: Received) => void;
  #rest: Buffer | undefined = undefined;
  #out: Buffer[] = [];
  #flushing = false;
  #packetId = 0;
  /** By packet identifier: publishes and subscriptions under way. */
  readonly #open = new Map<number, Waiter>();
  readonly #pings: Waiter[] = [];
  readonly #roomWaiters: (() => void)[] = [];
  #connack: Waiter | undefined = undefined;
  readonly #unreleased: Set<number>;

  private constructor(socket: Socket, options: VolumeClientOptions) {
    this.#socket = socket;
    this.#onMessage = options.onMessage ?? (() => undefined);
    this.#unreleased = options.unreleased ?? new Set();
    socket.on('data', (chunk: Buffer) => {
      this.#read(chunk);
    });
    socket.on('error', (error) => {
      this.#end(error);
    });
    socket.on('close', () => {
      this.#end(new Error(`the server closed the connection of ${options.clientId}`));
    });
  }

  /** Connects and waits for CONNACK. */
  static async connect(port: number, options: VolumeClientOptions): Promise<VolumeClient> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const client = new VolumeClient(socket, options);
    const clientId = text(options.clientId);
    const body = Buffer.concat([
      Buffer.from([0, 4, 0x4d, 0x51, 0x54, 0x54, 4, (options.clean ?? true) ? 2 : 0, 0, 0]),
      clientId,
    ]);
    client.#send(Buffer.concat([header(0x10, body.length), body]));
    await new Promise<number>((resolve, reject) => {
      client.#connack = { resolve, reject };
    });
    return client;
  }

  /** Resolves with the granted QoS when SUBACK came. */
  subscribe(filter: string, qos: 0 | 1 | 2): Promise<number> {
    const body = Buffer.concat([Buffer.alloc(2), text(filter), Buffer.from([qos])]);
    return this.#request(0x82, body, 0);
  }

  unsubscribe(filter: string): Promise<number> {
    return this.#request(0xa2, Buffer.concat([Buffer.alloc(2), text(filter)]), 0);
  }

  /** Resolves when the handshake is over; at QoS 0 at once. */
  async publish(
    topic: string,
    payload: Buffer | string,
    { qos = 1, retain = false }: { qos?: 0 | 1 | 2; retain?: boolean } = {},
  ): Promise<void> {
    const name = text(topic);
    const content = Buffer.from(payload);
    const first = 0x30 | (qos << 1) | (retain ? 1 : 0);
    if (qos === 0) {
      this.#send(Buffer.concat([header(first, name.length + content.length), name, content]));
      return;
    }
    await this.#request(first, Buffer.concat([name, Buffer.alloc(2), content]), name.length);
  }

  /** Resolves when fewer publishes are under way than the server allows. */
  async room(): Promise<void> {
    while (this.#open.size >= WINDOW && this.lost === undefined) {
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve));
    }
  }

  /** Resolves when everything that was published is acknowledged, or the connection is lost. */
  async idle(): Promise<void> {
    while (this.#open.size > 0 && this.lost === undefined) {
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve));
    }
  }

  /** PINGREQ; resolves with the answer. */
  ping(): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.lost !== undefined) {
        reject(this.lost);
        return;
      }
      this.#pings.push({ resolve, reject });
      this.#send(Buffer.from([0xc0, 0]));
    });
  }

  /** Does not read until `resume`. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** DISCONNECT, and the end. */
  async disconnect(): Promise<void> {
    this.#send(Buffer.from([0xe0, 0]));
    await new Promise<void>((resolve) => {
      this.#socket.end(resolve);
    });
    await this[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#socket.closed) return;
    await new Promise<void>((resolve) => {
      this.#socket.once('close', () => {
        resolve();
      });
      this.#socket.destroy();
    });
  }

  /** `idAt`: where in `body` two bytes are for the packet identifier. */
  #request(first: number, body: Buffer, idAt: number): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.lost !== undefined) {
        reject(this.lost);
        return;
      }
      do this.#packetId = (this.#packetId % 65_535) + 1;
      while (this.#open.has(this.#packetId));
      body.writeUInt16BE(this.#packetId, idAt);
      this.#open.set(this.#packetId, { resolve, reject });
      this.#send(Buffer.concat([header(first, body.length), body]));
    });
  }

  #send(bytes: Buffer): void {
    this.#out.push(bytes);
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      const all = this.#out;
      this.#out = [];
      if (this.#socket.writable) this.#socket.write(Buffer.concat(all));
    });
  }

  #read(chunk: Buffer): void {
    const data = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    for (;;) {
      let length = 0;
      let shift = 0;
      let body = at + 1;
      let complete = false;
      while (body < data.length && !complete) {
        const byte = data[body++]!;
        length += (byte & 127) * 2 ** shift;
        shift += 7;
        complete = byte < 128;
      }
      if (!complete || data.length < body + length) break;
      this.#packet(data[at]!, data.subarray(body, body + length));
      at = body + length;
    }
    this.#rest = at === data.length ? undefined : data.subarray(at);
  }

  #packet(first: number, body: Buffer): void {
    switch (first >> 4) {
      case 2:
        this.sessionPresent = body[0] === 1;
        if (body[1] === 0) this.#connack?.resolve(0);
        else this.#connack?.reject(new Error(`CONNACK ${String(body[1])}`));
        break;
      case 3:
        this.#onPublish(first, body);
        break;
      case 5:
        this.#send(ack(0x62, body.readUInt16BE(0)));
        break;
      case 6:
        this.#unreleased.delete(body.readUInt16BE(0));
        this.#send(ack(0x70, body.readUInt16BE(0)));
        break;
      case 13:
        this.#pings.shift()?.resolve(0);
        break;
      default: {
        // PUBACK, PUBCOMP, SUBACK, UNSUBACK.
        const packetId = body.readUInt16BE(0);
        const open = this.#open.get(packetId);
        this.#open.delete(packetId);
        open?.resolve(body[2] ?? 0);
        for (const resolve of this.#roomWaiters.splice(0)) resolve();
      }
    }
  }

  #onPublish(first: number, body: Buffer): void {
    const qos = (first >> 1) & 3;
    const topicEnd = 2 + body.readUInt16BE(0);
    const packetId = qos === 0 ? 0 : body.readUInt16BE(topicEnd);
    if (qos < 2 || !this.#unreleased.has(packetId)) {
      this.#onMessage({
        topic: body.toString('utf8', 2, topicEnd),
        payload: body.subarray(qos === 0 ? topicEnd : topicEnd + 2),
        qos,
        dup: (first & 8) !== 0,
        retain: (first & 1) !== 0,
      });
    }
    if (qos === 2) this.#unreleased.add(packetId);
    if (qos > 0 && this.acknowledging) this.#send(ack(qos === 1 ? 0x40 : 0x50, packetId));
  }

  #end(error: Error): void {
    if (this.lost !== undefined) return;
    this.lost = error;
    this.#connack?.reject(error);
    for (const { reject } of this.#open.values()) reject(error);
    for (const { reject } of this.#pings) reject(error);
    for (const resolve of this.#roomWaiters.splice(0)) resolve();
  }
}

function ack(first: number, packetId: number): Buffer {
  return Buffer.from([first, 2, packetId >> 8, packetId & 0xff]);
}

function header(first: number, length: number): Buffer {
  const bytes = [first];
  let rest = length;
  do {
    bytes.push((rest & 127) | (rest > 127 ? 128 : 0));
    rest >>= 7;
  } while (rest > 0);
  return Buffer.from(bytes);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

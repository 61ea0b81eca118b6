import { connect, type Socket } from 'node:net';

import {
  decodeReceiveMaximum,
  decodeVariableInteger,
  encodeConnect,
  encodeSubscribe,
} from './wire.ts';
import type { ProtocolLevel, Qos } from './wire.ts';

/** What a client does with the packets it receives, called straight from the read buffer. */
export interface PacketSink {
  /** One packet: its first byte, and where its body is in `view`. Valid during the call only. */
  packet(view: DataView, firstByte: number, start: number, end: number): void;
  /** All packets of one read were handed over; acknowledgements are written after this. */
  readEnd(): void;
}

/** Room in front of the read buffer for the packet that the last read cut off. */
const HEADROOM_BYTES = 64 * 1024;
const READ_BYTES = 256 * 1024;

// One buffer for all sockets of the process: libuv reads and calls back before it reads the next
// socket, and a cut-off packet is copied out. 10,000 idle sockets then cost no buffer at all.
const readBuffer = Buffer.alloc(HEADROOM_BYTES + READ_BYTES);
const readView = new DataView(readBuffer.buffer, readBuffer.byteOffset, readBuffer.length);
const readTarget = readBuffer.subarray(HEADROOM_BYTES);

// Acknowledgements of one read, for one socket; 4 bytes answer at least 4 bytes, so this suffices.
let ackBuffer = Buffer.alloc(HEADROOM_BYTES + READ_BYTES);
let ackView = new DataView(ackBuffer.buffer, ackBuffer.byteOffset, ackBuffer.length);
let ackBytes = 0;

const CONTROL_TIMEOUT_MS = 30_000;

interface ControlWaiter {
  readonly type: number;
  readonly resolve: (body: Buffer) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/**
 * An MQTT client made for load: it parses in the read buffer, batches acknowledgements per read, and
 * checks nothing that a benchmark does not need. CONNACK and SUBACK are for the promises below, all
 * other packets for the sink.
 */
export class RawClient {
  readonly level: ProtocolLevel;
  /** How many QoS 1 and 2 messages the broker takes at once. */
  receiveMaximum = 0;
  /** Called once when the connection ends although `end` was not called. */
  onLost: (error: Error) => void = () => undefined;
  readonly #socket: Socket;
  readonly #sink: PacketSink;
  #rest: Buffer | undefined;
  #waiter: ControlWaiter | undefined;
  #ending = false;
  #failure: Error | undefined;

  private constructor(options: {
    readonly port: number;
    readonly level: ProtocolLevel;
    readonly sink: PacketSink;
  }) {
    this.level = options.level;
    this.#sink = options.sink;
    this.#socket = connect({
      host: '127.0.0.1',
      port: options.port,
      noDelay: true,
      onread: {
        buffer: readTarget,
        callback: (bytes) => {
          this.#read(bytes);
          return true;
        },
      },
    });
    this.#socket.on('error', (error) => {
      this.#fail(error);
    });
    this.#socket.on('close', () => {
      this.#fail(new Error('the broker closed the connection'));
    });
  }

  /**
   * Opens a connection with a clean session, or with a persistent one that goes on if there is one; rejects when the
   * broker refuses it.
   */
  static async connect(options: {
    readonly port: number;
    readonly clientId: string;
    readonly level: ProtocolLevel;
    readonly keepAliveSeconds: number;
    readonly persistent?: boolean;
    readonly sink: PacketSink;
    /** Gets the client before any packet comes: a session that goes on may have messages at once. */
    readonly attach?: (client: RawClient) => void;
  }): Promise<RawClient> {
    const client = new RawClient(options);
    options.attach?.(client);
    try {
      const connack = client.#control(2);
      client.write(encodeConnect(options));
      const body = await connack;
      if (body.at(1) !== 0) throw new Error(`CONNACK with code ${String(body.at(1))}`);
      client.receiveMaximum = decodeReceiveMaximum(body, options.level);
      return client;
    } catch (error) {
      client.end();
      throw error;
    }
  }

  /** Subscribes and waits for the SUBACK; rejects when the broker refuses a filter. */
  async subscribe(filters: readonly string[], qos: Qos): Promise<void> {
    const suback = this.#control(9);
    this.write(encodeSubscribe({ packetId: 1, filters, qos, level: this.level }));
    const body = await suback;
    const codes = body.subarray(body.length - filters.length);
    const refused = codes.find((code) => code > 2);
    if (refused !== undefined) throw new Error(`SUBACK with code ${String(refused)}`);
  }

  /** Bytes given to `write` that the kernel has not taken yet. */
  get pendingBytes(): number {
    return this.#socket.writableLength;
  }

  /** Sends bytes that must not change before `pendingBytes` is 0 again. */
  write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** Queues a four-byte acknowledgement; only inside `PacketSink.packet`. */
  acknowledge(firstByte: number, packetId: number): void {
    ackView.setUint32(ackBytes, (firstByte << 24) | 0x20000 | packetId);
    ackBytes += 4;
  }

  /** Closes the connection at once. */
  end(): void {
    this.#ending = true;
    this.#socket.destroy();
  }

  #control(type: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure);
        return;
      }
      const timer = setTimeout(() => {
        this.#fail(new Error(`no answer of packet type ${String(type)} in time`));
      }, CONTROL_TIMEOUT_MS);
      this.#waiter = { type, resolve, reject, timer };
    });
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter !== undefined) {
      clearTimeout(waiter.timer);
      waiter.reject(error);
    } else if (!this.#ending) {
      this.onLost(error);
    }
  }

  #read(bytes: number): void {
    let position = HEADROOM_BYTES;
    if (this.#rest !== undefined) {
      position -= this.#rest.length;
      readBuffer.set(this.#rest, position);
      this.#rest = undefined;
    }
    const end = HEADROOM_BYTES + bytes;
    const sink = this.#sink;
    while (end - position >= 2) {
      let length = readView.getUint8(position + 1);
      let start = position + 2;
      if (length >= 0x80) {
        const decoded = decodeVariableInteger(readView, position + 1, end);
        if (decoded === undefined) break;
        length = decoded.value;
        start = decoded.next;
      }
      const packetEnd = start + length;
      if (packetEnd > end) break;
      const firstByte = readView.getUint8(position);
      if (firstByte === 0x20 || firstByte === 0x90) this.#settle(firstByte, start, packetEnd);
      else sink.packet(readView, firstByte, start, packetEnd);
      position = packetEnd;
    }
    if (position < end) {
      if (end - position > HEADROOM_BYTES) throw new Error('packet larger than the headroom');
      this.#rest = Buffer.from(readBuffer.subarray(position, end));
    }
    if (ackBytes > 0) this.#writeAcknowledgements();
    sink.readEnd();
  }

  #settle(firstByte: number, start: number, end: number): void {
    const waiter = this.#waiter;
    if (waiter?.type !== firstByte >>> 4) return;
    this.#waiter = undefined;
    clearTimeout(waiter.timer);
    waiter.resolve(Buffer.from(readBuffer.subarray(start, end)));
  }

  #writeAcknowledgements(): void {
    this.#socket.write(ackBuffer.subarray(0, ackBytes));
    ackBytes = 0;
    if (this.#socket.writableLength > 0) {
      // The kernel did not take all of it: the bytes belong to the socket until it does.
      ackBuffer = Buffer.alloc(ackBuffer.length);
      ackView = new DataView(ackBuffer.buffer, ackBuffer.byteOffset, ackBuffer.length);
    }
  }
}

/** A sink for clients that only hold a connection or subscriptions. */
export const ignorePackets: PacketSink = {
  packet: () => undefined,
  readEnd: () => undefined,
};

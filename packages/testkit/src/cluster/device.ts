import { connect } from 'node:net';
import type { Socket } from 'node:net';
import {
  CONNACK,
  DISCONNECT_NORMALLY,
  DevicePacketReader,
  PINGREQ,
  PUBACK,
  PUBCOMP,
  PUBLISH,
  PUBREC,
  PUBREL,
  SUBACK,
  UNSUBACK,
  encodeAcknowledgement,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
  encodeUnsubscribe,
} from './device-wire.ts';
import type { DeviceLevel, DevicePacket, DeviceWill, Qos } from './device-wire.ts';
import type { History, HistoryFields } from './history/history.ts';
import { messagePayload, messageStamp, payloadHash } from './history/message-payload.ts';

/** A device, and where it connects. */
export interface DeviceOptions {
  readonly clientId: string;
  /** Everything that happens to the device is recorded here. */
  readonly history: History;
  /** The port of 127.0.0.1 for the next attempt: a balancer's, or one node's after the other. */
  readonly port: () => number;
  /** 5 unless told. */
  readonly level?: DeviceLevel;
  /** A session of its own for each connection, and nothing kept; `false` unless told. */
  readonly clean?: boolean;
  /** Without a connection a session lives that long; an hour unless told. MQTT 5 only. */
  readonly sessionExpirySeconds?: number;
  /** 0 unless told: none. With one, a connection that says nothing for 1.5 of it is given up. */
  readonly keepAliveSeconds?: number;
  /** QoS 1 and 2 messages that the broker may have under way to the device. MQTT 5 only. */
  readonly receiveMaximum?: number;
  /** QoS 1 and 2 messages that the device has under way; 100 unless told, fewer when the broker says so. */
  readonly inflightMax?: number;
  readonly will?: DeviceWill;
  /** From the end of a connection to the next attempt, and from one failed attempt to the next; 100 unless told. */
  readonly reconnectDelayMs?: number;
  /** Bytes of each payload; 64 unless told. */
  readonly payloadBytes?: number;
  /** Told of each message after it was recorded. The payload is valid during the call only. */
  readonly onMessage?: (packet: DevicePacket) => void;
}

interface Outgoing {
  readonly topic: string;
  readonly seq: number;
  readonly qos: Qos;
  readonly retain: boolean;
  packetId: number;
  /** At QoS 2: PUBREC came. */
  released: boolean;
}

interface Request {
  readonly filter: string;
  /** `undefined`: UNSUBSCRIBE. */
  readonly qos: Qos | undefined;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

const CONNECT_TIMEOUT_MS = 15_000;

/**
 * An MQTT client that behaves as a real device does, made to run by the hundred: it comes back when its connection
 * ends, keeps what a client has to keep of its session, sends again what was not acknowledged, with the same packet
 * ids, and records everything.
 */
export class Device implements Disposable {
  readonly clientId: string;
  readonly #options: DeviceOptions;
  readonly #level: DeviceLevel;
  readonly #clean: boolean;
  readonly #history: History;
  #socket: Socket | undefined;
  #connection = 0;
  #connected = false;
  #ended = false;
  #reconnectTimer: NodeJS.Timeout | undefined;
  #aliveTimer: NodeJS.Timeout | undefined;
  #lastReadAtMs = 0;
  #corked = false;
  readonly #onlineWaiters: (() => void)[] = [];
  readonly #settledWaiters: (() => void)[] = [];

  #seq = 0;
  #packetId = 0;
  #window = 0;
  /** Messages that were never written. */
  #waiting: Outgoing[] = [];
  /** By packet id, in the order in which they were written first. */
  readonly #inflight = new Map<number, Outgoing>();
  readonly #requests = new Map<number, Request>();
  readonly #subscriptions = new Map<string, Qos>();
  /** Packet ids of QoS 2 messages that were taken and not released. */
  readonly #received = new Set<number>();

  /** Does nothing until `start`. */
  constructor(options: DeviceOptions) {
    this.#options = options;
    this.clientId = options.clientId;
    this.#level = options.level ?? 5;
    this.#clean = options.clean ?? false;
    this.#history = options.history;
  }

  /** Connects, from now on again and again, and resolves with the first CONNACK. */
  async start(): Promise<void> {
    this.#connect();
    await this.online();
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** QoS 1 and 2 messages of `publish` whose handshake is not over. */
  get unsettled(): number {
    return this.#waiting.length + this.#inflight.size;
  }

  /** Resolves when the handshake of everything published so far is over. */
  settled(): Promise<void> {
    if (this.unsettled === 0) return Promise.resolve();
    return new Promise((resolve) => this.#settledWaiters.push(resolve));
  }

  /** Resolves when the device is connected. */
  online(): Promise<void> {
    if (this.#connected) return Promise.resolve();
    return new Promise((resolve) => this.#onlineWaiters.push(resolve));
  }

  /**
   * Subscribes and resolves with SUBACK, on whichever connection that is. A clean device subscribes again by itself on
   * each connection.
   *
   * @throws Error when the broker refuses.
   */
  subscribe(filter: string, qos: Qos): Promise<void> {
    return this.#ask(filter, qos);
  }

  /** Unsubscribes and resolves with UNSUBACK. */
  unsubscribe(filter: string): Promise<void> {
    return this.#ask(filter, undefined);
  }

  /**
   * Publishes the next message of this device: now, when it has a connection and room in its window, else later. At
   * QoS 0 without a connection never: then the message is not counted either.
   *
   * @returns the sequence number of the message, 0 of one that will not be published.
   */
  publish(topic: string, qos: Qos, retain = false): number {
    if (qos === 0 && !this.#connected) return 0;
    const message = {
      ...{ topic, seq: ++this.#seq, qos, retain, packetId: 0, released: false },
    };
    if (qos === 0) {
      this.#writePublish(message, false);
    } else {
      this.#waiting.push(message);
      this.#sendWaiting();
    }
    return message.seq;
  }

  /** Cuts the connection, as a network does; the device comes back. */
  cut(): void {
    this.#socket?.destroy();
  }

  /** Ends for good, with a DISCONNECT that drops the will; or as a crash does. */
  end({ abruptly = false }: { readonly abruptly?: boolean } = {}): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#reconnectTimer);
    const socket = this.#socket;
    if (socket === undefined) return;
    if (!abruptly && this.#connected) socket.write(DISCONNECT_NORMALLY);
    if (abruptly || !this.#connected) socket.destroy();
    else socket.destroySoon();
  }

  [Symbol.dispose](): void {
    this.end({ abruptly: true });
  }

  #record(fields: HistoryFields): void {
    this.#history.record({ client: this.clientId, connection: this.#connection, ...fields });
  }

  #connect(): void {
    const { keepAliveSeconds = 0, will } = this.#options;
    this.#connection = this.#history.nextConnection(this.clientId);
    this.#record({ op: 'connect', phase: 'invoke', clean: this.#clean });
    const reader = new DevicePacketReader(this.#level);
    const socket = connect({ host: '127.0.0.1', port: this.#options.port(), noDelay: true });
    this.#socket = socket;
    this.#lastReadAtMs = performance.now();
    const timeout = setTimeout(() => socket.destroy(), CONNECT_TIMEOUT_MS);
    socket.write(
      encodeConnect({
        ...{ clientId: this.clientId, level: this.#level, clean: this.#clean, keepAliveSeconds },
        sessionExpirySeconds: this.#clean ? 0 : (this.#options.sessionExpirySeconds ?? 3600),
        receiveMaximum: this.#options.receiveMaximum,
        will,
      }),
    );
    socket.on('data', (chunk: Buffer) => {
      this.#lastReadAtMs = performance.now();
      reader.read(chunk, (packet) => {
        if (packet.type === CONNACK) clearTimeout(timeout);
        // What came behind the end of the connection by this side was never read.
        if (!socket.destroyed) this.#onPacket(packet);
      });
    });
    // The close that follows says all there is to say.
    socket.on('error', () => undefined);
    socket.on('end', () => socket.destroy());
    socket.on('close', () => {
      clearTimeout(timeout);
      this.#onClose();
    });
  }

  #onClose(): void {
    clearInterval(this.#aliveTimer);
    const was = this.#connected;
    this.#connected = false;
    this.#socket = undefined;
    this.#record(was ? { op: 'close' } : { op: 'connect', phase: 'fail', clean: this.#clean });
    if (this.#ended) return;
    this.#reconnectTimer = setTimeout(() => this.#connect(), this.#options.reconnectDelayMs ?? 100);
  }

  #onPacket(packet: DevicePacket): void {
    switch (packet.type) {
      case CONNACK:
        this.#onConnack(packet);
        break;
      case PUBLISH:
        this.#onPublish(packet);
        break;
      case PUBACK:
        this.#settle(packet);
        break;
      case PUBREC:
        this.#onPubrec(packet);
        break;
      case PUBREL:
        this.#received.delete(packet.packetId);
        this.#write(encodeAcknowledgement(PUBCOMP, packet.packetId));
        break;
      case PUBCOMP:
        this.#inflight.delete(packet.packetId);
        this.#sendWaiting();
        break;
      case SUBACK:
      case UNSUBACK:
        this.#onAnswer(packet);
        break;
      // PINGRESP and DISCONNECT need nothing: the first was noticed, after the second the connection ends.
      default:
    }
  }

  #onConnack({ code, sessionPresent, receiveMaximum }: DevicePacket): void {
    if (code !== 0) {
      this.#socket?.destroy();
      return;
    }
    this.#connected = true;
    this.#window = Math.min(receiveMaximum, this.#options.inflightMax ?? 100);
    this.#record({ op: 'connect', clean: this.#clean, resumed: sessionPresent });
    this.#keepAlive();
    if (sessionPresent) this.#resume();
    else this.#startOver();
    for (const [packetId, request] of this.#requests) this.#writeRequest(packetId, request);
    this.#sendWaiting();
    for (const resolve of this.#onlineWaiters.splice(0)) resolve();
  }

  /** Sends again, in order, what was not acknowledged [MQTT-4.4.0-1]. */
  #resume(): void {
    for (const message of this.#inflight.values()) {
      if (message.released) {
        this.#write(encodeAcknowledgement(PUBREL, message.packetId));
      } else {
        this.#writePublish(message, true);
      }
    }
  }

  /** The broker has no session: what was under way is lost or not, and the subscriptions are gone. */
  #startOver(): void {
    for (const { topic, seq, qos, released } of this.#inflight.values()) {
      if (released) continue;
      this.#record({ op: 'publish', phase: 'info', publisher: this.clientId, topic, seq, qos });
    }
    this.#inflight.clear();
    this.#received.clear();
    const asked = new Set([...this.#requests.values()].map(({ filter }) => filter));
    for (const [filter, qos] of this.#subscriptions) {
      if (asked.has(filter)) continue;
      this.#subscribeAgain(filter, qos);
    }
  }

  #subscribeAgain(filter: string, qos: Qos): void {
    this.#requests.set(this.#nextPacketId(), {
      ...{ filter, qos, resolve: () => undefined, reject: () => undefined },
    });
  }

  #keepAlive(): void {
    const { keepAliveSeconds = 0 } = this.#options;
    if (keepAliveSeconds === 0) return;
    const keepAliveMs = keepAliveSeconds * 1_000;
    this.#aliveTimer = setInterval(() => {
      if (performance.now() - this.#lastReadAtMs > 1.5 * keepAliveMs) this.#socket?.destroy();
      else this.#write(PINGREQ);
    }, keepAliveMs / 2);
  }

  #onPublish(packet: DevicePacket): void {
    const { qos, packetId } = packet;
    if (qos !== 2) {
      this.#deliver(packet);
      if (qos === 1) this.#write(encodeAcknowledgement(PUBACK, packetId));
      return;
    }
    // Until PUBREL the packet id is the same message, whatever DUP says [MQTT-4.3.3-10].
    if (!this.#received.has(packetId)) {
      this.#received.add(packetId);
      this.#deliver(packet);
    }
    this.#write(encodeAcknowledgement(PUBREC, packetId));
  }

  #deliver(packet: DevicePacket): void {
    const { topic, qos, dup, retain, payload } = packet;
    const { publisher, seq } = messageStamp(payload);
    const hash = payloadHash(payload);
    this.#record({ op: 'deliver', publisher, seq, topic, qos, dup, retain, hash });
    this.#options.onMessage?.(packet);
  }

  #onPubrec(packet: DevicePacket): void {
    const { packetId, code } = packet;
    const message = this.#inflight.get(packetId);
    if (code >= 0x80) {
      if (message !== undefined) this.#settle(packet);
      return;
    }
    if (message !== undefined && !message.released) {
      message.released = true;
      this.#recordAcknowledged(message, 'ok');
    }
    this.#write(encodeAcknowledgement(PUBREL, packetId));
  }

  /** PUBACK, or a PUBREC that refuses: the message is over. */
  #settle({ packetId, code }: DevicePacket): void {
    const message = this.#inflight.get(packetId);
    if (message === undefined) return;
    this.#inflight.delete(packetId);
    this.#recordAcknowledged(message, code >= 0x80 ? 'fail' : 'ok');
    this.#sendWaiting();
  }

  #recordAcknowledged({ topic, seq, qos }: Outgoing, phase: 'ok' | 'fail'): void {
    this.#record({ op: 'publish', phase, publisher: this.clientId, topic, seq, qos });
  }

  #sendWaiting(): void {
    let sent = 0;
    while (this.#connected && this.#inflight.size < this.#window && sent < this.#waiting.length) {
      const message = this.#waiting[sent++]!;
      message.packetId = this.#nextPacketId();
      this.#inflight.set(message.packetId, message);
      this.#writePublish(message, false);
    }
    if (sent > 0) this.#waiting.splice(0, sent);
    if (this.unsettled > 0) return;
    for (const resolve of this.#settledWaiters.splice(0)) resolve();
  }

  #writePublish(message: Outgoing, dup: boolean): void {
    const { topic, seq, qos, retain, packetId } = message;
    const payload = messagePayload(
      { publisher: this.clientId, seq },
      this.#options.payloadBytes ?? 64,
    );
    this.#record({
      ...{ op: dup ? 'resend' : 'publish', phase: 'invoke', publisher: this.clientId },
      ...{ topic, seq, qos, retain, hash: payloadHash(payload) },
    });
    this.#write(encodePublish({ topic, payload, qos, retain, dup, packetId }, this.#level));
  }

  #ask(filter: string, qos: Qos | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const packetId = this.#nextPacketId();
      const request = { filter, qos, resolve, reject };
      this.#requests.set(packetId, request);
      if (this.#connected) this.#writeRequest(packetId, request);
    });
  }

  #writeRequest(packetId: number, { filter, qos }: Request): void {
    if (qos === undefined) {
      this.#record({ op: 'unsubscribe', phase: 'invoke', topic: filter });
      this.#write(encodeUnsubscribe(packetId, filter, this.#level));
    } else {
      this.#record({ op: 'subscribe', phase: 'invoke', topic: filter, qos });
      this.#write(encodeSubscribe(packetId, filter, qos, this.#level));
    }
  }

  #onAnswer({ packetId, code }: DevicePacket): void {
    const request = this.#requests.get(packetId);
    if (request === undefined) return;
    this.#requests.delete(packetId);
    const { filter, qos } = request;
    const op = qos === undefined ? 'unsubscribe' : 'subscribe';
    const phase = code >= 0x80 ? 'fail' : 'ok';
    this.#record({ op, phase, topic: filter, qos: qos ?? 0 });
    if (phase === 'fail') {
      request.reject(new Error(`${op} ${filter}: refused with 0x${code.toString(16)}`));
      return;
    }
    if (qos === undefined) this.#subscriptions.delete(filter);
    else this.#subscriptions.set(filter, qos);
    request.resolve();
  }

  #nextPacketId(): number {
    do {
      this.#packetId = (this.#packetId % 65_535) + 1;
    } while (this.#inflight.has(this.#packetId) || this.#requests.has(this.#packetId));
    return this.#packetId;
  }

  /** Everything of one turn goes out in one system call. */
  #write(bytes: Buffer): void {
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed) return;
    if (!this.#corked) {
      this.#corked = true;
      socket.cork();
      process.nextTick(() => {
        this.#corked = false;
        socket.uncork();
      });
    }
    socket.write(bytes);
  }
}

import {
  DISCONNECT_NORMALLY,
  DevicePacketReader,
  PINGREQ,
  encodeAcknowledgement,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
  messagePayload,
  messageStamp,
  payloadHash,
} from '@shoalmq/testkit';
import type {
  DevicePacket,
  History,
  HistoryFields,
  MessageStamp,
  SeededRandom,
} from '@shoalmq/testkit';
import type { ClientConnection, ClientHandler } from './network.ts';
import type { SimulatedNode } from './simulated-node.ts';
import type { VirtualTime, Zone } from './virtual-time.ts';

const CONNACK = 2;
const PUBLISH = 3;
const PUBACK = 4;
const PUBREC = 5;
const PUBREL = 6;
const PUBCOMP = 7;
const SUBACK = 9;

/** Milliseconds in which CONNACK, and the answer to PINGREQ, must come. */
const PATIENCE_MS = 3_000;
const PING_MS = 2_000;
/** Messages under way. */
const WINDOW = 8;

export type Qos = 0 | 1 | 2;

export interface ClientPlan {
  readonly clientId: string;
  /** A session that ends with its connection. */
  readonly clean: boolean;
  /** One connection in so many begins a persistent session anew; 0: none. */
  readonly cleanStartOneIn: number;
  readonly filter: string;
  /** After a clean start: another filter, for which nothing of before is. */
  readonly otherFilter: string;
  readonly filterQos: Qos;
  readonly publishes: readonly {
    readonly topic: string;
    readonly qos: Qos;
    readonly retain: boolean;
  }[];
  /** Milliseconds between messages, about. */
  readonly publishEveryMs: number;
  /** Milliseconds until an acknowledgement, at most. */
  readonly ackDelayMaxMs: number;
  readonly receiveMaximum: number;
  /** Seconds of the will's delay. */
  readonly willDelay: number | undefined;
  readonly reconnectMinMs: number;
  readonly reconnectMaxMs: number;
  /** When it gives up a connection it does not say so. */
  readonly forsakes: boolean;
  /** Milliseconds after which it disconnects and comes back, about; 0: it stays. */
  readonly restlessMs: number;
}

export interface ClientWorld {
  readonly time: VirtualTime;
  readonly random: SeededRandom;
  readonly history: History;
  /** A node that takes connections, if there is one. */
  chooseNode(): SimulatedNode | undefined;
  /** Wills that have to come: publisher and number. */
  readonly dueWills: Set<string>;
}

interface Outgoing {
  readonly seq: number;
  readonly topic: string;
  readonly qos: Qos;
  readonly retain: boolean;
  readonly packetId: number;
  released: boolean;
}

/**
 * A client as a good library makes one: it comes back, remembers its session, sends again what was not acknowledged,
 * and records what happens. It lives outside of all nodes.
 */
export class SimulatedClient implements ClientHandler {
  readonly plan: ClientPlan;
  /** Publishes no more, and connects at once. */
  finishing = false;
  connected = false;
  subscribed = false;
  lastMessageAtMs = 0;
  /** What came last as a retained message. */
  retained: MessageStamp | undefined;
  /** It was connected once, and what a session keeps is kept for it. */
  hasSession = false;
  /** It gave up waiting for a clean start, which may yet happen. */
  ambiguous = false;
  readonly #world: ClientWorld;
  readonly #zone: Zone;
  #connection: ClientConnection | undefined;
  #node: SimulatedNode | undefined;
  #number = 0;
  #reader = new DevicePacketReader(5);
  #lastHeardMs = 0;
  #cleanStart = false;
  #filter: string;
  #seq = 0;
  #packetId = 0;
  readonly #inflight = new Map<number, Outgoing>();
  #received = new Set<number>();
  /** The will of the last connection that got CONNACK, when it ended without DISCONNECT. */
  #lostWill: { readonly seq: number; readonly atMs: number; readonly sudden: boolean } | undefined;

  constructor(plan: ClientPlan, world: ClientWorld) {
    this.plan = plan;
    this.#world = world;
    this.#zone = world.time.outside;
    this.#filter = plan.filter;
  }

  get unsettled(): number {
    return this.#inflight.size;
  }

  start(): void {
    const { time, random } = this.#world;
    time.after(random.integer(500), this.#zone, `${this.plan.clientId} starts`, () => {
      this.#connect();
    });
    if (this.plan.publishes.length > 0) this.#publishLater();
    time.after(PING_MS, this.#zone, 'ping', () => {
      this.#ping();
    });
    if (this.plan.restlessMs > 0) this.#moveLater();
  }

  /** The network loses the connection. */
  break(): void {
    if (this.connected) this.#loseWill(true);
    this.#connection?.break();
  }

  /** Disconnects as it should, and comes back. */
  disconnect(): void {
    if (!this.connected) return;
    this.#connection!.send(DISCONNECT_NORMALLY);
    this.#connection!.leave();
    this.#closed();
  }

  onBytes(bytes: Uint8Array): void {
    this.#lastHeardMs = this.#world.time.nowMs;
    const connection = this.#connection;
    this.#reader.read(Buffer.from(bytes), (packet) => {
      if (this.#connection === connection) this.#onPacket(packet);
    });
  }

  onClosed(): void {
    if (this.connected) this.#loseWill(this.#node?.host.zone.dead === true);
    this.#closed();
  }

  #record(fields: HistoryFields): void {
    const { time, history } = this.#world;
    const { op, phase = 'ok', topic = '', publisher = '', seq = 0, qos = 0 } = fields;
    time.note(
      `${this.plan.clientId}#${String(this.#number)} ${op} ${phase} ${topic} ${publisher} ${String(seq)} q${String(qos)}${fields.dup === true ? ' dup' : ''}${fields.resumed === true ? ' resumed' : ''}${op === 'connect' ? ` at ${this.#node?.name ?? '?'}` : ''}`,
    );
    history.record({ client: this.plan.clientId, connection: this.#number, ...fields });
  }

  #connect(): void {
    const { time, random, history } = this.#world;
    const { plan } = this;
    if (this.#connection !== undefined) return;
    const node = this.#world.chooseNode();
    if (node === undefined) {
      time.after(100 + random.integer(200), this.#zone, 'no node', () => {
        this.#connect();
      });
      return;
    }
    this.#node = node;
    this.#number = history.nextConnection(plan.clientId);
    this.#cleanStart =
      plan.clean ||
      (this.hasSession && plan.cleanStartOneIn > 0 && random.integer(plan.cleanStartOneIn) === 0);
    if (this.#cleanStart && !plan.clean) {
      this.#filter = this.#filter === plan.filter ? plan.otherFilter : plan.filter;
    }
    this.#reader = new DevicePacketReader(5);
    this.#lastHeardMs = time.nowMs;
    this.#record({ op: 'connect', phase: 'invoke', clean: plan.clean, fresh: this.#cleanStart });
    const connection = node.connect(this);
    this.#connection = connection;
    connection.send(
      encodeConnect({
        clientId: plan.clientId,
        level: 5,
        clean: this.#cleanStart,
        sessionExpirySeconds: plan.clean ? 0 : 3_600,
        keepAliveSeconds: 10,
        receiveMaximum: plan.receiveMaximum,
        will: this.#will(),
      }),
    );
    time.after(PATIENCE_MS, this.#zone, 'no CONNACK', () => {
      if (this.#connection === connection && !this.connected) this.#giveUp();
    });
  }

  #will() {
    const { clientId, willDelay } = this.plan;
    if (willDelay === undefined) return undefined;
    const stamp = { publisher: `will-${clientId}`, seq: this.#number };
    const payload = messagePayload(stamp);
    const topic = `w/${clientId}`;
    this.#record({
      op: 'will',
      phase: 'invoke',
      ...stamp,
      topic,
      qos: 2,
      hash: payloadHash(payload),
    });
    return { topic, payload, qos: 2 as const, delaySeconds: willDelay };
  }

  #loseWill(sudden: boolean): void {
    const { willDelay, clientId } = this.plan;
    if (willDelay === undefined) return;
    const seq = this.#number;
    if (this.#lostWill?.seq === seq) return;
    this.#lostWill = { seq, atMs: this.#world.time.nowMs, sudden };
    if (willDelay === 0) {
      this.#world.dueWills.add(`will-${clientId} ${String(seq)}`);
      this.#record({ op: 'will', publisher: `will-${clientId}`, seq, topic: `w/${clientId}` });
    }
  }

  /** The client was back before its will was due. */
  #cancelWill(): void {
    const { willDelay = 0, clientId } = this.plan;
    const lost = this.#lostWill;
    this.#lostWill = undefined;
    if (lost === undefined || willDelay === 0 || !lost.sudden || this.#cleanStart) return;
    if (this.#world.time.nowMs - lost.atMs > willDelay * 1_000 - 500) return;
    this.#record({
      op: 'will',
      phase: 'fail',
      publisher: `will-${clientId}`,
      seq: lost.seq,
      topic: `w/${clientId}`,
    });
  }

  #giveUp(): void {
    if (this.connected) this.#loseWill(false);
    if (this.plan.forsakes) this.#connection?.forsake();
    else this.#connection?.leave();
    this.#closed();
  }

  #closed(): void {
    const { time, random } = this.#world;
    const { reconnectMinMs, reconnectMaxMs, clean } = this.plan;
    if (this.#connection === undefined) return;
    if (!this.connected && this.#cleanStart && !clean) this.ambiguous = true;
    this.#record(this.connected ? { op: 'close' } : { op: 'connect', phase: 'fail', clean });
    this.#connection = undefined;
    this.connected = false;
    this.subscribed = false;
    if (clean) this.#received = new Set();
    const delayMs = this.finishing
      ? reconnectMinMs
      : reconnectMinMs + random.integer(reconnectMaxMs - reconnectMinMs + 1);
    time.after(delayMs, this.#zone, 'reconnect', () => {
      this.#connect();
    });
  }

  #ping(): void {
    const { time } = this.#world;
    if (this.connected) {
      if (time.nowMs - this.#lastHeardMs > PATIENCE_MS) this.#giveUp();
      else if (time.nowMs - this.#lastHeardMs > PING_MS / 2) this.#connection!.send(PINGREQ);
    }
    time.after(PING_MS, this.#zone, 'ping', () => {
      this.#ping();
    });
  }

  #moveLater(): void {
    const { time, random } = this.#world;
    const { restlessMs } = this.plan;
    time.after(restlessMs / 2 + random.integer(restlessMs), this.#zone, 'move', () => {
      if (this.finishing) return;
      // What it has not acknowledged comes again.
      this.#world.history.record({ op: 'fault', client: this.plan.clientId });
      this.disconnect();
      this.#moveLater();
    });
  }

  #onPacket(packet: DevicePacket): void {
    switch (packet.type) {
      case CONNACK:
        this.#onConnack(packet);
        break;
      case SUBACK:
        this.subscribed = true;
        this.#record({ op: 'subscribe', topic: this.#filter, qos: this.plan.filterQos });
        break;
      case PUBLISH:
        this.#onPublish(packet);
        break;
      case PUBACK:
        this.#settle(packet, true);
        break;
      case PUBREC:
        this.#onPubrec(packet);
        break;
      case PUBREL:
        this.#received.delete(packet.packetId);
        this.#acknowledge(PUBCOMP, packet.packetId);
        break;
      case PUBCOMP:
        this.#inflight.delete(packet.packetId);
        break;
      default:
    }
  }

  #onConnack({ code, sessionPresent }: DevicePacket): void {
    if (code !== 0) {
      this.#giveUp();
      return;
    }
    this.connected = true;
    this.hasSession = !this.plan.clean;
    this.#record({
      op: 'connect',
      clean: this.plan.clean,
      fresh: this.#cleanStart,
      resumed: sessionPresent,
    });
    this.#cancelWill();
    if (!sessionPresent) {
      for (const { seq, topic, qos, released } of this.#inflight.values()) {
        if (released) continue;
        this.#record({
          op: 'publish',
          phase: 'info',
          publisher: this.plan.clientId,
          ...{ topic, seq, qos },
        });
      }
      this.#inflight.clear();
      this.#received = new Set();
    }
    for (const message of this.#inflight.values()) {
      if (message.released) this.#connection!.send(encodeAcknowledgement(PUBREL, message.packetId));
      else this.#write(message, true);
    }
    const { filterQos } = this.plan;
    if (this.#filter === '') return;
    // A session that is there has the subscription, unless its SUBACK was lost: the same again does no harm.
    this.#record({ op: 'subscribe', phase: 'invoke', topic: this.#filter, qos: filterQos });
    this.#connection!.send(encodeSubscribe(this.#nextPacketId(), this.#filter, filterQos, 5));
  }

  #onPublish({ topic, payload, qos, dup, retain, packetId }: DevicePacket): void {
    if (qos === 2) {
      if (!this.#received.has(packetId)) {
        this.#received.add(packetId);
        this.#deliver(topic, payload, { qos, dup, retain });
      }
      this.#acknowledge(PUBREC, packetId);
      return;
    }
    this.#deliver(topic, payload, { qos, dup, retain });
    if (qos === 1) this.#acknowledge(PUBACK, packetId);
  }

  #deliver(
    topic: string,
    payload: Buffer,
    flags: { readonly qos: Qos; readonly dup: boolean; readonly retain: boolean },
  ): void {
    this.lastMessageAtMs = this.#world.time.nowMs;
    const stamp = messageStamp(payload);
    if (flags.retain) this.retained = stamp;
    this.#world.dueWills.delete(`${stamp.publisher} ${String(stamp.seq)}`);
    this.#record({ op: 'deliver', topic, ...stamp, ...flags, hash: payloadHash(payload) });
  }

  #acknowledge(type: number, packetId: number): void {
    const { time, random } = this.#world;
    const connection = this.#connection!;
    const { ackDelayMaxMs } = this.plan;
    const bytes = encodeAcknowledgement(type, packetId);
    if (ackDelayMaxMs === 0) {
      connection.send(bytes);
      return;
    }
    time.after(random.integer(ackDelayMaxMs), this.#zone, 'ack', () => {
      if (this.#connection === connection) connection.send(bytes);
    });
  }

  #publishLater(): void {
    const { time, random } = this.#world;
    const { publishEveryMs } = this.plan;
    const delayMs = publishEveryMs / 2 + random.integer(publishEveryMs);
    time.after(delayMs, this.#zone, 'publish', () => {
      if (this.finishing) return;
      if (this.connected && this.#inflight.size < WINDOW) {
        // Now and then a few at once.
        for (let i = random.integer(6) === 0 ? 3 : 1; i > 0; i--) this.#publish();
      }
      this.#publishLater();
    });
  }

  #publish(): void {
    const { random } = this.#world;
    const { publishes } = this.plan;
    const { topic, qos, retain } = publishes[random.integer(publishes.length)]!;
    const packetId = qos === 0 ? 0 : this.#nextPacketId();
    const message = { seq: ++this.#seq, topic, qos, retain, packetId, released: false };
    if (qos > 0) this.#inflight.set(packetId, message);
    this.#write(message, false);
  }

  #write(message: Outgoing, dup: boolean): void {
    const { seq, topic, qos, retain, packetId } = message;
    const publisher = this.plan.clientId;
    const payload = messagePayload({ publisher, seq });
    const hash = payloadHash(payload);
    this.#record(
      dup
        ? { op: 'resend', publisher, seq, topic, qos }
        : { op: 'publish', phase: 'invoke', publisher, seq, topic, qos, retain, hash },
    );
    this.#connection!.send(encodePublish({ topic, payload, qos, retain, dup, packetId }, 5));
  }

  #onPubrec(packet: DevicePacket): void {
    const message = this.#inflight.get(packet.packetId);
    if (packet.code >= 0x80) {
      this.#settle(packet, true);
      return;
    }
    if (message !== undefined && !message.released) {
      this.#settle(packet, false);
      message.released = true;
    }
    this.#connection!.send(encodeAcknowledgement(PUBREL, packet.packetId));
  }

  #settle({ packetId, code }: DevicePacket, over: boolean): void {
    const message = this.#inflight.get(packetId);
    if (message === undefined || message.released) return;
    const { seq, topic, qos } = message;
    this.#record({
      op: 'publish',
      phase: code < 0x80 ? 'ok' : 'fail',
      publisher: this.plan.clientId,
      ...{ seq, topic, qos },
    });
    if (over) this.#inflight.delete(packetId);
  }

  #nextPacketId(): number {
    do this.#packetId = (this.#packetId % 65_535) + 1;
    while (this.#inflight.has(this.#packetId));
    return this.#packetId;
  }
}

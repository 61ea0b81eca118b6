import { Outbox, AckOutcome, PACKET_BYTES_UNLIMITED } from '../delivery/outbox.ts';
import { QueueReader } from '../delivery/queue-reader.ts';
import type { QueueReaderOwner } from '../delivery/queue-reader.ts';
import type { Publisher } from '../delivery/router.ts';
import { ProtocolError } from '../errors.ts';
import type { Message } from '../message.ts';
import type { ClientInfo, Node } from '../node.ts';
import { AckType } from '../packet.ts';
import type {
  AuthPacket,
  ConnectPacket,
  DisconnectPacket,
  OutgoingPacket,
  PacketHandler,
  ProtocolVersion,
  SubscribePacket,
  UnsubscribePacket,
} from '../packet.ts';
import type { Principal } from '../ports/access.ts';
import type { Channel, ChannelHandler, CloseReason } from '../ports/channel.ts';
import type { OwnerToken } from '../ports/state-store.ts';
import { ReasonCode, connackReasonCode, disconnectReasonCode } from '../reason-code.ts';
import { RetainedDelivery } from '../retained/retained-delivery.ts';
import type { RetainedConsumer, RetainedRequest } from '../retained/retained-delivery.ts';
import type { SessionTarget } from '../route/subscription.ts';
import { Timer } from '../timer-wheel.ts';
import type { TimerOwner } from '../timer-wheel.ts';
import type { Authentication } from './authentication.ts';
import { IncomingPublishes } from './incoming-publishes.ts';
import { KeptPackets } from './kept-packets.ts';
import { connackProperties } from './connect.ts';
import type { ConnectGrant } from './connect.ts';
import { Opening } from './opening.ts';
import type { Opened } from './opening.ts';
import { subscribe, unsubscribe } from './subscribe.ts';

/** Milliseconds for which a closed connection is still read, so that the client gets to see our last packet. */
const DRAIN_MS = 2_000;
/** Likewise, for one that got no session: it has little to read, and may be here for nothing but the connection. */
const REFUSED_DRAIN_MS = 500;
/** Milliseconds for which a CONNECT is held until the store answers. Common clients give up after 30 s. */
const STORE_WAIT_MS = 60_000;
/** Milliseconds that a packet may wait for something before those behind it are read. */
const LONG_WAIT_MS = 1_000;
/** Output beyond which retained messages wait. No channel's high-water mark is above it: `onDrain` will come. */
const RETAINED_BACKLOG_BYTES = 262_144;

/** Milliseconds after which a publisher is taken for one that has these receivers only. */
const FEEDS_ONE_MS = 2_000;

/**
 * The life of a connection:
 *
 *   (accepted) ──▶ connect ── CONNECT ──▶ opening ── CONNACK ──▶ connected ──▶ closed
 *                     │                   │     ▲                                 ▲
 *                     │             AUTH  ▼     │ AUTH                            │
 *                     │                authenticating ────────────────────────────┤
 *                     └──── deadline, not MQTT, client gone ──────────────────────┘
 *
 * `opening` waits for the access port and the store; nothing is decoded meanwhile, so packets that come before
 * CONNACK left are handled after it, in order. `authenticating` waits for an AUTH of the client.
 */
type State = 'connect' | 'opening' | 'authenticating' | 'connected' | 'closed';

/**
 * One network connection and, once connected, the session it serves. Packets come in through `PacketHandler`,
 * everything goes out through the channel. Small: there are tens of thousands, most of them idle.
 */
export class Connection
  implements
    PacketHandler,
    ChannelHandler,
    TimerOwner,
    Publisher,
    RetainedConsumer,
    QueueReaderOwner
{
  readonly node: Node;
  readonly channel: Channel;
  decodingPaused = false;
  version: ProtocolVersion = 5;
  clientId = '';
  principal: Principal | undefined = undefined;
  /** The client has subscribed with No Local: it does not want what it publishes itself [MQTT-3.8.3-3]. */
  wantsNoLocal = false;
  #state: State = 'connect';
  /** From CONNECT on. */
  #opening: Opening | undefined = undefined;
  #target: SessionTarget | undefined = undefined;
  #outbox: Outbox | undefined = undefined;
  #reader: QueueReader | undefined = undefined;
  #retained: RetainedDelivery | undefined = undefined;
  #incoming: IncomingPublishes | undefined = undefined;
  /** Milliseconds of silence after which the client is taken for dead; 0: never [MQTT-3.1.2-22]. */
  #silenceMaxMs = 0;
  #lastReceivedMs: number;
  /** When the first byte of the packet that is not complete yet came; 0: none is under way. */
  #partialSinceMs = 0;
  /** What nothing is handled before. */
  #waitsFor = 0;
  #waitingSinceMs = 0;
  /** What came meanwhile, once that takes long. */
  #kept: KeptPackets | undefined = undefined;
  /** Reads less for the sake of a client that cannot keep up. */
  #held = false;
  feeding = '';
  /** When the publisher last changed over to other receivers, to the tick. */
  #feedingSinceMs = -FEEDS_ONE_MS;
  /** Does not read because the client does not take what it is owed. */
  #choked = false;
  /** Does not read any more because the node drains. */
  #leaving = false;
  /** When the client last acknowledged something, or had nothing to. */
  #lastProgressMs = 0;
  readonly #timer: Timer;

  constructor(node: Node, channel: Channel) {
    this.node = node;
    this.channel = channel;
    this.#lastReceivedMs = node.parts.clock.monotonicMs();
    this.#timer = new Timer(this);
    node.timers.arm(this.#timer, this.#lastReceivedMs + node.limits.connectTimeoutMs);
  }

  /** The session that this connection serves; only while connected. */
  get target(): SessionTarget | undefined {
    return this.#target;
  }

  /** '' until the session is claimed. */
  get token(): OwnerToken {
    return this.#opening === undefined ? '' : this.#opening.token;
  }

  get sentBelow(): number | undefined {
    return this.#reader?.sentBelow;
  }

  /** What the client asked for and gets; `undefined` until CONNECT was found in order. */
  get #grant(): ConnectGrant | undefined {
    return this.#opening?.grant;
  }

  /** Enhanced authentication, when the client uses it. */
  get #authentication(): Authentication | undefined {
    return this.#opening?.enhanced;
  }

  get connected(): boolean {
    return this.#state === 'connected';
  }

  /** A reason in words, for a client that wants it: Request Problem Information is not 0 [MQTT-3.1.2-29]. */
  problem(reasonString: string | undefined): { reasonString?: string } {
    if (reasonString === undefined || this.#grant === undefined) return {};
    const wanted = this.#grant.packet.properties.requestProblemInformation ?? true;
    return wanted ? { reasonString } : {};
  }

  // PacketHandler

  onConnect(packet: ConnectPacket): void {
    this.node.counters.packetsReceived[1]!++;
    this.version = packet.protocolVersion;
    this.#state = 'opening';
    this.#pauseDecoding();
    this.node.timers.arm(
      this.#timer,
      this.node.parts.clock.monotonicMs() + 2 * this.node.limits.connectTimeoutMs,
    );
    this.#opening = new Opening(this, packet);
    void this.#opening.begin();
  }

  onPublish(message: Message): void {
    if (this.#state !== 'connected') {
      this.#refuseEarlyPacket();
      return;
    }
    if (this.#kept !== undefined && message.qos > 0) {
      const owned = message.owned();
      this.#keep(owned.payloadBytes + owned.properties.length, () => {
        this.#incoming!.onPublish(owned);
      });
      return;
    }
    this.#incoming!.onPublish(message);
  }

  onAck(type: AckType, packetId: number, reasonCode: number): void {
    if (this.#state !== 'connected') {
      this.#refuseEarlyPacket();
      return;
    }
    this.node.counters.packetsReceived[type]!++;
    if (type === AckType.Pubrel) {
      this.#incoming!.onPubrel(packetId);
      return;
    }
    this.#lastProgressMs = this.#lastReceivedMs;
    const outcome =
      this.#reader === undefined
        ? this.#outbox!.acknowledge(type, packetId, reasonCode)
        : this.#reader.acknowledge(type, packetId, reasonCode);
    if (outcome === AckOutcome.Done) return;
    if (outcome === AckOutcome.Mismatch) {
      this.#fail(
        new ProtocolError(
          ReasonCode.ProtocolError,
          'MQTT-4.3.3-4',
          'an acknowledgement of the wrong type',
        ),
      );
      return;
    }
    // An identifier that we do not know may come from a session that we lost: let the client get over it.
    if (type === AckType.Pubrec && reasonCode < 0x80) {
      this.writeAck(AckType.Pubrel, packetId, ReasonCode.PacketIdentifierNotFound);
    }
  }

  onSubscribe(packet: SubscribePacket): void {
    if (this.#state !== 'connected') {
      this.#refuseEarlyPacket();
      return;
    }
    if (this.#kept !== undefined) {
      this.#keep(weightOf(packet.requests), () => {
        this.onSubscribe(packet);
      });
      return;
    }
    this.node.counters.packetsReceived[8]!++;
    this.waitFor(this.#onceValid(() => subscribe(this, packet)));
  }

  onUnsubscribe(packet: UnsubscribePacket): void {
    if (this.#state !== 'connected') {
      this.#refuseEarlyPacket();
      return;
    }
    if (this.#kept !== undefined) {
      this.#keep(weightOf(packet.filters), () => {
        this.onUnsubscribe(packet);
      });
      return;
    }
    this.node.counters.packetsReceived[10]!++;
    this.waitFor(this.#onceValid(() => unsubscribe(this, packet)));
  }

  onPingreq(): void {
    if (this.#state !== 'connected') {
      this.#refuseEarlyPacket();
      return;
    }
    this.node.counters.packetsReceived[12]!++;
    this.send({ kind: 'pingresp' });
  }

  onDisconnect(packet: DisconnectPacket): void {
    if (this.#kept !== undefined) {
      this.#keep(0, () => {
        this.onDisconnect(packet);
      });
      return;
    }
    this.node.counters.packetsReceived[14]!++;
    if (this.#state !== 'connected') {
      this.close('client_disconnect', undefined);
      return;
    }
    const asked = packet.sessionExpiryInterval;
    if (asked !== undefined && asked > 0 && this.#grant!.requestedExpiry === 0) {
      // A session that was to end with its connection cannot be made to last (MQTT 5.0 §3.14.2.2.2).
      this.#fail(
        new ProtocolError(
          ReasonCode.ProtocolError,
          '§3.14.2.2.2',
          'Session Expiry Interval raised from 0',
        ),
      );
      return;
    }
    this.close('client_disconnect', undefined, {
      discardWill: packet.reasonCode === ReasonCode.Success,
      expiryInterval:
        asked === undefined ? undefined : Math.min(asked, this.node.limits.sessionExpiryMax),
    });
  }

  onAuth(packet: AuthPacket): void {
    if (this.#kept !== undefined) {
      this.#keep(packet.authenticationData?.length ?? 0, () => {
        this.onAuth(packet);
      });
      return;
    }
    this.node.counters.packetsReceived[15]!++;
    const authentication = this.#authentication;
    if (authentication === undefined) {
      this.#fail(
        new ProtocolError(
          ReasonCode.ProtocolError,
          'MQTT-4.12.0-6',
          'AUTH without an Authentication Method',
        ),
      );
      return;
    }
    const problem = authentication.problemWith(packet, this.#state === 'connected');
    if (problem !== undefined) {
      this.#fail(problem);
      return;
    }
    this.#pauseDecoding();
    if (this.#state === 'connected') {
      this.waitFor(this.#reauthenticate(authentication, packet));
    } else {
      this.#state = 'opening';
      void this.#opening!.proceed(packet);
    }
  }

  onDecodeError(error: ProtocolError): void {
    this.version = error.answerVersion ?? this.version;
    this.#fail(error);
  }

  onBatchEnd(packets: number, partialBytes: number): void {
    const nowMs = this.node.parts.clock.monotonicMs();
    this.#lastReceivedMs = nowMs;
    if (partialBytes === 0) {
      this.#partialSinceMs = 0;
    } else if (packets > 0 || this.#partialSinceMs === 0) {
      this.#partialSinceMs = nowMs;
      const deadline = nowMs + this.node.limits.packetTimeoutMs;
      if (this.#state === 'connected' && (!this.#timer.armed || this.#timer.atMs > deadline)) {
        this.node.timers.arm(this.#timer, deadline);
      }
    }
    if (packets === 0) return;
    this.node.router.flush();
    this.#chokeWhenBlocked();
    if (this.#incoming !== undefined) this.#incoming.onBatchEnd(nowMs);
    if (this.#reader !== undefined) this.#reader.onBatchEnd();
    this.#progressed();
  }

  // ChannelHandler

  onDrain(): void {
    this.#lastProgressMs = this.node.parts.clock.monotonicMs();
    if (this.#choked) this.endChoke();
    this.#outbox?.onDrain();
    if (this.#reader !== undefined) this.#reader.onBatchEnd();
    this.#progressed();
  }

  onClosed(reason: 'client_eof' | 'io_error' | 'slow_consumer' | 'server'): void {
    if (this.#state !== 'closed') {
      void this.#finish(reason === 'server' ? 'io_error' : reason, {});
    }
  }

  // TimerOwner: one timer for the CONNECT deadline, keep alive, half-received packets and clients that stall.

  onTimer(nowMs: number): void {
    if (this.#state === 'closed') return;
    if (this.#state !== 'connected') {
      const held = this.#opening?.waitsForStore === true;
      this.close(held ? 'overload' : 'protocol_error', undefined);
      return;
    }
    // What we do not read is neither silent nor late.
    if (!this.#readable) this.#touch(nowMs);
    if (this.#silenceMaxMs > 0 && nowMs - this.#lastReceivedMs >= this.#silenceMaxMs) {
      this.close('keepalive_timeout', ReasonCode.KeepAliveTimeout);
      return;
    }
    const { packetTimeoutMs } = this.node.limits;
    if (this.#partialSinceMs > 0 && nowMs - this.#partialSinceMs >= packetTimeoutMs) {
      this.close('protocol_error', ReasonCode.ProtocolError);
      return;
    }
    const expiresAtMs = this.principal?.expiresAtMs;
    if (expiresAtMs !== undefined && this.node.parts.clock.wallMs() >= expiresAtMs) {
      this.close('not_authorized', ReasonCode.NotAuthorized);
      return;
    }
    if (this.#stalled(nowMs)) {
      this.close('slow_consumer', ReasonCode.QuotaExceeded);
      return;
    }
    this.#armTimer(nowMs);
  }

  /** The event loop stood still: what clients sent meanwhile has not been read. */
  extendDeadlines(stalledMs: number): void {
    this.#lastReceivedMs += stalledMs;
    this.#lastProgressMs += stalledMs;
    if (this.#partialSinceMs > 0) this.#partialSinceMs += stalledMs;
  }

  // Publisher

  feeds(receivers: string): void {
    if (this.feeding !== '') this.#feedingSinceMs = this.node.lastTickMs;
    this.feeding = receivers;
  }

  holdFor(outbox: Outbox): void {
    if (this.node.lastTickMs - this.#feedingSinceMs < FEEDS_ONE_MS) return;
    // A client is not held for its own sake: it may be the one that has to acknowledge.
    if (outbox === this.#outbox || !this.node.hold(this, outbox)) return;
    this.#held = true;
    this.channel.pauseReading();
  }

  /** The reason to read less has gone. */
  endHold(): void {
    this.#held = false;
    this.#readOn();
  }

  /** The client has taken some of what it is owed. */
  endChoke(): void {
    this.#lastProgressMs = this.node.parts.clock.monotonicMs();
    this.#choked = false;
    this.node.choked.delete(this);
    this.#readOn();
  }

  /** The output that waits for the client is no more than it may be. */
  get relieved(): boolean {
    return this.#outbox?.blocked !== true;
  }

  /**
   * Whoever sends without reading would have us keep every answer. So an answer is the last one until some were
   * taken: a client that takes none is ended by the channel.
   */
  #chokeWhenBlocked(): void {
    if (this.#choked || this.#outbox?.blocked !== true || this.#state === 'closed') return;
    this.#choked = true;
    this.node.choked.add(this);
    this.channel.pauseReading();
  }

  get #readable(): boolean {
    return !this.decodingPaused && !this.#held && !this.#choked && !this.#leaving;
  }

  /** Reads on when there is no other reason not to. */
  #readOn(): void {
    if (this.#state === 'closed' || !this.#readable) return;
    this.#touch(this.node.parts.clock.monotonicMs());
    this.channel.resumeReading();
  }

  #touch(nowMs: number): void {
    this.#lastReceivedMs = nowMs;
    if (this.#partialSinceMs > 0) this.#partialSinceMs = nowMs;
    if (this.#choked) this.#lastProgressMs = nowMs;
  }

  // RetainedConsumer

  get hungry(): boolean {
    const outbox = this.#outbox;
    if (outbox === undefined || outbox.waiting > 0) return false;
    if (outbox.channel.backlogBytes > RETAINED_BACKLOG_BYTES) return false;
    return this.#reader === undefined || this.#reader.hungry;
  }

  deliverRetained(message: Message, request: RetainedRequest): void | Promise<void> {
    const target = this.#target;
    if (target === undefined) return undefined;
    if (this.principal!.unrestricted) {
      this.node.router.deliverRetained(message, target, request);
      return undefined;
    }
    return this.authorize('receive', message.topic.name, message.qos, true).then((allowed) => {
      if (allowed && this.connected) {
        this.node.router.deliverRetained(message, target, request);
      } else {
        this.node.counters.messagesDropped.unauthorized += 1;
      }
    });
  }

  // For the handlers in this folder.

  /** Asks the access port; every failure means no. */
  async authorize(
    action: 'publish' | 'subscribe' | 'receive',
    topic: string,
    qos: 0 | 1 | 2,
    retain: boolean,
  ): Promise<boolean> {
    try {
      return await this.node.parts.access.authorize({
        principal: this.principal!,
        clientId: this.clientId,
        action,
        topic,
        qos,
        retain,
      });
    } catch {
      this.node.counters.authResults.simple.failed += 1;
      return false;
    }
  }

  /** Sends a packet. One that does not fit the client's Maximum Packet Size is not sent: false. */
  send(packet: OutgoingPacket): boolean {
    if (this.#state === 'closed') return false;
    const sent = this.node.parts.encoder.packet(
      this.channel,
      packet,
      this.version,
      this.#grant?.packetBytesMax ?? PACKET_BYTES_UNLIMITED,
    );
    if (sent) this.node.counters.packetsSent[PACKET_TYPES[packet.kind]]!++;
    return sent;
  }

  writeAck(type: AckType, packetId: number, reasonCode: number): void {
    if (this.#state === 'closed') return;
    this.node.counters.packetsSent[type]!++;
    this.node.parts.encoder.ack(this.channel, type, packetId, reasonCode, this.version);
  }

  /** Sends the retained messages for a new subscription, after what was sent so far. */
  startRetained(request: RetainedRequest): void {
    if (this.#state === 'closed') return;
    this.#retained ??= new RetainedDelivery(
      {
        index: this.node.retained,
        store: this.node.retainedMessages,
        scheduler: this.node.parts.scheduler,
        turns: this.node.turns,
      },
      this,
      () => {
        this.storeLost('failed');
      },
    );
    this.#retained.add(request);
  }

  /** The subscription is gone: what of its retained messages was not sent yet is not sent. */
  endRetained(filter: string): void {
    this.#retained?.cancel(filter);
  }

  // QueueReaderOwner

  get valid(): boolean {
    return this.node.parts.peers.valid;
  }

  whenValid(): Promise<void> {
    return this.node.parts.peers.whenValid();
  }

  caughtUp(): void {
    this.#retained?.resume();
  }

  /** The session belongs to another connection, or the store cannot be relied on: this connection must end. */
  storeLost(why: 'fenced' | 'failed'): void {
    if (why === 'fenced') this.close('takeover', ReasonCode.SessionTakenOver);
    else this.close('overload', ReasonCode.ServerUnavailable);
  }

  /** Another connection has taken the session. */
  takenOver(): void {
    this.node.parts.events.report({ event: 'session.taken_over', clientId: this.clientId });
    this.node.counters.sessionEvents.takeover_local += 1;
    this.close('takeover', ReasonCode.SessionTakenOver);
  }

  /** The store was replaced: what it knew of this session it is told again. Somebody else may have it by now. */
  async restore(): Promise<void> {
    const { node, clientId, token } = this;
    const target = this.#target;
    const grant = this.#grant;
    if (target === undefined || grant === undefined || !this.connected) return;
    const { incarnation, persistent } = target;
    const subscriptions = persistent
      ? [...target.subscriptions.values()].map(({ stored }) => stored)
      : [];
    try {
      const result = await node.parts.store.restore({
        ...{ clientId, incarnation, token, subscriptions },
        expiryInterval: grant.expiryInterval,
        protocolVersion: this.version,
        username: this.principal!.username,
        will: grant.packet.will,
        queued: persistent,
        incoming: persistent ? this.#incoming!.received : [],
        released: this.#reader?.releasedSequences ?? [],
        nextSequence: this.#reader?.nextSequence ?? 1,
      });
      if (result === 'fenced') this.takenOver();
    } catch (error) {
      node.storeFailed('restore', error);
      this.storeLost('failed');
    }
  }

  /** The node is stopping. */
  shutDown(): void {
    this.close('server_shutdown', ReasonCode.ServerShuttingDown);
  }

  // Eviction

  /** The node drains: nothing is read any more, and what was read is brought to its end. See `Eviction`. */
  leave(): void {
    if (this.#state === 'closed') return;
    this.#leaving = true;
    this.channel.pauseReading();
  }

  /** Everything that was read has been carried out and acknowledged. */
  get settled(): boolean {
    if (this.#state !== 'connected') return true;
    if (this.decodingPaused || this.#waitsFor > 0 || this.#kept !== undefined) return false;
    return this.#incoming!.settled;
  }

  /**
   * Lets go of the session, with a will that waits. Resolves when it is released: the client is told behind that
   * (`bidFarewell`), so that it cannot be back before.
   */
  async depart(willGraceMs: number): Promise<void> {
    if (this.#state === 'connected') {
      this.node.router.flush();
      await this.#finish('drain', { willGraceMs });
    } else {
      await this.#finish('drain', {});
    }
  }

  /**
   * Tells the client that the server goes, and ends the connection. One that has no CONNACK is told nothing: common
   * clients never come back from a refused one, but do from a closed socket.
   */
  bidFarewell(serverReference: string): void {
    const { node, channel } = this;
    if (this.#target === undefined) {
      channel.end(REFUSED_DRAIN_MS);
      return;
    }
    const { packetBytesMax } = this.#grant!;
    const farewell =
      serverReference === ''
        ? { reasonCode: ReasonCode.ServerShuttingDown }
        : { reasonCode: ReasonCode.UseAnotherServer, serverReference };
    const packet = { kind: 'disconnect', ...farewell } as const;
    if (node.parts.encoder.packet(channel, packet, this.version, packetBytesMax)) {
      node.counters.packetsSent[PACKET_TYPES.disconnect]!++;
    }
    channel.end(DRAIN_MS);
  }

  /** Ends the connection on behalf of an operator or an embedding program. */
  disconnect(reasonCode: number): void {
    this.close('server_shutdown', reasonCode);
  }

  fail(error: ProtocolError): void {
    this.#fail(error);
  }

  // CONNECT

  get closed(): boolean {
    return this.#state === 'closed';
  }

  /** The server has asked the client for an AUTH: that is decoded, and nothing else is in order. */
  awaitAuth(): void {
    this.#state = 'authenticating';
    this.#resumeDecoding();
  }

  /** Called by `Opening` when the session is there: CONNACK, and the connection is open. */
  start({ grant, claimed, target, authenticationData }: Opened): void {
    const { node, clientId } = this;
    this.#target = target;
    const greeted = this.send({
      kind: 'connack',
      // 3.1 has no Session Present flag.
      sessionPresent: claimed.sessionPresent && this.version !== 3,
      reasonCode: ReasonCode.Success,
      properties: {
        ...connackProperties(grant, clientId, node.limits),
        ...this.#authentication?.properties(authenticationData),
      },
    });
    if (!greeted) {
      // Nothing may be sent to a client that cannot have the CONNACK [MQTT-3.2.0-1].
      void this.release({ discardWill: true, sentBelow: claimed.sentBelow });
      this.refuse(ReasonCode.PacketTooLarge, 'Maximum Packet Size below CONNACK', 'protocol_error');
      return;
    }
    const outbox = new Outbox(
      node.delivery,
      this.channel,
      {
        version: this.version,
        clientId,
        receiveMaximum: grant.receiveMaximum,
        packetBytesMax: grant.packetBytesMax,
        topicAliasMaximum: grant.topicAliasMaximum,
      },
      () => {
        this.close('slow_consumer', ReasonCode.QuotaExceeded);
      },
    );
    this.#outbox = outbox;
    this.#incoming = new IncomingPublishes(
      this,
      target.persistent ? target : undefined,
      claimed.incoming,
    );
    target.outbox = outbox;
    node.connections.set(clientId, this);
    this.#state = 'connected';
    this.#silenceMaxMs = grant.keepAlive * 1500;
    const nowMs = node.parts.clock.monotonicMs();
    this.#lastReceivedMs = nowMs;
    this.#lastProgressMs = nowMs;
    this.#armTimer(nowMs);
    node.counters.connect(this.version, ReasonCode.Success);
    node.counters.listener(this.channel.listener).connected[this.version]!++;
    node.counters.sessionEvents[claimed.sessionPresent ? 'resumed' : 'created'] += 1;
    if (target.persistent) {
      const reader = new QueueReader(
        node.delivery,
        node.parts.store,
        target,
        this.#opening!.token,
        outbox,
        claimed,
        this,
      );
      this.#reader = reader;
      target.reader = reader;
      reader.start();
      if (!node.parts.peers.alone) {
        // What was appended before everybody knew where to send hints may have come without one.
        void node.parts.peers.announceConnected(target).then(() => {
          reader.recheck();
        });
      }
    }
    node.parts.events.connected?.(this.#info());
    node.parts.events.report({
      event: 'client.connected',
      clientId,
      remoteAddress: this.channel.remoteAddress,
      sessionPresent: claimed.sessionPresent,
    });
    this.#resumeDecoding();
  }

  async #reauthenticate(authentication: Authentication, packet: AuthPacket): Promise<void> {
    const result = await authentication.step(packet.authenticationData);
    if (this.closed) return;
    switch (result.outcome) {
      case 'rejected':
        this.close('not_authorized', result.reasonCode);
        return;
      case 'accepted':
        this.principal = result.principal;
        break;
      case 'continue':
        break;
    }
    this.send({
      kind: 'auth',
      reasonCode:
        result.outcome === 'accepted' ? ReasonCode.Success : ReasonCode.ContinueAuthentication,
      ...authentication.properties(result.authenticationData),
    });
  }

  // The end

  /** Whoever may have been taken for dead does nothing before it is known what has become of the session. */
  async #onceValid(work: () => Promise<void>): Promise<void> {
    if (!this.valid) await this.whenValid();
    if (!this.closed) await work();
  }

  /** No packet that comes is handled until `work` is done. */
  waitFor(work: Promise<void>): void {
    this.#pauseDecoding();
    if (this.#waitsFor === 0) {
      this.#waitingSinceMs = this.node.lastTickMs;
      this.node.waiting.add(this);
    }
    this.#waitsFor += 1;
    void work.then(() => {
      this.#waitsFor -= 1;
      if (this.#waitsFor > 0) {
        if (this.#kept?.full === false) this.#resumeDecoding();
        return;
      }
      this.node.waiting.delete(this);
      this.#handleKept();
    });
  }

  /** CONNECT waits for the access port to say what the session may still do. */
  awaitAccess(): void {
    const { parts, limits, timers } = this.node;
    timers.arm(this.#timer, parts.clock.monotonicMs() + limits.connectTimeoutMs);
  }

  /** CONNECT waits for the store: not as long as that takes, but longer than most clients wait. */
  awaitStore(): void {
    this.node.timers.arm(this.#timer, this.node.parts.clock.monotonicMs() + STORE_WAIT_MS);
  }

  /** Time has passed. What takes long must not keep the client from seeing that we live. */
  readWhileWaiting(nowMs: number): void {
    if (this.#kept !== undefined || this.#state !== 'connected') return;
    if (nowMs - this.#waitingSinceMs < LONG_WAIT_MS) return;
    const { receiveMaximum, packetBytesMax } = this.node.limits;
    this.#kept = new KeptPackets(receiveMaximum, packetBytesMax);
    this.#resumeDecoding();
  }

  #keep(bytes: number, handle: () => void): void {
    const kept = this.#kept!;
    kept.push(bytes, handle);
    if (kept.full) this.#pauseDecoding();
  }

  /** Handles what was kept, up to the next packet that waits; then reads on. */
  #handleKept(): void {
    const kept = this.#kept;
    this.#kept = undefined;
    if (kept !== undefined) {
      while (kept.length > 0 && this.#waitsFor === 0 && !this.closed) kept.handleNext();
      this.node.router.flush();
      this.#incoming?.onBatchEnd(this.node.parts.clock.monotonicMs());
      if (this.#waitsFor > 0) {
        // The rest goes on being kept; there is room now.
        if (kept.length > 0) this.#kept = kept;
        else return;
      }
    }
    this.#resumeDecoding();
  }

  /** Reading stops too, so that what the client sends meanwhile waits in the system's buffers and not in ours. */
  #pauseDecoding(): void {
    this.decodingPaused = true;
    this.channel.pauseReading();
  }

  #resumeDecoding(): void {
    if (this.#state === 'closed') return;
    this.decodingPaused = false;
    if (this.#leaving) return;
    this.channel.resumeDecoding();
    // Decoding may have come upon the next reason to wait.
    this.#readOn();
  }

  /** A packet other than AUTH and DISCONNECT while the connection is not yet open [MQTT-3.1.2-30]. */
  #refuseEarlyPacket(): void {
    if (this.#state === 'closed') return;
    this.#fail(
      new ProtocolError(ReasonCode.ProtocolError, 'MQTT-3.1.2-30', 'a packet before CONNACK'),
    );
  }

  #fail(error: ProtocolError): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'connected') {
      this.#reportClose('protocol_error', error.message);
      this.close('protocol_error', error.reasonCode, { reasonString: error.message });
    } else {
      this.refuse(error.reasonCode, error.message, 'protocol_error');
    }
  }

  /** Ends a connection that has no session yet: CONNACK with a reason code once CONNECT was understood. */
  refuse(reasonCode: number, reasonString: string | undefined, reason: CloseReason): void {
    this.node.parts.events.report({
      event: 'connection.refused',
      remoteAddress: this.channel.remoteAddress,
      reasonCode,
      message: reasonString ?? '',
    });
    if (this.#grant !== undefined || reasonCode !== ReasonCode.MalformedPacket) {
      this.node.counters.connect(this.#grant === undefined ? 0 : this.version, reasonCode);
    }
    const answer =
      this.#state !== 'connect' || reasonCode === ReasonCode.UnsupportedProtocolVersion;
    if (answer) {
      this.send({
        kind: 'connack',
        sessionPresent: false,
        reasonCode: connackReasonCode(reasonCode),
        properties: this.problem(reasonString),
      });
    }
    this.close(reason, undefined);
  }

  #reportClose(reason: CloseReason, message: string): void {
    this.node.parts.events.report({
      event: 'connection.closed',
      clientId: this.clientId,
      remoteAddress: this.channel.remoteAddress,
      reason,
      message,
    });
  }

  /** Ends the connection from our side. A reason code is sent in DISCONNECT to connected 5.0 clients. */
  close(
    reason: CloseReason,
    reasonCode: number | undefined,
    end: {
      discardWill?: boolean;
      expiryInterval?: number | undefined;
      reasonString?: string;
    } = {},
  ): void {
    if (this.#state === 'closed') return;
    const drainMs = this.#state === 'connected' ? DRAIN_MS : REFUSED_DRAIN_MS;
    if (this.#state === 'connected' && reasonCode !== undefined) {
      this.node.router.flush();
      this.send({
        kind: 'disconnect',
        reasonCode: disconnectReasonCode(reasonCode),
        ...this.problem(end.reasonString),
      });
    }
    this.channel.end(drainMs);
    void this.#finish(reason, end);
  }

  /** Takes the connection out of everything. Runs once. Resolves when the session is released, or could not be. */
  async #finish(
    reason: CloseReason,
    end: { discardWill?: boolean; expiryInterval?: number | undefined; willGraceMs?: number },
  ): Promise<void> {
    const wasConnected = this.#state === 'connected';
    this.#state = 'closed';
    const { node } = this;
    node.timers.disarm(this.#timer);
    node.forget(this);
    this.#kept = undefined;
    node.counters.connectionsClosed[reason] += 1;
    this.#opening?.abandon(reason);
    if (!wasConnected) return;
    node.counters.listener(this.channel.listener).connected[this.version]!--;
    const target = this.#target!;
    const sentBelow = this.#reader?.sentBelow ?? 1;
    this.#retained?.close();
    this.#reader?.close();
    if (target.outbox === this.#outbox) {
      target.outbox = undefined;
      target.reader = undefined;
    }
    if (!target.persistent) node.endTarget(target);
    this.#outbox!.close((message, group) => {
      node.router.redistribute(message, group);
    });
    if (node.connections.get(this.clientId) === this) node.connections.delete(this.clientId);
    node.parts.events.disconnected?.(this.#info(), reason);
    if (reason === 'takeover') {
      // Taken by whom, the new owner will tell, or the store.
      if (target.seenAt === '') target.seenAt = undefined;
      return;
    }
    await this.release({ ...end, sentBelow });
  }

  /** Resolves when the store has answered, whatever it has. */
  release(end: {
    discardWill?: boolean;
    expiryInterval?: number | undefined;
    sentBelow?: number;
    willGraceMs?: number;
  }): Promise<void> {
    const { node } = this;
    return node.parts.store
      .release({
        clientId: this.clientId,
        token: this.token,
        discardWill: end.discardWill ?? false,
        expiryInterval: end.expiryInterval,
        sentBelow: end.sentBelow ?? 1,
        ...(end.willGraceMs === undefined ? {} : { willGraceMs: end.willGraceMs }),
      })
      .then(
        (result) => {
          const target = this.#target;
          if (result.outcome === 'ok') {
            node.carryOut(result, 'connection_closed');
            if (target?.persistent === true) node.router.redistributeUnsent(target);
          } else if (target?.seenAt === '') target.seenAt = undefined;
        },
        (error: unknown) => {
          // The session stays claimed by a connection that is gone: a later claim, or the next sweep, ends it.
          node.storeFailed('release', error);
        },
      );
  }

  #progressed(): void {
    if (this.node.holding && this.#outbox !== undefined) this.node.relieve(this.#outbox);
    if (this.#retained !== undefined) this.#retained.resume();
  }

  #stalled(nowMs: number): boolean {
    const outbox = this.#outbox!;
    if (outbox.waiting === 0) {
      this.#lastProgressMs = nowMs;
      return false;
    }
    return nowMs - this.#lastProgressMs >= this.node.limits.stallTimeoutMs;
  }

  #armTimer(nowMs: number): void {
    const { limits } = this.node;
    let atMs = nowMs + limits.stallTimeoutMs;
    if (this.#silenceMaxMs > 0) {
      atMs = Math.min(atMs, this.#lastReceivedMs + this.#silenceMaxMs);
    }
    if (this.#partialSinceMs > 0) {
      atMs = Math.min(atMs, this.#partialSinceMs + limits.packetTimeoutMs);
    }
    const expiresAtMs = this.principal?.expiresAtMs;
    if (expiresAtMs !== undefined) {
      atMs = Math.min(atMs, nowMs + Math.max(expiresAtMs - this.node.parts.clock.wallMs(), 0));
    }
    this.node.timers.arm(this.#timer, atMs);
  }

  #info(): ClientInfo {
    return {
      clientId: this.clientId,
      username: this.principal?.username ?? '',
      remoteAddress: this.channel.remoteAddress,
      listener: this.channel.listener,
      protocolVersion: this.version,
      cleanStart: this.#grant!.packet.cleanStart,
      keepAlive: this.#grant!.keepAlive,
    };
  }
}

/** Bytes that these filters hold in memory, about. */
function weightOf(filters: readonly unknown[]): number {
  let bytes = 0;
  for (const filter of filters) {
    bytes += 64 + (typeof filter === 'string' ? filter.length : 256);
  }
  return bytes;
}

/** Packet type numbers, for the counters. */
const PACKET_TYPES: Readonly<Record<OutgoingPacket['kind'], number>> = {
  connack: 2,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  suback: 9,
  unsuback: 11,
  pingresp: 13,
  disconnect: 14,
  auth: 15,
};

import { ProtocolError } from '../errors.ts';
import type { Message } from '../message.ts';
import { AckType } from '../packet.ts';
import type { IncomingMessage, SessionRef } from '../ports/state-store.ts';
import { ReasonCode } from '../reason-code.ts';
import { AckQueue } from './ack-queue.ts';
import type { AckSlot } from './ack-queue.ts';
import type { Connection } from './connection.ts';
import { ReceiveState } from './receive-state.ts';

/**
 * What a connected client publishes: may it, who gets it, and the acknowledgement, in order, when it is kept (P1).
 */
export class IncomingPublishes {
  readonly #connection: Connection;
  readonly #qos2: ReceiveState;
  #acks: AckQueue | undefined = undefined;
  /** QoS 0 messages to be retained that the store does not have yet. */
  #retaining = 0;
  /** Called when fewer messages wait for the store: the client is read again. */
  #onRoom: (() => void) | undefined = undefined;
  /** When the first PUBLISH of the batch that is being decoded was read; 0: there was none. */
  #batchSinceMs = 0;
  /** The node had no lease when the batch began. */
  #suspended = false;
  #batchPublishes = 0;
  #batchPubacks = 0;
  #batchPubrecs = 0;

  /** `session`: the persistent session, `undefined` for a clean one; `incoming`: its QoS 2 receive state. */
  constructor(
    connection: Connection,
    session: SessionRef | undefined,
    incoming: readonly IncomingMessage[],
  ) {
    this.#connection = connection;
    this.#qos2 = new ReceiveState(connection, this, session, incoming);
  }

  onPublish(message: Message): void {
    const connection = this.#connection;
    const { counters, parts } = connection.node;
    counters.countPublishReceived(message.qos, message.payloadBytes);
    if (this.#batchSinceMs === 0) {
      this.#batchSinceMs = parts.clock.monotonicMs();
      this.#suspended = !parts.peers.alone && !parts.peers.valid;
    }
    this.#batchPublishes += 1;
    message.publisher = connection.clientId;
    // The client may have moved to another node, and have the same subscriptions there, when the message arrives.
    message.namesPublisher = connection.wantsNoLocal;
    message.expiresAtMs =
      message.expiryInterval < 0 ? 0 : parts.clock.wallMs() + message.expiryInterval * 1000;
    if (this.#suspended && message.qos > 0) this.#acceptLater(message.owned());
    else this.#acceptIfAllowed(message);
  }

  #acceptIfAllowed(message: Message): void {
    if (this.#connection.principal!.unrestricted && !message.topic.system) this.#accept(message);
    else this.#authorizeAndAccept(message);
  }

  /**
   * The node may have been taken for dead: others may have subscribed without its knowing, so nothing is routed, and
   * nothing acknowledged, until it has its lease back (P9). QoS 0 flows.
   */
  #acceptLater(message: Message): void {
    const connection = this.#connection;
    const { node } = connection;
    connection.waitFor(
      node.parts.peers.whenValid().then(() => {
        if (connection.closed) return;
        this.#suspended = false;
        this.#acceptIfAllowed(message);
        node.router.flush();
      }),
    );
  }

  /** QoS 2 messages that were acknowledged with PUBREC, and whose PUBREL has not come. */
  get received(): IncomingMessage[] {
    return this.#qos2.done;
  }

  onPubrel(packetId: number): void {
    this.#qos2.release(packetId);
  }

  /**
   * Durations are measured per batch of packets that were read together: the clock costs as much as a message. What
   * was published in it has been handed to its subscribers' sockets, and acknowledged unless something was owed.
   */
  onBatchEnd(nowMs: number): void {
    if (this.#batchSinceMs === 0) return;
    const elapsedMs = nowMs - this.#batchSinceMs;
    const { deliveryDuration, publishAckDuration } = this.#connection.node.counters;
    deliveryDuration.local.observe(elapsedMs, this.#batchPublishes);
    if (this.#batchPubacks > 0) publishAckDuration.qos1.observe(elapsedMs, this.#batchPubacks);
    if (this.#batchPubrecs > 0) publishAckDuration.qos2.observe(elapsedMs, this.#batchPubrecs);
    this.#batchSinceMs = 0;
    this.#batchPublishes = 0;
    this.#batchPubacks = 0;
    this.#batchPubrecs = 0;
  }

  #accept(message: Message): void {
    const connection = this.#connection;
    const { node } = connection;
    if (node.parts.events.published !== undefined) {
      node.parts.events.published(message.owned(), connection.clientId);
    }
    switch (message.qos) {
      case 0:
        if (node.router.publish(message, connection, '') < 0) this.#awaitRetained();
        return;
      case 1: {
        if (connection.version === 5 && this.#atReceiveMaximum()) return;
        const reasonCode = node.router.publish(message, connection, '');
        if (reasonCode >= 0) {
          this.acknowledge(AckType.Puback, message.packetId, reasonCode);
          return;
        }
        const slot = this.owe(AckType.Puback, message.packetId);
        const pending = node.router.takePending();
        pending.whenDone(() => {
          if (pending.failed) connection.storeLost('failed');
          else this.acks.settle(slot, pending.reasonCode);
        });
        this.#readNoMoreThanMayWait();
        return;
      }
      case 2:
        this.#qos2.publish(message);
        this.#readNoMoreThanMayWait();
    }
  }

  #awaitRetained(): void {
    this.#retaining += 1;
    this.#connection.node.router.takePending().whenDone(() => {
      this.#retaining -= 1;
      this.#noteRoom();
    });
    this.#readNoMoreThanMayWait();
  }

  /** What waits for the store is bounded also for 3.x clients, which know no Receive Maximum, and at QoS 0. */
  #readNoMoreThanMayWait(): void {
    if (this.#waiting < this.#connection.node.limits.receiveMaximum) return;
    if (this.#onRoom !== undefined) return;
    const room = new Promise<void>((resolve) => {
      this.#onRoom = resolve;
    });
    this.#connection.waitFor(room);
  }

  #noteRoom(): void {
    if (this.#onRoom === undefined) return;
    if (this.#waiting > this.#connection.node.limits.receiveMaximum / 2) return;
    const resume = this.#onRoom;
    this.#onRoom = undefined;
    resume();
  }

  /** Messages that were read and wait for the store. */
  get #waiting(): number {
    return this.#retaining + (this.#acks === undefined ? 0 : this.#acks.length);
  }

  /** Counts what the client has under way; more than it was told is an error of its own [MQTT-3.3.4-7]. */
  #atReceiveMaximum(): boolean {
    if (this.outstanding < this.#connection.node.limits.receiveMaximum) return false;
    this.#connection.fail(
      new ProtocolError(
        ReasonCode.ReceiveMaximumExceeded,
        'MQTT-3.3.4-7',
        'more QoS 1 and 2 messages under way than Receive Maximum',
      ),
    );
    return true;
  }

  /** QoS 1 and 2 messages of the client that are not yet acknowledged in full: no PUBACK, no PUBREL. */
  get outstanding(): number {
    const { held } = this.#qos2;
    return this.#acks === undefined ? held : held + this.#acks.pubacks;
  }

  #authorizeAndAccept(message: Message): void {
    const connection = this.#connection;
    // Topics of the server are not for clients to write to, whoever they are.
    const allowed = message.topic.system
      ? false
      : connection.node.parts.access.authorize({
          principal: connection.principal!,
          clientId: connection.clientId,
          action: 'publish',
          topic: message.topic.name,
          qos: message.qos,
          retain: message.retain,
        });
    if (allowed === true) this.#accept(message);
    else if (allowed === false) this.#acceptNot(message);
    else {
      const owned = message.owned();
      connection.waitFor(
        allowed.then(
          (answer) => {
            if (connection.closed) return;
            if (answer && (connection.valid || owned.qos === 0)) this.#accept(owned);
            else if (answer) this.#acceptLater(owned);
            else this.#acceptNot(owned);
            connection.node.router.flush();
          },
          () => {
            if (!connection.closed) this.#acceptNot(owned);
          },
        ),
      );
    }
  }

  /**
   * A message that may not be published. 5.0 clients are told; 3.1.1 has no way to say no but to close the
   * connection, or to acknowledge and discard [MQTT3-3.3.5-2]: we do the latter, as Mosquitto does.
   */
  #acceptNot(message: Message): void {
    this.#connection.node.counters.messagesDropped.unauthorized += 1;
    if (message.qos === 1) {
      this.acknowledge(AckType.Puback, message.packetId, ReasonCode.NotAuthorized);
    } else if (message.qos === 2) {
      this.#qos2.refuse(message.packetId, ReasonCode.NotAuthorized);
    }
  }

  /** Nothing is owed to the client for what it has sent. */
  get settled(): boolean {
    return this.#acks === undefined || this.#acks.length === 0;
  }

  /** Acknowledgements that have to wait for something. */
  get acks(): AckQueue {
    this.#acks ??= new AckQueue((slot) => {
      this.#connection.writeAck(slot.type, slot.packetId, slot.reasonCode);
      const { counters, turnClock } = this.#connection.node;
      const { publishAckDuration } = counters;
      const elapsedMs = turnClock.nowMs - slot.sinceMs;
      if (slot.type === AckType.Puback) publishAckDuration.qos1.observe(elapsedMs);
      else if (slot.type === AckType.Pubrec) publishAckDuration.qos2.observe(elapsedMs);
      this.#noteRoom();
    });
    return this.#acks;
  }

  /** An acknowledgement that has to wait; `acks.settle` when what it waits for is done. */
  owe(type: AckType, packetId: number): AckSlot {
    return this.acks.push(type, packetId, this.#connection.node.turnClock.nowMs);
  }

  /** Writes an acknowledgement now, or behind those that wait. */
  acknowledge(type: AckType, packetId: number, reasonCode: number): void {
    if (this.#acks !== undefined && this.#acks.length > 0) {
      this.#acks.settle(this.owe(type, packetId), reasonCode);
      return;
    }
    this.#connection.writeAck(type, packetId, reasonCode);
    if (type === AckType.Puback) this.#batchPubacks += 1;
    else if (type === AckType.Pubrec) this.#batchPubrecs += 1;
  }
}

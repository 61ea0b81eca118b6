import { ProtocolError } from '../errors.ts';
import type { Message } from '../message.ts';
import { AckType } from '../packet.ts';
import type { IncomingMessage, SessionRef } from '../ports/state-store.ts';
import { ReasonCode } from '../reason-code.ts';
import type { AckSlot } from './ack-queue.ts';
import type { Connection } from './connection.ts';
import type { IncomingPublishes } from './incoming-publishes.ts';

/**
 * The receiver's half of QoS 2 for one connection. MQTT 5.0 §4.3.3.
 *
 *             PUBLISH / keep, PUBREC               PUBREL / PUBCOMP
 *   (free) ──────────────────────────▶ (held) ──────────────────────▶ (free)
 *                                      │    ▲
 *                                      └────┘ PUBLISH / PUBREC
 *
 * A clean session holds its packet identifiers here. A persistent one has them in the store too, with the uid
 * under which the message is fanned out, written before the fan-out begins: a node that dies in between leaves
 * `pending` behind, the client repeats, and the fan-out is repeated under the same uid (P2).
 */
export class ReceiveState {
  readonly #connection: Connection;
  readonly #incoming: IncomingPublishes;
  /** The persistent session; `undefined` for a clean one. */
  readonly #session: SessionRef | undefined;
  /** Identifiers whose message this node knows to be accepted, or is accepting on this connection. */
  readonly #held: Set<number>;
  /** Those of them whose PUBREC is not out yet. */
  readonly #pending = new Set<number>();

  constructor(
    connection: Connection,
    incoming: IncomingPublishes,
    session: SessionRef | undefined,
    known: readonly IncomingMessage[],
  ) {
    this.#connection = connection;
    this.#incoming = incoming;
    this.#session = session;
    this.#held = new Set(
      known.filter(({ state }) => state === 'done').map(({ packetId }) => packetId),
    );
  }

  /** Messages held: they count against Receive Maximum until their PUBREL. */
  get held(): number {
    return this.#held.size;
  }

  /** Messages that are acknowledged, and whose PUBREL has not come. Their uids mean nothing any more. */
  get done(): IncomingMessage[] {
    return [...this.#held]
      .filter((packetId) => !this.#pending.has(packetId))
      .map((packetId) => ({ packetId, uid: '', state: 'done' }));
  }

  publish(message: Message): void {
    const connection = this.#connection;
    const incoming = this.#incoming;
    const { packetId } = message;
    // A retransmission, DUP or not, is acknowledged and not delivered again [MQTT-4.3.3-10].
    if (this.#held.has(packetId)) {
      incoming.acknowledge(AckType.Pubrec, packetId, ReasonCode.Success);
      return;
    }
    if (connection.version === 5 && incoming.outstanding >= connection.node.limits.receiveMaximum) {
      connection.fail(
        new ProtocolError(
          ReasonCode.ReceiveMaximumExceeded,
          'MQTT-3.3.4-7',
          'more QoS 1 and 2 messages under way than Receive Maximum',
        ),
      );
      return;
    }
    this.#held.add(packetId);
    if (this.#session === undefined) {
      this.#fanOut(message, '', undefined, undefined, false);
      return;
    }
    this.#pending.add(packetId);
    void this.#publishKept(message.owned(), this.#session);
  }

  /** The message may not be published: it is not held, and PUBREC says why. Unless it was accepted before. */
  refuse(packetId: number, reasonCode: number): void {
    if (this.#held.has(packetId)) {
      this.#incoming.acknowledge(AckType.Pubrec, packetId, ReasonCode.Success);
      return;
    }
    // 3.x has no way to say so: the exchange goes on as if it had been accepted.
    if (this.#connection.version < 5) this.#held.add(packetId);
    this.#incoming.acknowledge(AckType.Pubrec, packetId, reasonCode);
  }

  /** PUBREL: the identifier is free; answered also when it is unknown, our PUBCOMP may have been lost. */
  release(packetId: number): void {
    const connection = this.#connection;
    const incoming = this.#incoming;
    const held = this.#held.delete(packetId);
    if (this.#session === undefined) {
      incoming.acknowledge(
        AckType.Pubcomp,
        packetId,
        held ? ReasonCode.Success : ReasonCode.PacketIdentifierNotFound,
      );
      return;
    }
    const slot = incoming.owe(AckType.Pubcomp, packetId);
    connection.node.parts.store.endIncoming(this.#session, connection.token, packetId).then(
      (result) => {
        if (result === 'fenced') connection.storeLost('fenced');
        else {
          incoming.acks.settle(
            slot,
            held ? ReasonCode.Success : ReasonCode.PacketIdentifierNotFound,
          );
        }
      },
      (error: unknown) => {
        connection.node.storeFailed('endIncoming', error);
        connection.storeLost('failed');
      },
    );
  }

  async #publishKept(message: Message, session: SessionRef): Promise<void> {
    const connection = this.#connection;
    const incoming = this.#incoming;
    const { node } = connection;
    const { store, random } = node.parts;
    const slot = incoming.owe(AckType.Pubrec, message.packetId);
    try {
      const begun = await store.beginIncoming(
        session,
        connection.token,
        message.packetId,
        node.router.nameMessage(message, random.id()),
      );
      // Nothing is routed, and nothing acknowledged, by whom others may have taken for dead meanwhile.
      if (!connection.valid) await connection.whenValid();
      if (begun.outcome === 'fenced') {
        connection.storeLost('fenced');
      } else if (begun.repeated && begun.incoming.state === 'done') {
        this.#pending.delete(message.packetId);
        incoming.acks.settle(slot, ReasonCode.Success);
      } else if (!connection.closed) {
        this.#fanOut(message, begun.incoming.uid, slot, session, begun.repeated);
        connection.node.router.flush();
      }
    } catch (error) {
      connection.node.storeFailed('beginIncoming', error);
      connection.storeLost('failed');
    }
  }

  #fanOut(
    message: Message,
    uid: string,
    slot: AckSlot | undefined,
    session: SessionRef | undefined,
    repeated: boolean,
  ): void {
    const connection = this.#connection;
    const incoming = this.#incoming;
    const { router } = connection.node;
    const { packetId } = message;
    const reasonCode = router.publish(message, connection, uid, repeated);
    if (reasonCode >= 0) {
      this.#kept(packetId, reasonCode, slot, session);
      return;
    }
    const waiting = slot ?? incoming.owe(AckType.Pubrec, packetId);
    const pending = router.takePending();
    pending.whenDone(() => {
      if (pending.failed) connection.storeLost('failed');
      else
        this.#kept(packetId, pending.reasonCode, waiting, session, () => {
          router.settleUid(pending, uid, repeated);
        });
    });
  }

  /** Everybody has the message: PUBREC, once the store knows (persistent sessions). */
  #kept(
    packetId: number,
    reasonCode: number,
    slot: AckSlot | undefined,
    session: SessionRef | undefined,
    settleUid?: () => void,
  ): void {
    const connection = this.#connection;
    const incoming = this.#incoming;
    // A refused message is not held: its identifier may be used again at once.
    if (reasonCode >= 0x80) this.#held.delete(packetId);
    if (slot === undefined) {
      incoming.acknowledge(AckType.Pubrec, packetId, reasonCode);
      return;
    }
    if (session === undefined) {
      incoming.acks.settle(slot, reasonCode);
      return;
    }
    const { store } = connection.node.parts;
    const stored =
      reasonCode >= 0x80
        ? store.endIncoming(session, connection.token, packetId)
        : store.finishIncoming(session, connection.token, packetId);
    stored.then(
      (result) => {
        if (result === 'fenced') connection.storeLost('fenced');
        else {
          this.#pending.delete(packetId);
          settleUid?.();
          incoming.acks.settle(slot, reasonCode);
        }
      },
      (error: unknown) => {
        connection.node.storeFailed('finishIncoming', error);
        connection.storeLost('failed');
      },
    );
  }
}

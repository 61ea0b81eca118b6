import type { ConnectPacket, AuthPacket } from '../packet.ts';
import type { AuthenticateResult } from '../ports/access.ts';
import type { CloseReason } from '../ports/channel.ts';
import type { SubscriptionChange } from '../ports/peers.ts';
import type { ClaimedSession, OwnerToken } from '../ports/state-store.ts';
import { ReasonCode } from '../reason-code.ts';
import { SessionTarget, packOptions } from '../route/subscription.ts';
import { Authentication } from './authentication.ts';
import { grantConnect, refuseConnect } from './connect.ts';
import type { ConnectGrant } from './connect.ts';
import type { Connection } from './connection.ts';
import { mayUse } from './subscribe.ts';

/** With what a connection starts once its CONNECT was accepted. */
export interface Opened {
  readonly grant: ConnectGrant;
  readonly claimed: ClaimedSession;
  readonly target: SessionTarget;
  /** For CONNACK, in enhanced authentication. */
  readonly authenticationData: Uint8Array | undefined;
}

/**
 * The way from CONNECT to CONNACK: authentication, the right to the will, the claim of the session (from which on
 * every other owner is fenced), and the session's subscriptions. Waits for the access port and the store; the
 * connection may end at every step.
 */
export class Opening {
  readonly #connection: Connection;
  readonly #packet: ConnectPacket;
  /** `undefined` until the CONNECT was found in order. */
  grant: ConnectGrant | undefined = undefined;
  /** '' until the session is claimed. */
  token: OwnerToken = '';
  /** For the store or for other nodes, that is, and not for the access port. */
  waitsForStore = false;
  #authentication: Authentication | undefined = undefined;

  constructor(connection: Connection, packet: ConnectPacket) {
    this.#connection = connection;
    this.#packet = packet;
  }

  /** The exchange, when the client uses enhanced authentication; it may come back to it later. */
  get enhanced(): Authentication | undefined {
    return this.#authentication?.enhanced === true ? this.#authentication : undefined;
  }

  async begin(): Promise<void> {
    const connection = this.#connection;
    const { node } = connection;
    const packet = this.#packet;
    const refusal = refuseConnect(packet, node.limits);
    if (refusal !== undefined) {
      connection.fail(refusal);
      return;
    }
    connection.clientId =
      packet.clientId === '' ? `auto-${node.parts.random.id()}` : packet.clientId;
    const grant = grantConnect(packet, node.limits);
    this.grant = grant;
    const authentication = new Authentication(node, packet, {
      remoteAddress: connection.channel.remoteAddress,
      listener: connection.channel.listener,
    });
    this.#authentication = authentication;
    await this.#authenticated(authentication.start(), grant);
  }

  /** AUTH came, and is in order. */
  async proceed(packet: AuthPacket): Promise<void> {
    await this.#authenticated(this.#authentication!.step(packet.authenticationData), this.grant!);
  }

  /** The connection has ended. */
  abandon(reason: CloseReason): void {
    this.#authentication?.abandon();
    const connection = this.#connection;
    const { opening } = connection.node;
    if (opening.get(connection.clientId) !== connection) return;
    opening.delete(connection.clientId);
    // Whatever CONNACK waits for may never come: the session must not stay claimed until then.
    if (reason !== 'takeover') void connection.release({ discardWill: true });
  }

  async #authenticated(answer: Promise<AuthenticateResult>, grant: ConnectGrant): Promise<void> {
    const connection = this.#connection;
    const result = await answer;
    if (connection.closed) return;
    if (result.outcome === 'rejected') {
      connection.refuse(result.reasonCode, result.reasonString, 'not_authorized');
      return;
    }
    if (result.outcome === 'continue') {
      connection.send({
        kind: 'auth',
        reasonCode: ReasonCode.ContinueAuthentication,
        ...this.enhanced?.properties(result.authenticationData),
      });
      connection.awaitAuth();
      return;
    }
    connection.principal = result.principal;
    // What it was asked is not needed any more, unless the client may ask again.
    if (this.enhanced === undefined) this.#authentication = undefined;
    await this.#claimUnlessWillForbidden(grant, result.authenticationData);
  }

  async #claimUnlessWillForbidden(
    grant: ConnectGrant,
    authenticationData: Uint8Array | undefined,
  ): Promise<void> {
    const connection = this.#connection;
    const allowed = await this.#mayHaveWill(grant);
    if (connection.closed) return;
    if (allowed) await this.#claim(grant, authenticationData);
    else {
      connection.refuse(
        ReasonCode.NotAuthorized,
        'the will may not be published',
        'not_authorized',
      );
    }
  }

  async #mayHaveWill({ packet: { will } }: ConnectGrant): Promise<boolean> {
    if (will === undefined) return true;
    if (will.topic.startsWith('$')) return false;
    const connection = this.#connection;
    return (
      connection.principal!.unrestricted ||
      (await connection.authorize('publish', will.topic, will.qos, will.retain))
    );
  }

  async #claim(grant: ConnectGrant, authenticationData: Uint8Array | undefined): Promise<void> {
    const connection = this.#connection;
    const { node, clientId } = connection;
    const { packet } = grant;
    const { peers } = node.parts;
    this.waitsForStore = true;
    connection.awaitStore();
    if (!peers.alone && !peers.valid) {
      // What a node claims that was taken for dead, its heirs would release again.
      await peers.whenValid();
      if (connection.closed) return;
    }
    const { term } = peers;
    this.token = node.nextToken();
    node.claiming.set(this.token, false);
    let claimed: ClaimedSession;
    try {
      claimed = await node.parts.store.claim({
        clientId,
        token: this.token,
        cleanStart: packet.cleanStart,
        expiryInterval: grant.expiryInterval,
        protocolVersion: packet.protocolVersion,
        username: connection.principal!.username,
        will: packet.will,
      });
    } catch (error) {
      node.storeFailed('claim', error);
      // Common clients never come back from a refused CONNACK: they do from a closed socket.
      node.claiming.delete(this.token);
      connection.close('overload', undefined);
      return;
    }
    const lost = node.claiming.get(this.token) === true;
    node.claiming.delete(this.token);
    if (claimed.endedIncarnation !== undefined) {
      node.endSession(
        { clientId, incarnation: claimed.endedIncarnation },
        claimed.endedSubscriptions,
      );
      node.counters.sessionEvents.discarded += 1;
    }
    // One that has claimed and waits for the access port or the store is not connected yet, and is taken over too.
    const opening = node.opening.get(clientId);
    opening?.takenOver();
    const previous = node.connections.get(clientId);
    if (previous?.token === claimed.previousToken) {
      // The store only knows what may have been sent; the connection next door knows what was.
      claimed = { ...claimed, sentBelow: previous.sentBelow ?? claimed.sentBelow };
    } else if (claimed.previousToken !== '' && opening?.token !== claimed.previousToken) {
      node.parts.peers.takeOver(clientId, claimed.previousToken);
      node.counters.sessionEvents.takeover_remote += 1;
    }
    // One next door that nobody has told yet that it lost the session ends as well.
    previous?.takenOver();
    node.carryOut({ wills: claimed.wills, ended: [] }, 'takeover');
    if (connection.closed) {
      void connection.release({ discardWill: true });
      return;
    }
    if (lost) {
      connection.takenOver();
      return;
    }
    node.opening.set(clientId, connection);
    const target = await this.#resume(grant, claimed);
    if (target === undefined || !(await this.#stillOwns(target, term))) return;
    node.opening.delete(clientId);
    connection.start({ grant, claimed, target, authenticationData });
  }

  /**
   * A node that had no lease since the claim may have been taken for dead, and the session may have moved on. False:
   * the connection has ended.
   */
  async #stillOwns(target: SessionTarget, term: number): Promise<boolean> {
    const connection = this.#connection;
    const { peers, store } = connection.node.parts;
    while (!peers.valid || peers.term !== term) {
      await peers.whenValid();
      ({ term } = peers);
      const { token, replaced } = await new Promise<{
        readonly token: OwnerToken | undefined;
        readonly replaced: boolean | undefined;
      }>((answer) => {
        store.owner(target, (token, replaced) => {
          answer({ token, replaced });
        });
      });
      if (connection.closed) return false;
      if (token === this.token) continue;
      if (token === undefined || (token === '' && replaced !== true)) {
        connection.close('overload', undefined);
      } else {
        connection.takenOver();
      }
      return false;
    }
    return true;
  }

  /**
   * Makes the session a destination again, with the subscriptions its user may still have. `undefined`: the connection
   * has ended meanwhile.
   */
  async #resume(grant: ConnectGrant, claimed: ClaimedSession): Promise<SessionTarget | undefined> {
    const connection = this.#connection;
    const { node, clientId } = connection;
    // A resumed session lives in the store until it ends, also when it is to end with this connection.
    const persistent = grant.expiryInterval > 0 || claimed.sessionPresent;
    const target = persistent
      ? node.targetOf(clientId, claimed.incarnation)
      : new SessionTarget(clientId, claimed.incarnation, false);
    // If it ends here it is nowhere, unless another node says that it is there.
    target.seenAt = '';
    const revoked: string[] = [];
    const missing: SubscriptionChange[] = [];
    // Each answer may take its time, all of them together not many times that.
    this.waitsForStore = false;
    connection.awaitAccess();
    for (const subscription of claimed.subscriptions) {
      const allowed = await mayUse(connection, subscription);
      if (connection.closed) return undefined;
      if (!allowed) revoked.push(subscription.filter);
      else if (target.subscriptions.get(subscription.filter)?.equals(subscription) !== true) {
        node.addSubscription(target, subscription);
        missing.push({
          change: 'add',
          session: target,
          filter: subscription.filter,
          options: packOptions(subscription),
        });
      }
    }
    this.waitsForStore = true;
    connection.awaitStore();
    // A node that died between storing a subscription and announcing it left it to us.
    if (missing.length > 0) await node.parts.peers.announceSubscriptions(missing);
    const kept = claimed.subscriptions.length - revoked.length;
    if (target.subscriptions.size > kept) {
      // Not only revoked: the last connection may not have lived to hear that the store had removed some.
      const stored = new Set(claimed.subscriptions.map(({ filter }) => filter));
      for (const filter of revoked) stored.delete(filter);
      const gone = [...target.subscriptions.keys()].filter((filter) => !stored.has(filter));
      for (const filter of gone) node.removeSubscription(target, filter);
      await node.parts.peers.announceSubscriptions(
        gone.map((filter) => ({ change: 'remove', session: target, filter, options: '' })),
      );
    }
    if (revoked.length === 0) return connection.closed ? undefined : target;
    try {
      const result = await node.parts.store.changeSubscriptions(target, this.token, [], revoked);
      if (result === 'fenced') connection.storeLost('fenced');
    } catch (error) {
      node.storeFailed('changeSubscriptions', error);
      connection.storeLost('failed');
    }
    return connection.closed ? undefined : target;
  }
}

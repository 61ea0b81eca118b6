import type { Clock } from '@shoalmq/core';
import type { ServerRefusal } from './link/peer-server.ts';
import type { Reporter } from './report.ts';

/** Whoever is turned away comes again in a second or two: one report a minute says it all. */
const REPEAT_MS = 60_000;
/** Hosts and reasons that are remembered; with more of them reports are repeated sooner. */
const REMEMBERED_MAX = 1_000;

/** Tells who was turned away at the port for peers, and why, without repeating itself. */
export class RefusalReports {
  readonly #clock: Clock;
  readonly #report: Reporter;
  readonly #tls: boolean;
  readonly #toldAtMs = new Map<string, number>();

  constructor(parts: { readonly clock: Clock; readonly report: Reporter; readonly tls: boolean }) {
    this.#clock = parts.clock;
    this.#report = parts.report;
    this.#tls = parts.tls;
  }

  tell(reason: ServerRefusal, peerId: string, remoteAddress: string): void {
    const host = remoteAddress.slice(0, remoteAddress.lastIndexOf(':'));
    const key = `${reason} ${host} ${peerId}`;
    const nowMs = this.#clock.monotonicMs();
    const toldAtMs = this.#toldAtMs.get(key);
    if (toldAtMs !== undefined && nowMs - toldAtMs < REPEAT_MS) return;
    if (this.#toldAtMs.size >= REMEMBERED_MAX) this.#toldAtMs.clear();
    this.#toldAtMs.set(key, nowMs);
    const message = this.#text(reason);
    this.#report({ event: 'cluster.refused', reason, peerId, remoteAddress, message });
  }

  #text(reason: ServerRefusal): string {
    switch (reason) {
      case 'handshake_failed':
        return this.#tls
          ? 'TLS failed: it has no certificate, or not one of the authority of this node'
          : 'it did not speak the protocol of nodes: perhaps it uses TLS, which this node does not';
      case 'handshake_timeout':
        return 'it did not show in time who it is';
      case 'too_many_connections':
        return 'too many connections that have not shown who they are';
      case 'unauthenticated':
        return this.#tls
          ? 'it does not know the secret of the cluster, or its certificate is that of another node'
          : 'it does not know the secret of the cluster';
      case 'version':
        return 'its version is more than one minor version away';
      case 'wrong_receiver':
        return 'it means another node, or an earlier life of this one';
      case 'not_admitted':
        return 'it has no lease that this node knows of';
      case 'stale':
      case 'forgotten':
        return 'its link has been replaced by a later one';
      case 'busy':
        return 'too many nodes';
      case 'unspecified':
      case 'malformed':
        return 'it did not keep to the protocol of nodes';
    }
  }
}

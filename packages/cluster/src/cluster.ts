import { ReasonCode, nodeOfToken } from '@shoalmq/core';
import type {
  Clock,
  ClusterState,
  FactChange,
  FactDigest,
  LogPosition,
  Membership as View,
  Message,
  Node,
  NodeDescriptor,
  NodeIdentity,
  NodeTarget,
  Peers,
  SessionRef,
  Settleable,
  SharedFact,
  StateStore,
  SubscriptionChange,
} from '@shoalmq/core';
import { Burial } from './burial.ts';
import { DigestComparison } from './digest-comparison.ts';
import { FactReplica } from './fact-replica.ts';
import { FactWriter } from './fact-writer.ts';
import { HintRetries } from './hint-retries.ts';
import { Inbox } from './inbox.ts';
import { ItemDecoder } from './item.ts';
import { MalformedItem } from './item-reader.ts';
import { DEFAULT_LINK_LIMITS } from './link/peer-link.ts';
import type { LinkLimits } from './link/peer-link.ts';
import { PeerServer } from './link/peer-server.ts';
import type { Gap, PeerServerEvents, PeerServerLimits, PeerSource } from './link/peer-server.ts';
import type { LinkSecurity } from './link/security.ts';
import type { LinkTransport } from './link/transport.ts';
import { ClusterCounters } from './cluster-counters.ts';
import type { ClusterNodeStatus, ClusterStatus } from './cluster-status.ts';
import { LocalSubscriptions } from './local-subscriptions.ts';
import { Membership } from './membership.ts';
import { nodeName } from './node-name.ts';
import { Peer } from './peer.ts';
import { Unacknowledged } from './unacknowledged.ts';
import type { Reassign } from './unacknowledged.ts';
import { Reachability } from './reachability.ts';
import { RefusalReports } from './refusal-reports.ts';
import type { Reporter } from './report.ts';

export interface ClusterTimes {
  /** Milliseconds between renewals of the lease. */
  readonly renewMs: number;
  /** Milliseconds for which a lease holds, and for which nobody is buried after an outage of the store. */
  readonly leaseMs: number;
  /** Milliseconds between looks at the logs of shared facts. */
  readonly pollMs: number;
  /** Milliseconds between comparisons of the tables with those of the peers. */
  readonly digestMs: number;
}

export const DEFAULT_CLUSTER_TIMES: ClusterTimes = {
  renewMs: 1_000,
  leaseMs: 5_000,
  pollMs: 250,
  digestMs: 3_000,
};

export interface ClusterOptions {
  readonly state: ClusterState;
  readonly store: StateStore;
  readonly clock: Clock;
  /** Where peers are listened for; port 0 lets the system choose. */
  readonly host: string;
  readonly port: number;
  /** Where peers are told to connect to. @default `host`, and the port that is listened on */
  readonly advertisedHost?: string;
  readonly advertisedPort?: number;
  /** Version of Shoal, semantic. */
  readonly version: string;
  readonly security: LinkSecurity;
  readonly times?: Partial<ClusterTimes>;
  readonly linkLimits?: Partial<LinkLimits>;
  readonly serverLimits?: Partial<PeerServerLimits>;
  /**
   * Bytes of messages that wait for clean sessions of this node beyond which no more is read from other nodes, until
   * half of it is left. @default 268,435,456
   */
  readonly waitingBytesMax?: number;
  /** @default gRPC */
  readonly transport?: LinkTransport;
  readonly report: Reporter;
}

/** Whether clients should be sent here, and what is wrong. */
export interface ClusterHealth {
  /** All routes are known, every node that lives knows this one, and its lease is valid. */
  readonly ready: boolean;
  /** Not ready for a moment only: it should get no new clients, and keep those that it has. */
  readonly passing?: true;
  /** For people: which bucket is missing, which peer cannot be reached. Also of a node that is ready. */
  readonly problems: readonly string[];
}

/** Milliseconds that what was sent to peers gets to arrive when this node leaves. */
const FLUSH_MS = 2_000;
/** Milliseconds after tables were loaded again because they differed in which that is not done once more. */
const MISMATCH_MS = 30_000;
const NOT_JOINED: ClusterHealth = {
  ready: false,
  problems: ['this node has not joined yet'],
};
/** Milliseconds between looks at whether those who wait for validity may go on. */
const VALIDITY_POLL_MS = 20;
/** Milliseconds between renewals while it is not known whether all nodes have told a replaced store what they know. */
const RESTORE_POLL_MS = 100;
/** Sessions that are looked up at a time to find out which retained messages a replaced store still has. */
const RETAINED_PER_READ = 500;
/** Milliseconds between looks at what a peer would have told that cannot reach this node. */
const SILENCE_POLL_MS = 2_000;
/** Default of `ClusterOptions.waitingBytesMax`. */
const WAITING_BYTES_MAX = 268_435_456;
/** Milliseconds between looks at whether clean sessions have taken enough of what waits for them. */
const HELD_POLL_MS = 50;
/** Connections whose owner is asked for in one turn of the event loop. */
const OWNERS_PER_TURN = 500;
/** A question about shared facts is over so long after the lease time: by then a peer has seen them or has stopped. */
const ANSWER_SLACK_MS = 1_000;

/**
 * This node's part in a cluster: it is what the core calls `Peers`, and calls the core when something arrives.
 *
 *     const cluster = new Cluster(options);
 *     const node = new Node({ ..., peers: cluster.peers });
 *     await cluster.join(node);
 *     await cluster.serving;
 */
export class Cluster {
  readonly peers: Peers;
  readonly counters = new ClusterCounters();
  /** What the store can ask when it answers as if it had lost something. */
  readonly contents: {
    /** Names the contents of the store, once every node has written again what it answers for. */
    readonly generation: string;
    /** Resolves when it has been looked at anew whether the store was replaced, and if so, when it is whole again. */
    confirm(): Promise<void>;
  };
  /** Resolves when this node knows all routes and every living node knows it. */
  readonly serving: Promise<void>;
  readonly #options: MemberOptions;
  readonly #times: ClusterTimes;
  #member: Member | undefined;
  #serve: () => void = () => undefined;

  constructor(options: ClusterOptions) {
    const { counters } = this;
    const report: Reporter = (each) => {
      counters.count(each);
      options.report(each);
    };
    this.#options = { ...options, report, counters };
    this.#times = { ...DEFAULT_CLUSTER_TIMES, ...options.times };
    this.serving = new Promise((resolve) => {
      this.#serve = resolve;
    });
    const valid = (): boolean => this.#joined.valid;
    const contents = (): string => this.#member?.contents ?? '';
    this.contents = {
      get generation() {
        return contents();
      },
      confirm: () => this.#member?.confirmContents() ?? Promise.resolve(),
    };
    const term = (): number => this.#joined.term;
    this.peers = {
      alone: false,
      get valid() {
        return valid();
      },
      get term() {
        return term();
      },
      whenValid: () => this.#joined.whenValid(),
      announceSubscriptions: (changes) => this.#joined.announceSubscriptions(changes),
      announceRetained: (topic, exists) => this.#joined.announceRetained(topic, exists),
      announceConnected: (session) => this.#joined.announceConnected(session),
      forward: (target, message, plain, groups, uid, pending) => {
        const peer = this.#joined.peerOf(target);
        if (peer === undefined) this.#joined.forwardToNobody(target, message, groups, pending);
        else peer.forward(message, plain, groups, uid, pending);
      },
      settleUid: (target, uid) => {
        this.#joined.peerOf(target)?.settleUid(uid);
      },
      hint: (nodeId, session, sequence, queued, notHere) => {
        const peer = this.#joined.peerById(nodeId);
        if (peer === undefined) this.#joined.retries.add(session, notHere);
        else peer.hint(session, sequence, queued, notHere);
      },
      deliverAt: (nodeId, session, message, retain, subscriptionIds, notHere) => {
        const peer = this.#joined.peerById(nodeId);
        if (peer === undefined) defer(notHere);
        else peer.deliverAt(session, { message, retain, subscriptionIds }, notHere);
      },
      takeOver: (clientId, token) => {
        this.#joined.peerById(nodeOfToken(token))?.takeOver(clientId, token);
      },
    };
  }

  /**
   * Begins to be a member: listens for peers, takes a lease, and loads the shared facts. Resolves when the lease was
   * asked for; `serving` when clients may come.
   */
  async join(node: Node): Promise<void> {
    this.#member = new Member(node, this.#options, this.#times, this.#serve);
    await this.#member.start();
  }

  /** The port that peers are listened for on. */
  get port(): number {
    return this.#joined.port;
  }

  /**
   * Whether this node may acknowledge anything: it has its lease and has looked at all logs lately. To be asked before
   * acting on what came from a client, because a process that was paused finds out in no other way.
   */
  get valid(): boolean {
    return this.#joined.valid;
  }

  health(): ClusterHealth {
    return this.#member?.health() ?? NOT_JOINED;
  }

  /** Every node that had a lease at the last renewal, this one included; none before the first. */
  get nodes(): readonly NodeDescriptor[] {
    return this.#member?.nodes ?? [];
  }

  /** The nodes as this one knows them, with its links to them. */
  status(): ClusterStatus {
    return this.#joined.status();
  }

  /** Tells the others that no new clients come here. */
  async drain(): Promise<void> {
    await this.#joined.drain();
  }

  /** Leaves in good order: once the connections are closed. */
  async leave(): Promise<void> {
    await this.#joined.stop({ goodbye: true });
  }

  /** Stops as if the process had been killed: the lease and the routes stay. For tests. */
  async vanish(): Promise<void> {
    await this.#joined.stop({ goodbye: false });
  }

  get #joined(): Member {
    if (this.#member === undefined) throw new Error('this node has not joined its cluster');
    return this.#member;
  }
}

type MemberOptions = ClusterOptions & { readonly counters: ClusterCounters };

/** A member of the cluster, from `join` to `leave`. */
class Member {
  readonly retries = new HintRetries();
  readonly #node: Node;
  readonly #options: MemberOptions;
  readonly #times: ClusterTimes;
  readonly #onServing: () => void;
  readonly #self: NodeIdentity;
  readonly #decoder: ItemDecoder;
  readonly #writer: FactWriter;
  readonly #replica: FactReplica;
  readonly #local: LocalSubscriptions;
  readonly #burial: Burial;
  readonly #membership: Membership;
  readonly #reachability: Reachability;
  readonly #digest: FactDigest;
  readonly #comparison: DigestComparison;
  #digestAtMs = -Infinity;
  #mismatchAtMs = -Infinity;
  readonly #refused: RefusalReports;
  #server: PeerServer | undefined;
  /** By name; those with a lease. */
  readonly #peers = new Map<string, Peer>();
  readonly #byTarget = new Map<NodeTarget, Peer>();
  readonly #byId = new Map<string, Peer>();
  readonly #inboxes = new WeakMap<PeerSource, Inbox>();
  /** Lives of nodes that have a lease, or had one and are not buried. */
  #known = new Map<string, NodeIdentity>();
  /** Lives of nodes that have had a link to here. */
  readonly #heardBefore = new Set<string>();
  #generation: string | undefined;
  /** The generation for which this node has told the store what it knows. */
  #restoredFor: string | undefined;
  /** The generation for which all nodes have. */
  contents = '';
  /** The store was replaced: until then nodes are waited for that have not told it what they know. */
  #restoreUntilMs: number | undefined;
  #restoreTimer: NodeJS.Timeout | undefined;
  #renewals = 0;
  readonly #contentsWaiters: (() => void)[] = [];
  /** What the others said of themselves with their last renewal, by name. */
  #seen: ReadonlyMap<string, NodeDescriptor> = new Map();
  #dead: readonly NodeIdentity[] = [];
  nodes: readonly NodeDescriptor[] = [];
  /** Until then a node without a lease may only not have renewed it yet. */
  #keepPeersUntilMs = -Infinity;
  #replaceTimer: NodeJS.Timeout | undefined;
  /** Sessions of connections here whose owner was asked for after a lapsed lease. */
  #unanswered = 0;
  readonly #validWaiters: (() => void)[] = [];
  #validTimer: NodeJS.Timeout | undefined;
  /** What is not read because clean sessions here do not take what they have. */
  readonly #held = new Set<PeerSource>();
  #heldTimer: NodeJS.Timeout | undefined;
  /** How often the lease has lapsed. */
  term = 0;
  #rejoinUntilMs = -Infinity;
  #announcedAgain: Promise<void> = Promise.resolve();
  #lookedAroundAtMs = -Infinity;
  #revalidatedAtMs = -Infinity;
  #serving = false;
  #trying = false;
  #stopped = false;

  constructor(node: Node, options: MemberOptions, times: ClusterTimes, onServing: () => void) {
    const { state, store, clock, report, counters } = options;
    this.#node = node;
    this.#options = options;
    this.#times = times;
    this.#onServing = onServing;
    this.#self = node.identity;
    this.#decoder = new ItemDecoder(node.topics, () => clock.wallMs());
    const written = {
      changeFacts: (changes: readonly FactChange[]) => {
        counters.factsWritten += changes.length;
        return state.changeFacts(changes);
      },
    };
    this.#writer = new FactWriter(written, (positions) => this.#tellChanged(positions), report);
    this.#replica = new FactReplica({
      state,
      tables: {
        apply: (change) => {
          counters.factsApplied += 1;
          node.facts.apply(change);
        },
        replace: (facts) => {
          node.facts.replace(facts);
          this.#removeStrays(facts);
        },
      },
      writer: this.#writer,
      clock,
      pollMs: times.pollMs,
      report,
      keepRetained: (listed) => this.#keepRetained(listed),
    });
    const digest = node.digest!;
    this.#digest = digest;
    const rememberedMs = 2.5 * times.digestMs;
    this.#comparison = new DigestComparison(digest, () => clock.monotonicMs(), rememberedMs);
    this.#local = new LocalSubscriptions(
      this.#self,
      (changes) => this.#writer.write(changes),
      digest,
    );
    this.#membership = new Membership(
      {
        state,
        clock,
        self: () => this.#descriptor(),
        renewMs: times.renewMs,
        leaseMs: times.leaseMs,
      },
      {
        onRenewed: (view, since) => {
          this.#onRenewed(view, since);
        },
        onFailed: (error) => {
          this.#onRenewalFailed(error);
        },
        onSuspended: () => {
          const message = 'the lease could not be renewed in time';
          report({ event: 'cluster.suspended', message });
        },
      },
    );
    const tls = options.security.tls !== undefined;
    this.#refused = new RefusalReports({ clock, report, tls });
    this.#reachability = new Reachability(() => this.#descriptor().address, report);
    this.#burial = new Burial({
      state,
      store,
      clock,
      self: this.#self,
      graceMs: times.renewMs,
      outageGraceMs: times.leaseMs,
      report,
      carryOut: (due) => {
        node.carryOut(due, 'connection_closed');
      },
      filtersOf: (dead) => node.facts.filtersOf(dead),
      write: (changes) => this.#writer.write(changes),
    });
  }

  get port(): number {
    return this.#server?.port ?? 0;
  }

  get valid(): boolean {
    const { leaseMs } = this.#times;
    return (
      this.#membership.valid &&
      this.#unanswered === 0 &&
      this.#restoreUntilMs === undefined &&
      !this.#rejoining &&
      this.#options.clock.monotonicMs() < this.#replica.currentAtMs + leaseMs
    );
  }

  whenValid(): Promise<void> {
    return new Promise((resolve) => {
      this.#validWaiters.push(resolve);
      this.#awaitValidity();
    });
  }

  /** Validity has several causes, and those who wait are few and wait long: it is looked at now and then. */
  #awaitValidity(): void {
    if (this.#validTimer !== undefined || this.#stopped) return;
    this.#validTimer = setTimeout(() => {
      this.#validTimer = undefined;
      if (!this.valid) {
        this.#awaitValidity();
        return;
      }
      for (const resolve of this.#validWaiters.splice(0)) resolve();
    }, VALIDITY_POLL_MS);
  }

  async start(): Promise<void> {
    const { host, port, version, security, serverLimits, transport } = this.#options;
    this.#server = await PeerServer.listen({
      self: this.#self,
      host,
      port,
      version,
      security,
      limits: serverLimits ?? {},
      ...(transport === undefined ? {} : { transport }),
      events: this.#serverEvents(),
    });
    await this.#membership.start();
    this.#replica.start();
  }

  #descriptor() {
    const { advertisedHost, advertisedPort, host, version } = this.#options;
    return {
      ...this.#self,
      address: `${advertisedHost ?? host}:${advertisedPort ?? this.port}`,
      version,
      connections: this.#node.connections.size,
      ...(this.#restoredFor === undefined ? {} : { generation: this.#restoredFor }),
      routeLagMs: this.#routeLagMs,
    };
  }

  async drain(): Promise<void> {
    await this.#membership.setState('draining');
  }

  async stop({ goodbye }: { readonly goodbye: boolean }): Promise<void> {
    if (this.#stopped) return;
    let reached = true;
    if (goodbye) {
      // Their routes go first: nobody buries who said goodbye.
      const gone = this.#local.facts().map(({ fact }): FactChange => ({ change: 'remove', fact }));
      const written = this.#writer.write(gone).then(() => this.#writer.idle());
      reached = await within(this.#times.leaseMs, written);
      // They answer in order: what was sent to them has arrived by then.
      const peers = [...this.#peers.values()].filter(({ up }) => up);
      await within(FLUSH_MS, Promise.all(peers.map((peer) => peer.tellChanged(new Map()))));
    }
    this.#stopped = true;
    clearTimeout(this.#replaceTimer);
    clearTimeout(this.#restoreTimer);
    clearTimeout(this.#validTimer);
    clearInterval(this.#heldTimer);
    for (const resolve of this.#contentsWaiters.splice(0)) resolve();
    this.retries.close();
    this.#writer.close();
    this.#replica.close();
    const left = Promise.all([
      this.#membership.close({ end: goodbye && reached }),
      this.#burial.close(),
    ]);
    // A store that does not answer has nobody wait for it.
    await within(reached ? this.#times.leaseMs : 0, left);
    for (const peer of [...this.#peers.values()]) this.#close(peer);
    await this.#server?.close();
  }

  health(): ClusterHealth {
    const problems: string[] = [];
    const { missingBucket } = this.#replica;
    if (missingBucket !== undefined) {
      problems.push(`routes of bucket ${missingBucket} are not loaded`);
    }
    for (const peer of this.#peers.values()) {
      const problem = this.#reachability.problem(peer);
      if (problem !== undefined) problems.push(problem);
    }
    const { valid } = this;
    if (!valid) problems.push('the lease is not valid');
    const { state } = this.#membership;
    if (state === 'draining') problems.push('this node is leaving');
    if (state === 'joining' && problems.length === 0) problems.push('this node is joining');
    const serves = valid && state === 'serving';
    const { reloading } = this.#replica;
    if (reloading) problems.push('routes are loaded again');
    if (serves && reloading) return { ready: false, passing: true, problems };
    return { ready: serves, problems };
  }

  status(): ClusterStatus {
    const own = { ...this.#descriptor(), state: this.#membership.state };
    const nodes: ClusterNodeStatus[] = [{ ...own, link: undefined }];
    for (const peer of this.#peers.values()) {
      const descriptor = this.#seen.get(nodeName(peer.descriptor)) ?? peer.descriptor;
      nodes.push({ ...descriptor, link: peer.status });
    }
    const dead = [...this.#dead];
    const { valid } = this;
    return { nodes, dead, valid, generation: this.#generation, routeLagMs: own.routeLagMs };
  }

  /** Milliseconds since the route table was last known to be complete; -1: never yet. */
  get #routeLagMs(): number {
    const { currentAtMs } = this.#replica;
    if (currentAtMs < 0) return -1;
    return Math.max(0, Math.round(this.#options.clock.monotonicMs() - currentAtMs));
  }

  peerOf(target: NodeTarget): Peer | undefined {
    return this.#byTarget.get(target);
  }

  peerById(nodeId: string): Peer | undefined {
    return this.#byId.get(nodeId);
  }

  /** Nobody is there any more who could get it: what was for members of groups there goes to others. */
  forwardToNobody(
    target: NodeTarget,
    message: Message,
    groups: readonly string[],
    pending: Settleable | undefined,
  ): void {
    target.gone = true;
    // Whose QoS 2 message it was may repeat it, and then it would be for that node again.
    const heir = new Unacknowledged(this.#decoder, this.#reassign);
    heir.onForward(message, false, groups);
    heir.finish((kept) => pending?.settle(kept ? 'closed' : 'failed'));
  }

  readonly #reassign: Reassign = (message, group, done) => {
    if (this.#stopped) done(true);
    else this.#node.router.reassign(message, group, done);
  };

  async announceSubscriptions(changes: readonly SubscriptionChange[]): Promise<void> {
    const clean = changes.filter(({ session }) => session === undefined);
    const persistent = changes.flatMap(({ change, session, filter, options }): FactChange[] =>
      session === undefined ? [] : [{ change, fact: sessionFact(session, filter, options) }],
    );
    let { term } = this;
    await Promise.all([this.#local.announce(clean), this.#writer.write(persistent)]);
    // Without a lease it could not tell those that have come meanwhile: it does when it has it back.
    while (!this.valid || this.term !== term) {
      ({ term } = this);
      await this.whenValid();
      await this.#announcedAgain;
    }
  }

  async announceRetained(topic: string, exists: boolean): Promise<void> {
    const fact = { kind: 'retained', filter: topic } as const;
    if (exists) {
      await this.#writer.write([{ change: 'add', fact }]);
      return;
    }
    await this.#writer.write([{ change: 'remove', fact }]);
    // Another node may have stored a new message before that and found the name announced: then it was for nothing.
    const [message] = await this.#options.store.readRetained([topic]);
    if (message === undefined) return;
    this.#node.retained.add(topic);
    await this.#writer.write([{ change: 'add', fact }]);
  }

  async announceConnected(session: SessionRef): Promise<void> {
    const { clientId, incarnation } = session;
    await this.#ask((peer) => peer.tellConnected({ clientId, incarnation }));
  }

  async #tellChanged(positions: ReadonlyMap<number, LogPosition>): Promise<void> {
    await this.#ask((peer) => peer.tellChanged(positions));
  }

  /** Waits for all peers that may be taking messages. One that begins to looks at all logs before. */
  async #ask(question: (peer: Peer) => Promise<void>): Promise<void> {
    await Promise.all([...this.#peers.values()].filter(({ mayServe }) => mayServe).map(question));
  }

  #onRenewed(
    view: View,
    { lapsed, outage }: { readonly lapsed: boolean; readonly outage: boolean },
  ): void {
    const { report, clock } = this.#options;
    const replaced = this.#generation !== undefined && this.#generation !== view.generation;
    this.#generation = view.generation;
    this.#restoredFor ??= view.generation;
    this.#renewals += 1;
    this.#seen = new Map(view.nodes.map((descriptor) => [nodeName(descriptor), descriptor]));
    this.#dead = view.dead;
    this.nodes = view.nodes;
    if (lapsed) this.#lapsed();
    // Others have to announce themselves again as well before it means anything that they are not there.
    if (lapsed || replaced || outage) {
      this.#keepPeersUntilMs = clock.monotonicMs() + this.#times.leaseMs;
      // Whoever could not renew its lease either is not dead for that.
      this.#burial.wait();
    }
    this.#follow(view);
    if (lapsed || replaced) {
      this.#announceAgain();
      this.#node.forgetSeen();
      if (replaced) void this.#restore(view.generation);
      else this.#revalidate({ waited: true });
    }
    if (replaced) this.#reload();
    this.#noteRestored(view);
    this.#lookAround();
    if (lapsed) report({ event: 'cluster.resumed' });
    this.#reachability.see(this.#peers, clock.monotonicMs());
    for (const peer of this.#peers.values()) {
      peer.giveUpQuestions(clock.monotonicMs() - this.#times.leaseMs - ANSWER_SLACK_MS);
    }
    if (this.#serving) {
      const survivors = view.nodes.filter(({ state }) => state !== 'joining').map(nodeName);
      this.#burial.see(view.dead, survivors);
      this.#tellDigest();
    } else {
      void this.#tryToServe();
    }
  }

  #tellDigest(): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#digestAtMs < this.#times.digestMs || this.#replica.reloading) return;
    this.#digestAtMs = nowMs;
    for (const peer of this.#peers.values()) if (peer.up) peer.tellDigest(this.#digest.sums);
  }

  /**
   * The tables of a peer sum up to this. Either may be wrong, and each finds that out by itself: what it answers for is
   * written again, and everything loaded.
   */
  #onDigest(name: string, peerId: string, sums: Uint32Array): void {
    if (!this.#serving || !this.valid || this.#replica.reloading) return;
    if (!this.#comparison.compare(name, sums)) return;
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#mismatchAtMs < MISMATCH_MS) return;
    this.#mismatchAtMs = nowMs;
    this.#options.report({ event: 'cluster.mismatch', peerId });
    this.#comparison.startAgain();
    this.#announceAgain();
    this.#replica.reload('replace');
  }

  #onRenewalFailed(error: unknown): void {
    const { report } = this.#options;
    const message = String(error);
    this.#burial.wait();
    if ((error as { code?: unknown } | null)?.code === 'SHOAL_NODE_REPLACED') {
      report({ event: 'cluster.replaced', message });
    } else {
      report({ event: 'cluster.state_failed', operation: 'renewLease', message });
    }
  }

  /** Has a link to everybody who has a lease, and to nobody else. */
  #follow(view: View): void {
    const { clock } = this.#options;
    const known = new Map<string, NodeIdentity>();
    const live = new Set<string>();
    for (const descriptor of view.nodes) {
      const name = nodeName(descriptor);
      known.set(name, descriptor);
      live.add(name);
    }
    for (const dead of view.dead) known.set(nodeName(dead), dead);
    const keep = clock.monotonicMs() < this.#keepPeersUntilMs;
    if (keep) for (const [name, identity] of this.#known) known.set(name, identity);
    for (const [name, peer] of [...this.#peers]) {
      if (live.has(name) || keep) continue;
      const { silentSinceMs = Infinity } = peer;
      this.#close(peer);
      this.#node.forgetSeen(peer.descriptor.id);
      // What it appended last may have come without a hint.
      this.#node.recheckQueues();
      if (clock.monotonicMs() - silentSinceMs >= this.#unheardMsMax()) this.#endOwed();
      const dead = known.has(name);
      this.#options.report({ event: 'cluster.peer_gone', peerId: peer.descriptor.id, dead });
    }
    for (const [name, identity] of this.#known) {
      if (!known.has(name)) this.#node.facts.forget(identity);
    }
    this.#known = known;
    for (const descriptor of view.nodes) {
      const name = nodeName(descriptor);
      if (name === nodeName(this.#self) || this.#peers.has(name)) continue;
      const { version, security, linkLimits, transport, report } = this.#options;
      let back = this.#heardBefore.has(name);
      const peer = new Peer({
        descriptor,
        target: this.#node.facts.target(descriptor),
        link: {
          self: this.#self,
          version,
          security,
          limits: linkLimits ?? {},
          mayBeLate: () => this.valid,
          acknowledged: this.#options.counters.acknowledged,
          ...(transport === undefined ? {} : { transport }),
        },
        clock,
        report,
        counters: this.#options.counters,
        retries: this.retries,
        onUp: () => {
          // Until now nobody told it who connected here: hints that it owed them it gave to nobody.
          if (back) this.#node.recheckQueues();
          back = false;
          void this.#tryToServe();
        },
        heir: () => new Unacknowledged(this.#decoder, this.#reassign),
      });
      // It is back, and has kept nothing for this node meanwhile.
      if (this.#heardBefore.has(name)) peer.silentSinceMs = -Infinity;
      this.#peers.set(name, peer);
      this.#byTarget.set(peer.target, peer);
      this.#byId.set(descriptor.id, peer);
    }
  }

  #close(peer: Peer): void {
    const name = nodeName(peer.descriptor);
    this.#peers.delete(name);
    this.#comparison.forget(name);
    this.#byTarget.delete(peer.target);
    if (this.#byId.get(peer.descriptor.id) === peer) this.#byId.delete(peer.descriptor.id);
    this.#server?.forget(peer.descriptor);
    peer.close();
  }

  /**
   * Once the routes are loaded and every living node has a link to here, and so tells of each change, one more look at
   * the logs finds what changed before.
   */
  async #tryToServe(): Promise<void> {
    if (this.#serving || this.#trying || !this.#mayServe()) return;
    this.#trying = true;
    const beforeMs = this.#options.clock.monotonicMs();
    await this.#replica.poll();
    this.#trying = false;
    if (this.#stopped || this.#replica.currentAtMs < beforeMs || !this.#mayServe()) return;
    this.#serving = true;
    await this.#membership.setState('serving');
    this.#options.report({ event: 'cluster.serving' });
    this.#onServing();
  }

  #mayServe(): boolean {
    if (this.#stopped || this.#membership.state !== 'joining') return false;
    if (!this.#replica.loaded || !this.#membership.valid) return false;
    for (const peer of this.#peers.values()) if (!peer.up || !peer.heard) return false;
    return true;
  }

  /** Facts about clean sessions that this node does not have: what should have removed them was lost. */
  #removeStrays(facts: readonly SharedFact[]): void {
    const { id, incarnation } = this.#self;
    const strays = facts.filter(
      (fact) =>
        fact.kind === 'node' &&
        fact.node.id === id &&
        fact.node.incarnation === incarnation &&
        !this.#local.has(fact.filter),
    );
    void this.#writer.write(strays.map((fact) => ({ change: 'remove', fact })));
  }

  /** Writes what this node answers for: its clean sessions, and the persistent ones that are connected here. */
  #announceAgain(): void {
    const facts = this.#local.facts();
    for (const { target } of this.#node.connections.values()) {
      if (target?.persistent !== true) continue;
      for (const [filter, { options }] of target.subscriptions) {
        facts.push({ change: 'add', fact: sessionFact(target, filter, options) });
      }
    }
    this.#announcedAgain = this.#writer.write(facts);
  }

  /**
   * Others may have taken over what was connected here, or have ended it in this node's place: those connections end.
   * `waited`: nothing is acknowledged until that is known of all.
   */
  #revalidate({ waited }: { readonly waited: boolean }): void {
    this.#revalidatedAtMs = this.#options.clock.monotonicMs();
    const connections = [...this.#node.connections.values()];
    if (waited) this.#unanswered += connections.length;
    const next = (): void => {
      for (const connection of connections.splice(-OWNERS_PER_TURN)) {
        this.#options.store.owner(connection.target!, (token, replaced) => {
          if (waited) this.#unanswered -= 1;
          if (token === undefined || token === connection.token) return;
          if (token === '' && replaced !== true) connection.disconnect(ReasonCode.ServerBusy);
          else connection.takenOver();
        });
      }
      if (connections.length > 0 && !this.#stopped) setImmediate(next);
    };
    next();
    this.#node.recheckQueues();
  }

  /**
   * Others may have taken this node for dead, and have kept nothing for it since. With their next links it learns which:
   * those who come then should not be ended for what those before them have missed.
   */
  #lapsed(): void {
    this.term += 1;
    this.#rejoinUntilMs = this.#options.clock.monotonicMs() + this.#times.leaseMs;
    for (const [name, peer] of this.#peers) {
      if (!peer.heard && this.#heardBefore.has(name)) peer.silentSinceMs = -Infinity;
    }
  }

  /** The lease is back, and not all who had a link to here have one again. */
  get #rejoining(): boolean {
    if (this.#rejoinUntilMs === -Infinity) return false;
    if (this.#options.clock.monotonicMs() < this.#rejoinUntilMs) {
      for (const { silentSinceMs } of this.#peers.values()) {
        if (silentSinceMs === -Infinity) return true;
      }
    }
    this.#rejoinUntilMs = -Infinity;
    return false;
  }

  /** While a peer cannot reach this node, hints and takeovers are not told: it looks for itself. */
  #lookAround(): void {
    const nowMs = this.#options.clock.monotonicMs();
    const silent = [...this.#peers.values()].some(
      ({ silentSinceMs = Infinity }) => silentSinceMs < nowMs,
    );
    if (!silent || nowMs - this.#lookedAroundAtMs < SILENCE_POLL_MS) return;
    this.#lookedAroundAtMs = nowMs;
    if (nowMs - this.#revalidatedAtMs < this.#times.leaseMs) this.#node.recheckQueues();
    else this.#revalidate({ waited: false });
  }

  /**
   * Milliseconds of silence in which a peer tells no publisher that a message was kept which has not arrived here. Each
   * end of a link that was cut notices so much later than the other.
   */
  #unheardMsMax(): number {
    const { deadlineMs, keepAliveMs } = { ...DEFAULT_LINK_LIMITS, ...this.#options.linkLimits };
    return deadlineMs - 2 * keepAliveMs;
  }

  /** The store may have lost what it knew of the connections of this node. */
  async #restore(generation: string): Promise<void> {
    this.#restoreUntilMs = this.#options.clock.monotonicMs() + this.#times.leaseMs;
    for (const connection of [...this.#node.opening.values()]) connection.takenOver();
    const connections = [...this.#node.connections.values()];
    while (connections.length > 0 && !this.#stopped) {
      const some = connections.splice(-OWNERS_PER_TURN);
      await Promise.all(some.map((connection) => connection.restore()));
    }
    if (this.#stopped || this.#generation !== generation) return;
    this.#restoredFor = generation;
    await this.#membership.renew();
  }

  /** Goes on once every node has told a replaced store what it knows, or has had a lease time to come back. */
  #noteRestored(view: View): void {
    if (this.#restoreUntilMs === undefined) {
      this.contents = view.generation;
      return;
    }
    clearTimeout(this.#restoreTimer);
    const waiting = this.#options.clock.monotonicMs() < this.#restoreUntilMs;
    const whole =
      this.#restoredFor === view.generation && !(waiting && this.#someoneRestores(view));
    if (!whole) {
      this.#restoreTimer = setTimeout(() => void this.#membership.renew(), RESTORE_POLL_MS);
      return;
    }
    this.#restoreUntilMs = undefined;
    this.contents = view.generation;
    // What was found out about sessions that were not there yet means nothing.
    this.#node.forgetSeen();
    this.#node.recheckQueues();
    for (const resolve of this.#contentsWaiters.splice(0)) resolve();
  }

  #someoneRestores(view: View): boolean {
    const restored = new Set<string>();
    for (const node of view.nodes) {
      const { generation = view.generation } = node;
      if (generation !== view.generation) return true;
      restored.add(nodeName(node));
    }
    return [...this.#peers.keys()].some((name) => !restored.has(name));
  }

  /** See `Cluster.contents`. */
  async confirmContents(): Promise<void> {
    const before = this.#renewals;
    while (this.#renewals === before && !this.#stopped) {
      await this.#membership.renew();
      // Failed: the store is away.
      if (this.#renewals === before) await delay(VALIDITY_POLL_MS);
    }
    if (this.#restoreUntilMs === undefined || this.#stopped) return;
    await new Promise<void>((resolve) => {
      this.#contentsWaiters.push(resolve);
    });
  }

  /**
   * The store has lost the names of retained messages, and perhaps the messages. `listed`: the names that it has.
   * Returns the others whose message is there; they are announced again.
   */
  async #keepRetained(listed: ReadonlySet<string>): Promise<readonly string[]> {
    const { store, report } = this.#options;
    const unlisted = [...this.#node.facts.retainedTopics()].filter((topic) => !listed.has(topic));
    const there: string[] = [];
    for (let from = 0; from < unlisted.length; from += RETAINED_PER_READ) {
      const messages = await store.readRetained(unlisted.slice(from, from + RETAINED_PER_READ));
      for (const { topic } of messages) there.push(topic.name);
    }
    void this.#writer.write(
      there.map((filter) => ({ change: 'add', fact: { kind: 'retained', filter } })),
    );
    const lost = unlisted.length - there.length;
    if (lost > 0) {
      this.#node.counters.retainedLost += lost;
      report({ event: 'cluster.retained_lost', topics: lost });
    }
    return there;
  }

  /** The store was replaced: each node writes again what it answers for, and what nobody wrote is gone in the end. */
  #reload(): void {
    this.#options.report({ event: 'cluster.state_replaced' });
    this.#replica.reload('add');
    clearTimeout(this.#replaceTimer);
    this.#replaceTimer = setTimeout(() => {
      this.#replica.reload('replace');
    }, this.#times.leaseMs);
  }

  #serverEvents(): PeerServerEvents {
    return {
      admit: (peer) => {
        const admitted = this.#peers.has(nodeName(peer));
        // Perhaps it has joined since we last looked.
        if (!admitted && !this.#stopped) void this.#membership.renew();
        return admitted;
      },
      onUp: (source, fresh) => {
        this.#onUp(source, fresh);
      },
      onDown: (source) => {
        const peer = this.#peers.get(nodeName(source.identity));
        if (peer !== undefined) peer.silentSinceMs = this.#options.clock.monotonicMs();
      },
      onItems: (source, bytes, start, end, count) => {
        this.#onItems(source, bytes, start, end, count);
      },
      onGap: (_source, gap) => {
        this.#onGap(gap);
      },
      onRefused: (reason, peer, remoteAddress) => {
        this.#options.counters.refused(reason);
        this.#refused.tell(reason, peer?.id ?? '', remoteAddress);
      },
    };
  }

  #onUp(source: PeerSource, fresh: boolean): void {
    const name = nodeName(source.identity);
    const peer = this.#peers.get(name);
    if (peer === undefined) return;
    peer.silentSinceMs = undefined;
    const { counters } = this.#options;
    const onDigest = (sums: Uint32Array): void => {
      this.#onDigest(name, peer.descriptor.id, sums);
    };
    const parts = { node: this.#node, replica: this.#replica, peer, source, counters, onDigest };
    // A stream that goes on where another one broke has the same source, and what waits for the lease with it.
    if (fresh || !this.#inboxes.has(source)) this.#inboxes.set(source, new Inbox(parts));
    if (fresh && this.#heardBefore.has(name)) {
      // A link after another one: what was on its way on that is lost, and what was not sent because this node was dead.
      this.#node.recheckQueues();
      this.#endOwed();
      // Nor did it tell of the sessions that connected there.
      this.#node.forgetSeen();
    }
    this.#heardBefore.add(name);
    void this.#tryToServe();
  }

  #onItems(source: PeerSource, bytes: Uint8Array, start: number, end: number, count: number): void {
    const inbox = this.#inboxes.get(source);
    if (inbox === undefined || this.#stopped) return;
    inbox.onBegin();
    try {
      this.#decoder.decode(bytes, start, end, count, inbox);
    } catch (error) {
      if (!(error instanceof MalformedItem)) throw error;
      const { message } = error;
      this.#options.report({ event: 'cluster.malformed', peerId: source.identity.id, message });
    }
    inbox.onEnd();
    this.#holdWhenFull(source);
  }

  /**
   * Each clean session has a bound of its own, but there may be many that are slow. What is not read stays at its
   * sender, in a buffer with a bound; hints and answers of that peer wait, and can.
   */
  #holdWhenFull(source: PeerSource): void {
    const { waitingBytesMax = WAITING_BYTES_MAX } = this.#options;
    const { counters } = this.#node;
    if (counters.waitingBytes <= waitingBytesMax) return;
    source.hold();
    this.#held.add(source);
    this.#heldTimer ??= setInterval(() => {
      if (counters.waitingBytes > waitingBytesMax / 2) return;
      clearInterval(this.#heldTimer);
      this.#heldTimer = undefined;
      for (const held of this.#held) held.release();
      this.#held.clear();
    }, HELD_POLL_MS);
  }

  #onGap({ missed }: Gap): void {
    this.#node.recheckQueues();
    if (missed > 0) this.#endOwed();
  }

  /** Something was owed to clean sessions and will not come: rather no connection than a silent loss (P11). */
  #endOwed(): void {
    let ended = 0;
    for (const connection of [...this.#node.connections.values()]) {
      const { target } = connection;
      if (target === undefined || target.persistent) continue;
      const owed = [...target.subscriptions.values()].some(({ qos }) => qos > 0);
      if (!owed) continue;
      connection.disconnect(ReasonCode.ServerBusy);
      ended += 1;
    }
    if (ended > 0) this.#options.report({ event: 'cluster.missed', connections: ended });
  }
}

function sessionFact(session: SessionRef, filter: string, options: string) {
  const { clientId, incarnation } = session;
  return { kind: 'session', clientId, incarnation, filter, options } as const;
}

/** Resolves with `work`, and at the latest after so many milliseconds; whether it was done. */
async function within(timeoutMs: number, work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, false);
  });
  const done = await Promise.race([work.then(() => true), timeout]);
  clearTimeout(timer);
  return done;
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function defer(callback: () => void): void {
  setImmediate(callback);
}

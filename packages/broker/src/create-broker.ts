import { randomBytes, randomInt } from 'node:crypto';
import { hostname } from 'node:os';
import { allowAll, hooksAccess, userList } from '@shoalmq/access';
import type { AuthenticateHook, AuthorizeHook, EnhancedAuthenticationHook } from '@shoalmq/access';
import {
  Decoder,
  createPacketEncoder,
  decodePublishProperties,
  encodePublishProperties,
  topicFromName,
} from '@shoalmq/codec';
import type { PublishProperties } from '@shoalmq/codec';
import { Counters, Message, Node, ReasonCode } from '@shoalmq/core';
import type {
  Access,
  ClientInfo,
  CloseReason,
  ExplainedMessage,
  NodeReport,
  QoS,
} from '@shoalmq/core';
import { listen, startTicker } from '@shoalmq/transport';
import type { Listener } from '@shoalmq/transport';
import type { ClusterHealth, ClusterReport } from '@shoalmq/cluster';
import { createBacking } from './backing.ts';
import type { Backing } from './backing.ts';
import { allowsAnonymous, parseConfig } from './config/load-config.ts';
import type { Config, ConfigInput } from './config/schema.ts';
import { clusterOverview, routeOverview } from './cluster-overview.ts';
import type { ClusterOverview, RouteOverview } from './cluster-overview.ts';
import { Drain } from './drain.ts';
import type { DrainOptions } from './drain.ts';
import { ListenError, isListenFailure } from './listen-error.ts';
import type { StoreFacts } from './store-facts.ts';
import type { ClusterMetrics } from './telemetry/cluster-metrics.ts';
import type { NodeLevels, NodeState } from './telemetry/metrics.ts';

/** What a program that embeds the broker may decide and hear about. */
export interface BrokerHooks {
  /** Decides who may connect. Exceptions, rejections and anything but a yes are a "no". */
  readonly authenticate?: AuthenticateHook;
  /** Decides about clients that name an Authentication Method (MQTT 5.0 §4.12). Without it they are refused: 0x8C. */
  readonly enhancedAuthentication?: EnhancedAuthenticationHook;
  /** Decides who may publish and subscribe to what, and gets asked again for retained messages. */
  readonly authorize?: AuthorizeHook;
  readonly connected?: (client: ClientInfo) => void;
  readonly disconnected?: (client: ClientInfo, reason: CloseReason) => void;
  /** A message of a client was accepted. Costs a copy of each message. */
  readonly published?: (message: PublishedMessage) => void;
}

/** A message as hooks see it. */
export interface PublishedMessage {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: QoS;
  readonly retain: boolean;
  /** Client id of the publisher. */
  readonly clientId: string;
  readonly properties: PublishProperties;
}

/** A message that the embedding program publishes itself. */
export interface BrokerPublish {
  readonly topic: string;
  readonly payload: Uint8Array | string;
  /** @default 0 */
  readonly qos?: QoS;
  /** @default false */
  readonly retain?: boolean;
  readonly properties?: PublishProperties;
  /** Seconds. */
  readonly messageExpiryInterval?: number;
}

export interface BrokerOptions {
  /** The configuration, as in a YAML file; everything has a default. */
  readonly config?: ConfigInput;
  readonly hooks?: BrokerHooks;
  /** Gets what an operator may want to read about. @default nothing is reported */
  readonly report?: (report: NodeReport | ClusterReport) => void;
  /**
   * A hook threw, rejected, or did not answer in time. The client at most sees that it was refused; the broker goes on.
   */
  readonly hookFailed?: (error: unknown, hook: string) => void;
  /** Called before the node joins its cluster, which may take long: what `Broker.health` will be. */
  readonly joining?: (health: () => ClusterHealth) => void;
  /** Gives up joining the cluster: `createBroker` rejects with the reason of the signal, and nothing keeps running. */
  readonly signal?: AbortSignal;
}

/** A running broker. */
export interface Broker {
  readonly nodeId: string;
  /** The address and port that MQTT clients connect to. */
  readonly host: string;
  readonly port: number;
  readonly config: Config;
  readonly counters: Counters;
  levels(): NodeLevels;
  /** Whether clients should be sent here, and what is wrong. A single node is always ready. */
  health(): ClusterHealth;
  /** Counters and states of the cluster, at hand; `undefined`: there is none. */
  clusterMetrics(): ClusterMetrics | undefined;
  /** The cluster as this node sees it; of a node that is alone, that node. Never rejects. */
  clusterOverview(): Promise<ClusterOverview>;
  /** Where a message published here would go now; nothing is sent. Lists have at most `listMax` entries. */
  explain(message: ExplainedMessage, listMax: number): Promise<RouteOverview>;
  /** How the store is set up; for Redis asked now, or a few seconds ago. Never rejects. */
  storeFacts(): Promise<StoreFacts>;
  /** Publishes a message; resolves when it is kept for all its subscribers (P1). */
  publish(message: BrokerPublish): Promise<void>;
  /** Ends a client's connection (DISCONNECT 0x98). Returns whether it was connected. */
  disconnect(clientId: string): boolean;
  /**
   * Lets the clients of a node of a cluster go to other nodes, as the section `drain` of the configuration says, and
   * resolves when they are gone. A single node has nowhere to send them: nothing happens. `close` comes next.
   */
  drain(options?: DrainOptions): Promise<void>;
  /** Stops listening, ends all connections and resolves when they are gone. */
  close(): Promise<void>;
}

/** Milliseconds between two looks at deadlines. */
const TICK_MS = 250;
/** Milliseconds that connections get to end in good order when the broker closes. */
const CLOSE_MS = 2_000;

/**
 * Starts a broker in this process and resolves when it accepts connections.
 *
 * @throws ConfigError when the configuration has problems, all of them at once; the error of the operating system
 *   when the address cannot be listened on.
 */
export async function createBroker(options: BrokerOptions = {}): Promise<Broker> {
  const { hooks = {} } = options;
  const config = parseConfig(options.config ?? {}, {
    authenticated: hooks.authenticate !== undefined,
  });
  const clock = { monotonicMs: () => performance.now(), wallMs: () => Date.now() };
  const random = {
    // 132 bits, in the alphabet of base64url.
    id: () => randomBytes(17).toString('base64url').slice(0, 22),
    integer: (bound: number) => randomInt(bound),
  };
  const nodeId =
    config.node.id === '' ? `${hostname()}-${random.id().slice(0, 6)}` : config.node.id;
  const counters = new Counters();
  const report = options.report ?? (() => undefined);
  const backing = createBacking(config, { clock, random, report });
  const { connected, disconnected, published } = contained(hooks, options.hookFailed);
  const node = new Node({
    nodeId,
    limits: config.limits,
    sharedStrategy: config.shared.strategy,
    store: backing.store,
    peers: backing.peers,
    access: accessOf(config, options),
    clock,
    random,
    scheduler: {
      defer: (callback) => {
        setImmediate(callback);
      },
    },
    encoder: createPacketEncoder(),
    counters,
    events: {
      report,
      ...(connected === undefined ? {} : { connected }),
      ...(disconnected === undefined ? {} : { disconnected }),
      ...(published === undefined
        ? {}
        : {
            published: (message: Message, clientId: string) => {
              published(publishedMessage(message, clientId));
            },
          }),
    },
  });
  options.joining?.(() => backing.health());
  await unlessAborted(backing.join(node), options.signal).catch(async (error: unknown) => {
    await backing.leave();
    const { peerHost: host, peerPort: port } = config.cluster;
    throw isListenFailure(error) ? new ListenError('cluster', { host, port }, error) : error;
  });
  const listener = await listen({
    name: 'mqtt',
    host: config.mqtt.host,
    port: config.mqtt.port,
    connectionsMax: config.limits.connectionsMax,
    writeStallMs: config.limits.stallTimeoutMs,
    accept: (channel) => {
      const connection = node.accept(channel);
      counters.listener('mqtt').connectionsAccepted += 1;
      const receiver = new Decoder({
        handler: connection,
        topics: node.topics,
        packetBytesMax: config.limits.packetBytesMax,
        connectBytesMax: config.limits.connectBytesMax,
        topicAliasMaximum: config.limits.topicAliasMaximum,
        topicLevelsMax: config.limits.topicLevelsMax,
      });
      return { receiver, handler: connection };
    },
  }).catch(async (error: unknown) => {
    await backing.leave();
    throw error;
  });
  const ticker = startTicker(TICK_MS, (_nowMs, stalledMs) => {
    node.tick(stalledMs);
    const bytes = counters.listener('mqtt');
    bytes.bytesReceived = listener.bytesReceived;
    bytes.bytesSent = listener.bytesSent;
  });
  let closing: Promise<void> | undefined;
  let drain: Drain | undefined;
  return {
    nodeId,
    host: listener.address,
    port: listener.port,
    config,
    counters,
    levels: () => {
      const sizes = backing.sizes(node);
      const routes = node.routeCounts();
      const state = closing === undefined && drain === undefined ? 'serving' : 'draining';
      return {
        sessionsConnected: sizes.sessionsConnected,
        sessionsOffline: sizes.sessionsOffline,
        subscriptions: routes.clean + routes.persistent,
        sharedGroups: node.table.groups,
        retainedMessages: sizes.retainedMessages,
        retainedBytes: sizes.retainedBytes,
        inflightMessages: counters.inflightMessages,
        queuedMessages: sizes.queuedMessages,
        queuedBytes: sizes.queuedBytes,
        routes,
        state,
        nodes: nodesByState(backing, state),
        drainRemaining: drain?.remaining ?? 0,
        storeUp: backing.storeUp(),
      };
    },
    health: () => backing.health(),
    clusterMetrics: () => backing.metrics(),
    clusterOverview: () => clusterOverview(node, backing),
    explain: (message, listMax) =>
      routeOverview(node, message, { listMax, storeUp: backing.storeUp() }),
    storeFacts: () => backing.storeFacts(),
    publish: (message) => publish(node, message),
    disconnect: (clientId) => {
      const connection = node.connections.get(clientId);
      connection?.disconnect(ReasonCode.AdministrativeAction);
      return connection !== undefined;
    },
    drain: async (drainOptions) => {
      if (backing.peers.alone || closing !== undefined) return;
      const { drain: settings } = config;
      drain ??= new Drain({ node, backing, listener, settings }, drainOptions);
      await drain.over;
    },
    close: () => {
      closing ??= close(node, listener)
        .then(() => backing.leave())
        .finally(() => {
          ticker.stop();
        });
      return closing;
    },
  };
}

/** The hooks that only listen. One that fails on what some client sent must not end the broker for all of them. */
function contained(
  hooks: BrokerHooks,
  hookFailed: BrokerOptions['hookFailed'],
): Pick<BrokerHooks, 'connected' | 'disconnected' | 'published'> {
  function contain<Args extends unknown[]>(
    name: string,
    hook: ((...args: Args) => unknown) | undefined,
  ): ((...args: Args) => void) | undefined {
    if (hook === undefined) return undefined;
    return (...args) => {
      try {
        const result = hook(...args);
        // An async function passes for one that returns nothing.
        if (isThenable(result))
          result.then(undefined, (error: unknown) => hookFailed?.(error, name));
      } catch (error) {
        hookFailed?.(error, name);
      }
    };
  }
  const connected = contain('connected', hooks.connected);
  const disconnected = contain('disconnected', hooks.disconnected);
  const published = contain('published', hooks.published);
  return {
    ...(connected === undefined ? {} : { connected }),
    ...(disconnected === undefined ? {} : { disconnected }),
    ...(published === undefined ? {} : { published }),
  };
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { readonly then?: unknown } | null | undefined)?.then === 'function';
}

function accessOf(config: Config, { hooks = {}, hookFailed }: BrokerOptions): Access {
  const fallback =
    config.auth.users.length === 0 && allowsAnonymous(config)
      ? allowAll()
      : userList(config.auth.users, { allowAnonymous: allowsAnonymous(config) });
  const { authenticate, enhancedAuthentication, authorize } = hooks;
  if ((authenticate ?? enhancedAuthentication ?? authorize) === undefined) return fallback;
  return hooksAccess(
    {
      authenticate,
      enhancedAuthentication,
      authorize,
      authorizeTimeoutMs: config.limits.connectTimeoutMs,
      onError: hookFailed,
    },
    fallback,
  );
}

function publishedMessage(message: Message, clientId: string): PublishedMessage {
  return {
    topic: message.topic.name,
    payload: Buffer.from(
      message.bytes.buffer,
      message.bytes.byteOffset + message.start,
      message.payloadBytes,
    ),
    qos: message.qos,
    retain: message.retain,
    clientId,
    properties: decodePublishProperties(message.properties),
  };
}

async function publish(node: Node, publish: BrokerPublish): Promise<void> {
  const payload =
    typeof publish.payload === 'string' ? Buffer.from(publish.payload) : publish.payload.slice();
  const message = Message.of(topicFromName(node.topics, publish.topic), payload, {
    qos: publish.qos ?? 0,
    retain: publish.retain ?? false,
    ...(publish.properties === undefined
      ? {}
      : { properties: encodePublishProperties(publish.properties) }),
  });
  if (publish.messageExpiryInterval !== undefined) {
    message.expiryInterval = publish.messageExpiryInterval;
    message.expiresAtMs = node.parts.clock.wallMs() + publish.messageExpiryInterval * 1000;
  }
  await node.publish(message);
}

function nodesByState(backing: Backing, own: NodeState): NodeLevels['nodes'] {
  const count = { joining: 0, serving: 0, draining: 0 };
  const nodes = backing.nodes();
  for (const { state } of nodes) count[state] += 1;
  if (nodes.length === 0) count[own] = 1;
  return count;
}

/** Rejects with the reason of the signal when that comes first. */
function unlessAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const abort = () => {
      reject(signal.reason as Error);
    };
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => {
      signal.removeEventListener('abort', abort);
    });
  });
}

async function close(node: Node, listener: Listener): Promise<void> {
  await listener.close();
  node.closeAll();
  const giveUpMs = performance.now() + CLOSE_MS;
  while (listener.connections > 0 && performance.now() < giveUpMs) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  listener.destroyAll();
}

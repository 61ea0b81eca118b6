import { DEFAULT_LIMITS } from '@shoalmq/core';
import { z } from 'zod';
import { parseRedisUrl } from './redis-url.ts';

/**
 * The configuration of a node: every setting with its bounds, its default and its description. The documentation
 * (docs/configuration.md), the environment variables and the coercion of text all derive from this one object.
 */

declare module 'zod' {
  interface GlobalMeta {
    /** Never shown: not in the log, not in an error. */
    secret?: boolean;
  }
}

const UINT16_MAX = 65_535;
const UINT32_MAX = 4_294_967_295;
const bytes = () => z.int().min(1);
const count = () => z.int().min(1);
/** The longest delay of a Node.js timer. */
const ms = () => z.int().min(1).max(2_147_483_647);
const port = () => z.int().min(0).max(UINT16_MAX);
const seconds = (max: number) => z.int().min(0).max(max);
const text = () => z.string().min(1);
/** Of a file; empty: none. */
const path = () => z.string().default('');

const limits = z.strictObject({
  packetBytesMax: bytes()
    .max(268_435_460)
    .default(DEFAULT_LIMITS.packetBytesMax)
    .describe(
      'Bytes of the largest packet from a client; a larger one ends the connection with 0x95. Announced to MQTT 5.0 clients.',
    ),
  connectBytesMax: bytes()
    .max(268_435_460)
    .default(DEFAULT_LIMITS.connectBytesMax)
    .describe(
      'Bytes of the largest CONNECT, the will included; enforced before anything is buffered.',
    ),
  connectTimeoutMs: ms()
    .default(DEFAULT_LIMITS.connectTimeoutMs)
    .describe(
      'Milliseconds from accept until CONNECT is complete, authentication included: twice that. Not reset by bytes. Also how long an authorize hook may take.',
    ),
  packetTimeoutMs: ms()
    .default(DEFAULT_LIMITS.packetTimeoutMs)
    .describe('Milliseconds in which a packet must be complete once its first byte came.'),
  keepAliveMax: z
    .int()
    .min(0)
    .max(UINT16_MAX)
    .default(DEFAULT_LIMITS.keepAliveMax)
    .describe(
      'Seconds; the longest keep alive granted. MQTT 5.0 clients that ask for more, or for none, are given this one; 3.x clients that do are refused. 0: no limit.',
    ),
  sessionExpiryMax: z
    .int()
    .min(0)
    .max(UINT32_MAX)
    .default(DEFAULT_LIMITS.sessionExpiryMax)
    .describe(
      'Seconds; longer session expiry intervals are cut to this. 4294967295: sessions may live for ever.',
    ),
  receiveMaximum: count()
    .max(UINT16_MAX)
    .default(DEFAULT_LIMITS.receiveMaximum)
    .describe('QoS 1 and 2 messages under way from one client; more end the connection with 0x93.'),
  topicAliasMaximum: z
    .int()
    .min(0)
    .max(UINT16_MAX)
    .default(DEFAULT_LIMITS.topicAliasMaximum)
    .describe('Topic aliases that one client may use towards the broker.'),
  inflightMax: count()
    .max(UINT16_MAX)
    .default(DEFAULT_LIMITS.inflightMax)
    .describe(
      'QoS 1 and 2 messages under way to one client, when it does not ask for fewer (Receive Maximum).',
    ),
  outboundTopicAliasMax: z
    .int()
    .min(0)
    .max(UINT16_MAX)
    .default(DEFAULT_LIMITS.outboundTopicAliasMax)
    .describe('Topic aliases used towards one client, when it does not allow fewer.'),
  waitingMessagesMax: count()
    .default(DEFAULT_LIMITS.waitingMessagesMax)
    .describe(
      'Messages that wait for the in-flight window of one connected clean session; beyond it, the publisher waits.',
    ),
  waitingBytesMax: bytes()
    .default(DEFAULT_LIMITS.waitingBytesMax)
    .describe(
      'Bytes of payload that wait for the in-flight window of one connected clean session; beyond it, the publisher waits.',
    ),
  stallTimeoutMs: ms()
    .default(DEFAULT_LIMITS.stallTimeoutMs)
    .describe(
      'Milliseconds a connected client may make no progress, with its window full or with output that its socket does not take, before it is closed.',
    ),
  outboundBytesMax: bytes()
    .default(DEFAULT_LIMITS.outboundBytesMax)
    .describe(
      'Bytes of output waiting for one socket, beyond which QoS 0 messages to it are dropped and counted.',
    ),
  queueMessagesMax: count()
    .default(DEFAULT_LIMITS.queueMessagesMax)
    .describe('Messages queued for one persistent session.'),
  queueBytesMax: bytes()
    .default(DEFAULT_LIMITS.queueBytesMax)
    .describe('Bytes of payload queued for one persistent session.'),
  queuePolicy: z
    .enum(['drop-oldest', 'reject-new'])
    .default(DEFAULT_LIMITS.queuePolicy)
    .describe(
      "At a queue's bound: `drop-oldest` makes room and counts what it dropped, `reject-new` answers the publisher 0x97 at QoS > 0.",
    ),
  subscriptionsMax: count()
    .default(DEFAULT_LIMITS.subscriptionsMax)
    .describe('Subscriptions of one client; more get 0x97 in SUBACK.'),
  topicLevelsMax: count()
    .max(UINT16_MAX)
    .default(DEFAULT_LIMITS.topicLevelsMax)
    .describe('Levels of a topic name or filter.'),
  retainedMessagesMax: count()
    .default(DEFAULT_LIMITS.retainedMessagesMax)
    .describe('Retained messages in the whole cluster; more get 0x97.'),
  retainedBytesMax: bytes()
    .default(DEFAULT_LIMITS.retainedBytesMax)
    .describe(
      'Bytes of all retained messages in the whole cluster, with 64 for each topic level; more get 0x97.',
    ),
  connectionsMax: count()
    .default(DEFAULT_LIMITS.connectionsMax)
    .describe('Connections of this node; more are not accepted until one ends.'),
});

const user = z.strictObject({
  username: z.string(),
  password: z.string().meta({ secret: true }),
});

export const configSchema = z.strictObject({
  node: z
    .strictObject({
      id: z
        .string()
        .max(128)
        .regex(/^[A-Za-z0-9._-]*$/, 'may contain letters, digits, ".", "_" and "-" only')
        .default('')
        .describe(
          'Name of this node in logs and metrics. Empty: the host name and a random suffix, new at each start.',
        ),
    })
    .prefault({})
    .describe('The node.'),
  mqtt: z
    .strictObject({
      host: text()
        .default('127.0.0.1')
        .describe(
          'Address or host name to listen on. `0.0.0.0` or `::`: all of them, which needs `auth.users`, or `mqtt.allowAnonymous` set explicitly.',
        ),
      port: port()
        .default(1883)
        .describe('TCP port to listen on; 0: one that the operating system chooses.'),
      allowAnonymous: z
        .boolean()
        .optional()
        .describe(
          'Whether clients without user name and password may connect. Not set: they may when the broker listens on a loopback address only and there are no `auth.users`.',
        ),
    })
    .prefault({})
    .describe('The MQTT listener.'),
  http: z
    .strictObject({
      host: text()
        .default('127.0.0.1')
        .describe('Address or host name of the operations port. It has no access control.'),
      port: port()
        .default(9883)
        .describe(
          'TCP port of `/livez`, `/readyz`, `/startupz`, `/lb`, `/metrics` and `/api/v1/cluster`; 0 turns them off.',
        ),
      remoteAdmin: z
        .boolean()
        .default(false)
        .describe(
          'Whether other machines may ask `/api/v1/cluster`, which names clients and topics. Otherwise only this one may, wherever the port listens: `shoal cluster` runs beside the broker, as with `kubectl exec`.',
        ),
    })
    .prefault({})
    .describe('The operations port: health and metrics over HTTP.'),
  log: z
    .strictObject({
      level: z
        .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
        .default('info')
        .describe(
          'error: someone has to act; warn: degraded, recovers alone; info: node and listeners; debug: each connection; trace: each packet.',
        ),
      format: z
        .enum(['auto', 'json', 'pretty'])
        .default('auto')
        .describe('`auto`: pretty on a terminal, JSON lines otherwise.'),
    })
    .prefault({})
    .describe('The log, on standard output.'),
  auth: z
    .strictObject({
      users: z
        .array(user)
        .max(10_000)
        .refine(
          (users) => new Set(users.map(({ username }) => username)).size === users.length,
          'names a user twice',
        )
        .default([])
        .describe(
          'Users that may connect, each with `username` and `password`. As text (environment, `--set`): a JSON array.',
        ),
    })
    .prefault({})
    .describe('Who may connect.'),
  shared: z
    .strictObject({
      strategy: z
        .enum(['round-robin', 'random', 'sticky', 'hash-client-id', 'hash-topic', 'local-first'])
        .default('round-robin')
        .describe(
          'How the member of a shared subscription that gets a message is chosen; connected members come first.',
        ),
    })
    .prefault({})
    .describe('Shared subscriptions.'),
  sys: z
    .strictObject({
      intervalSeconds: z
        .int()
        .min(0)
        .max(86_400)
        .default(10)
        .describe('Seconds between updates of the `$SYS/broker` topics; 0 turns them off.'),
    })
    .prefault({})
    .describe('The `$SYS` topics.'),
  cluster: z
    .strictObject({
      redis: z
        .string()
        .refine(
          (url) => url === '' || parseRedisUrl(url) !== undefined,
          'is not the URL of a Redis',
        )
        .default('')
        .meta({ secret: true })
        .describe(
          'URL of the Redis that holds the state of the cluster: `redis://[user[:password]@]host[:port][/database]`, `redis+sentinel://host:port,.../name`, `redis+cluster://host:port,...`; `rediss` for TLS. A user of an ACL needs `+@all -@admin -@dangerous +info` and the keys `~shoal:*` (see `cluster.keyPrefix`); with `+config|get` too, settings of Redis are checked that INFO does not tell. Empty: a single node that keeps its state in memory.',
        ),
      peerHost: text()
        .default('127.0.0.1')
        .describe(
          'Address that the other nodes of the cluster connect to. This node listens there, and tells it to them.',
        ),
      peerPort: port()
        .default(7883)
        .describe('TCP port for the other nodes; 0: one that the operating system chooses.'),
      peerAddress: z
        .string()
        .regex(/^(\S+:\d{1,5})?$/, 'must be host:port')
        .default('')
        .describe(
          'host:port that the other nodes are told to connect to, when something between them translates addresses. Empty: `cluster.peerHost` and the port that is listened on.',
        ),
      secret: z
        .string()
        .default('')
        .meta({ secret: true })
        .describe(
          'What the nodes of a cluster know and nobody else, the same on all of them. Needed unless `cluster.peerHost` is a loopback address or there is `cluster.peerTlsCa`.',
        ),
      peerTlsCert: path().describe(
        "PEM file with this node's certificate for TLS between nodes, in both directions; set with `cluster.peerTlsKey` and `cluster.peerTlsCa`, on all nodes or on none. Read once, at the start.",
      ),
      peerTlsKey: path().describe('PEM file with the key of `cluster.peerTlsCert`.'),
      peerTlsCa: path().describe(
        'PEM file with the authorities whose certificates are nodes. A node without one of them is refused, as sender and as receiver.',
      ),
      peerTlsIdentity: z
        .enum(['cluster', 'node'])
        .default('cluster')
        .describe(
          '`cluster`: every certificate of `cluster.peerTlsCa` may be any node, so that authority must sign nothing else. `node`: the common name or a DNS name of the certificate must be the `node.id`.',
        ),
      durability: z
        .enum(['primary', 'replicated'])
        .default('primary')
        .describe(
          'When a message counts as kept: `primary` when the primary of Redis has it, `replicated` when `cluster.replicas` replicas have confirmed it too. At `primary` a failover of Redis can lose what was acknowledged last.',
        ),
      replicas: z
        .int()
        .min(1)
        .max(16)
        .default(1)
        .describe(
          'Replicas of Redis that must confirm a write at durability `replicated`. With fewer of them connected nothing is acknowledged.',
        ),
      keyPrefix: z
        .string()
        .regex(/^[^{}\s]{1,64}$/, 'must have 1 to 64 characters, without braces and spaces')
        .default('shoal:')
        .describe(
          'What every key in Redis begins with; clusters with different prefixes can share a Redis.',
        ),
      redisTlsCa: path().describe(
        'PEM file with the authorities of the certificate of Redis, for `rediss`. Empty: those that Node.js knows.',
      ),
      redisTlsCert: path().describe(
        'PEM file with the certificate that this node shows to Redis, when Redis asks for one.',
      ),
      redisTlsKey: path().describe('PEM file with the key of `cluster.redisTlsCert`.'),
    })
    .prefault({})
    .describe('The cluster: nodes that share one Redis.'),
  drain: z
    .strictObject({
      balancerDelaySeconds: seconds(3_600)
        .default(5)
        .describe(
          'Seconds for which clients are still accepted after `/lb` has said 404: what balancers take to notice. Not waited for when no other node serves.',
        ),
      connectionsPerSecond: count()
        .default(500)
        .describe(
          'Clients that are sent away in a second, by all nodes that drain at the time together. More when `drain.maxSeconds` would be over before.',
        ),
      maxSeconds: count()
        .max(86_400)
        .default(60)
        .describe(
          'Seconds after which the clients that are left are cut. Whoever ends the process must wait a little longer: Kubernetes for `terminationGracePeriodSeconds`, systemd for `TimeoutStopSec`.',
        ),
      willGraceSeconds: seconds(86_400)
        .default(30)
        .describe(
          'Seconds in which a client that was sent away cancels its will by coming back to any node.',
        ),
      serverReference: z
        .string()
        .max(65_535)
        .default('')
        .describe(
          'Another server, for MQTT 5.0 clients that are sent away: they get DISCONNECT 0x9C with this Server Reference, as in `host:port`. Empty: 0x8B.',
        ),
    })
    .prefault({})
    .describe(
      'What a node of a cluster does on SIGTERM, and on SIGINT without `drain.balancerDelaySeconds`, before it ends. A second signal ends it at once.',
    ),
  limits: limits
    .prefault({})
    .describe('Every bound the broker enforces, with what happens at the bound.'),
});

/** The configuration of a node, checked and complete. */
export type Config = DeepReadonly<z.output<typeof configSchema>>;

/** What a user may write: everything is optional. */
export type ConfigInput = DeepReadonly<z.input<typeof configSchema>>;

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

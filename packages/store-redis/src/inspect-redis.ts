import { encodeCommand, PromisedCall } from './connection/redis-call.ts';
import type { RedisArgument, RedisReply } from './connection/redis-call.ts';
import type { RedisCalls } from './connection/redis-connection.ts';

/** What one primary says of itself. `undefined`: it did not say, or may not. */
export interface RedisServer {
  readonly version: string | undefined;
  readonly connectedReplicas: number | undefined;
  readonly memoryBytes: number | undefined;
  /** 0: no bound. */
  readonly memoryBytesMax: number | undefined;
  /** `maxmemory-policy`. */
  readonly evictionPolicy: string | undefined;
  /** `appendonly`: each write is in a log on disk. */
  readonly appendOnly: boolean | undefined;
  /** `appendfsync`: when that log is forced to the disk. */
  readonly appendFsync: string | undefined;
  /** `save`: snapshots are made. */
  readonly snapshots: boolean | undefined;
  /** `min-replicas-to-write`. */
  readonly minReplicas: number | undefined;
  /** Settings of which nothing could be learned, by the names Redis gives them. */
  readonly unknown: readonly string[];
}

/** Appends to queues need `XADD key <number>-*`, which came with 7.0. */
const VERSION_MIN = [7, 0] as const;

/**
 * Asks every primary how it is set up. What CONFIG GET may not tell is taken from INFO as far as that has it.
 *
 * @throws StoreError when Redis does not answer in time
 */
export function inspectRedis(redis: RedisCalls): Promise<readonly RedisServer[]> {
  return Promise.all(redis.slotsOfPrimaries().map((slot) => inspectServer(redis, slot)));
}

async function inspectServer(redis: RedisCalls, slot: number): Promise<RedisServer> {
  const info = parseInfo(textOf(await ask(redis, slot, ['INFO'])));
  // One by one: before 7.0 CONFIG GET takes one name.
  const [policy, save, fsync, minReplicas] = await Promise.all(
    ['maxmemory-policy', 'save', 'appendfsync', 'min-replicas-to-write'].map((name) =>
      config(redis, slot, name),
    ),
  );
  // INFO has this line when the setting is not 0.
  const hasMinReplicas = info.has('min_slaves_good_slaves');
  const appendOnly = info.get('aof_enabled');
  const server = {
    version: info.get('redis_version'),
    connectedReplicas: numberOf(info.get('connected_slaves')),
    memoryBytes: numberOf(info.get('used_memory')),
    memoryBytesMax: numberOf(info.get('maxmemory')),
    evictionPolicy: policy ?? info.get('maxmemory_policy'),
    appendOnly: appendOnly === undefined ? undefined : appendOnly === '1',
    appendFsync: fsync,
    snapshots: save === undefined ? undefined : save !== '',
    minReplicas: numberOf(minReplicas) ?? (info.size === 0 || hasMinReplicas ? undefined : 0),
  };
  const names = {
    evictionPolicy: 'maxmemory-policy',
    appendOnly: 'appendonly',
    appendFsync: 'appendfsync',
    snapshots: 'save',
    // That it is set is enough.
    ...(hasMinReplicas ? {} : { minReplicas: 'min-replicas-to-write' }),
  } as const;
  const unknown = Object.entries(names).flatMap(([field, name]) =>
    server[field as keyof typeof names] === undefined ? [name] : [],
  );
  return { ...server, unknown };
}

/**
 * What in the set-up of Redis can cost messages, a line each: the setting, and what it costs. `replicas`: how many must
 * confirm a write; 0: none.
 */
export function redisWarnings(
  servers: readonly RedisServer[],
  { replicas }: { readonly replicas: number },
): readonly string[] {
  const counts = new Map<string, number>();
  for (const server of servers) {
    for (const warning of warningsOf(server, replicas)) {
      counts.set(warning, (counts.get(warning) ?? 0) + 1);
    }
  }
  return Array.from(counts, ([warning, count]) =>
    servers.length === 1 ? warning : `${warning} (${count} of ${servers.length} primaries)`,
  );
}

function* warningsOf(server: RedisServer, replicas: number): Generator<string> {
  const { version, evictionPolicy, appendOnly, appendFsync, snapshots, unknown } = server;
  if (version !== undefined && isOlder(version)) {
    yield `Redis ${version} is older than ${VERSION_MIN.join('.')}: nothing can be queued for persistent sessions`;
  }
  if (evictionPolicy !== undefined && evictionPolicy !== 'noeviction') {
    yield `maxmemory-policy is ${evictionPolicy}, not noeviction: a Redis that is full deletes sessions, queues and retained messages without telling anybody`;
  }
  if (appendOnly === false && snapshots === false) {
    yield 'appendonly is no and save is empty: when Redis restarts all sessions, queued and retained messages are lost';
  } else if (appendOnly === false) {
    yield 'appendonly is no: when Redis restarts, what was acknowledged after its last snapshot is lost';
  } else if (appendOnly === true && appendFsync === 'no') {
    yield 'appendfsync is no: when the machine of Redis fails, what the operating system had not written yet is lost';
  }
  if (replicas > 0 && server.minReplicas === 0) {
    yield 'min-replicas-to-write is 0: a primary that is cut off from its replicas goes on giving leases to the nodes that are cut off with it';
  }
  const { connectedReplicas } = server;
  if (connectedReplicas !== undefined && connectedReplicas < replicas) {
    yield `${connectedReplicas} replicas are connected and ${replicas} must confirm each write: nothing at QoS 1 and 2 is acknowledged`;
  }
  if (unknown.length > 0) {
    yield `Redis does not let this user read its settings: ${unknown.join(', ')} not checked`;
  }
}

function isOlder(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major < VERSION_MIN[0] || (major === VERSION_MIN[0] && minor < VERSION_MIN[1]);
}

async function config(redis: RedisCalls, slot: number, name: string): Promise<string | undefined> {
  try {
    const reply = (await ask(redis, slot, ['CONFIG', 'GET', name])) as readonly RedisReply[];
    return reply.length < 2 ? undefined : textOf(reply[1]!);
  } catch (error) {
    // No permission, or no such command: managed services do that.
    if ((error as { code?: unknown }).code === 'SHOAL_STORE_REFUSED') return undefined;
    throw error;
  }
}

function ask(redis: RedisCalls, slot: number, args: readonly RedisArgument[]): Promise<RedisReply> {
  const bytes = encodeCommand(args);
  const call = new PromisedCall(String(args[0]).toLowerCase(), () => bytes, {
    slot,
    durable: false,
  });
  redis.send(call);
  return call.reply;
}

function parseInfo(text: string): Map<string, string> {
  return new Map(
    Array.from(text.matchAll(/^([a-z_]+):(.*?)\r?$/gm), ([, name, value]) => [name!, value!]),
  );
}

function textOf(reply: RedisReply): string {
  return Buffer.isBuffer(reply) ? reply.toString() : String(reply);
}

function numberOf(text: string | undefined): number | undefined {
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

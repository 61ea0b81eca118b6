import type { NodeIdentity, OwnerToken } from '@shoalmq/core';
import { keysOf } from './keys.ts';
import type { Keys } from './keys.ts';
import { sized } from './cluster-state/fact-text.ts';
import type { RedisCalls } from './connection/redis-connection.ts';
import { textHash } from './text-hash.ts';

/** Sorted sets that the connections of one life of a node are spread over: it may have many. */
const PARTS = 16;

/**
 * Which connections each life of a node owns, so that others can release them when it dies.
 *
 * Sessions are in other slots, so this is not written in one step with their owner: a connection is added *before* the
 * session is claimed, and removed *after* it was released or was found to be somebody else's. A connection that is
 * named here and owns nothing is harmless, because a release is fenced by its token.
 *
 * Sorted sets with equal scores, because they can be paged by what was read last while others remove what was read.
 */
export class OwnedConnections {
  readonly #redis: RedisCalls;
  readonly #keys: Keys;

  constructor(redis: RedisCalls) {
    this.#redis = redis;
    this.#keys = keysOf(redis.keyPrefix);
  }

  /**
   * The connection that `token` names is about to claim the session of `clientId`: resolve before that is sent. Again
   * for each connection that lives, when the store's generation changed.
   */
  async add(
    token: OwnerToken,
    clientId: string,
    { urgent = false }: { readonly urgent?: boolean } = {},
  ): Promise<void> {
    const { key, member } = this.#entry(token, clientId);
    await this.#redis.command(key, ['ZADD', key, 0, member], { durable: true, urgent });
  }

  /** That connection does not own the session any more: it released it, or another connection has claimed it. */
  async remove(token: OwnerToken, clientId: string): Promise<void> {
    const { key, member } = this.#entry(token, clientId);
    await this.#redis.command(key, ['ZREM', key, member]);
  }

  /**
   * At most `limit` connections of a node after `cursor`, '' to begin with; `next` is '' at the end. What is there all
   * the time is found once. A page may be empty although there are more.
   */
  async scan(
    node: NodeIdentity,
    cursor: string,
    limit: number,
  ): Promise<{
    readonly connections: readonly { readonly clientId: string; readonly token: string }[];
    readonly next: string;
  }> {
    const owner = `${node.id}#${node.incarnation}`;
    const part = cursor === '' ? 0 : Number(cursor.slice(0, cursor.indexOf(':')));
    const after = cursor.slice(cursor.indexOf(':') + 1);
    const key = this.#keys.connections(owner, part);
    const members = (await this.#redis.command(key, [
      ...['ZRANGEBYLEX', key, after === '' ? '-' : `(${after}`, '+'],
      ...['LIMIT', 0, limit],
    ])) as readonly Buffer[];
    const texts = members.map((member) => member.toString());
    const connections = texts.map((text) => {
      const start = text.indexOf(':') + 1;
      const end = start + Number(text.slice(0, start - 1));
      return { clientId: text.slice(start, end), token: `${owner}#${text.slice(end)}` };
    });
    if (texts.length === limit) return { connections, next: `${part}:${texts.at(-1)!}` };
    return { connections, next: part + 1 < PARTS ? `${part + 1}:` : '' };
  }

  #entry(token: OwnerToken, clientId: string): { readonly key: string; readonly member: string } {
    const end = token.lastIndexOf('#');
    const key = this.#keys.connections(token.slice(0, end), textHash(clientId) % PARTS);
    return { key, member: sized(clientId) + token.slice(end + 1) };
  }
}

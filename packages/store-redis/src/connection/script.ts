import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { RedisArgument, RedisCall, RedisReply } from './redis-call.ts';
import { encodeCommand, PromisedCall } from './redis-call.ts';
import type { RedisCalls } from './redis-connection.ts';

/** All scripts that were defined, so that each server can be told of them before they are called. */
const defined: Script[] = [];

/** A Lua script that Redis knows by the hash of its source. */
export class Script {
  readonly name: string;
  readonly source: string;
  readonly sha: string;

  constructor(name: string, source: string) {
    this.name = name;
    this.source = source;
    this.sha = createHash('sha1').update(source).digest('hex');
  }

  /** The command for one call: by hash, or with the source when the server said that it does not know the hash. */
  encode(
    call: RedisCall,
    keys: readonly string[],
    argv: readonly RedisArgument[],
  ): Buffer | string {
    const head = call.scriptUnknown ? ['EVAL', this.source] : ['EVALSHA', this.sha];
    return encodeCommand([...head, keys.length, ...keys, ...argv]);
  }
}

/** Source texts of all scripts. */
export function scriptSources(): readonly string[] {
  return defined.map(({ source }) => source);
}

/**
 * The script `lua/<name>.lua`, preceded by the files of `lua/lib` that it needs. Its header is the contract.
 */
export function loadScript(name: string, { library = [] }: { library?: readonly string[] } = {}) {
  const files = [...library.map((file) => `lib/${file}`), name];
  const source = files
    .map((file) => readFileSync(new URL(`../../lua/${file}.lua`, import.meta.url), 'utf8'))
    .join('\n');
  const script = new Script(name, source);
  defined.push(script);
  return script;
}

/** Types for a script: how a call becomes keys and arguments, and what its reply means. */
export interface ScriptDefinition<Call, Result> {
  readonly library?: readonly string[];
  /** Writes something: see `RedisCall.durable`. */
  readonly writes: boolean;
  /** See `RedisCall.urgent`. */
  readonly urgent?: boolean;
  readonly keys: (call: Call) => readonly string[];
  /** `again`: it was sent before, so it may have run. Asked anew each time that it is sent. */
  readonly argv: (call: Call, again: boolean) => readonly RedisArgument[];
  readonly reply: (reply: RedisReply, call: Call) => Result;
}

/** A function that runs the script `lua/<name>.lua` on the server of its first key. */
export function defineScript<Call, Result>(
  name: string,
  definition: ScriptDefinition<Call, Result>,
): (redis: RedisCalls, call: Call) => Promise<Result> {
  const { library = [], writes, urgent = false } = definition;
  const script = loadScript(name, { library });
  return async (redis, call) => {
    const keys = definition.keys(call);
    const sent = new PromisedCall(
      'evalsha',
      (self) => script.encode(self, keys, definition.argv(call, self.attempts > 0)),
      { slot: redis.slotOf(keys[0] as string), durable: writes, operation: name },
    );
    sent.urgent = urgent;
    redis.send(sent);
    return definition.reply(await sent.reply, call);
  };
}

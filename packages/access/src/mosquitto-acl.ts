import { topicFilterProblem } from '@shoalmq/core';
import type { AclAction, AclRule } from './acl.ts';

/** A file of rules is not one; the message names the line. */
export class AclFileError extends Error {
  override readonly name = 'AclFileError';
}

const ACCESS: ReadonlyMap<string, { effect: AclRule['effect']; actions: readonly AclAction[] }> =
  new Map([
    ['read', { effect: 'allow', actions: ['subscribe'] }],
    ['write', { effect: 'allow', actions: ['publish'] }],
    ['readwrite', { effect: 'allow', actions: ['publish', 'subscribe'] }],
    ['deny', { effect: 'deny', actions: ['publish', 'subscribe'] }],
  ]);
const LEVELS_MAX = 200;

/**
 * Reads an ACL file in Mosquitto's syntax: `user <name>`, `topic [read|write|readwrite|deny] <filter>`,
 * `pattern [...] <filter>` with `%u` and `%c`, comments. `topic` lines belong to the user above them, those before the
 * first `user` to anonymous clients; `pattern` lines to everybody.
 *
 * Where it differs from Mosquitto, whose files do not restrict SUBSCRIBE at all: a filter must be contained in one that
 * is allowed to read.
 *
 * @throws AclFileError with the line that cannot be understood: a rule that is not read is not a rule.
 */
export function parseMosquittoAcl(text: string): AclRule[] {
  const rules: AclRule[] = [];
  let user = '';
  for (const [index, whole] of text.split(/\r?\n/).entries()) {
    const line = whole.trim();
    if (line === '' || line.startsWith('#')) continue;
    const [keyword, rest] = cut(line);
    const fail = (reason: string): never => {
      throw new AclFileError(`line ${String(index + 1)}: ${reason}`);
    };
    if (keyword === 'user') {
      if (rest === '') fail('a user needs a name');
      user = rest;
      continue;
    }
    if (keyword !== 'topic' && keyword !== 'pattern') fail('neither user, topic nor pattern');
    const [first, filterOfFirst] = cut(rest);
    // A topic may have the name of an access: `topic read` is the topic "read".
    const access = filterOfFirst === '' ? undefined : ACCESS.get(first);
    const topic = access === undefined ? rest : filterOfFirst;
    const problem = topicFilterProblem(topic, LEVELS_MAX);
    if (problem !== undefined) fail(problem);
    rules.push({
      ...(access ?? ACCESS.get('readwrite')!),
      topic,
      ...(keyword === 'topic' ? { user } : { isTemplate: true }),
    });
  }
  return rules;
}

/** The first word, and what comes after it and the blanks. */
function cut(text: string): [string, string] {
  const end = text.search(/[ \t]/);
  return end < 0 ? [text, ''] : [text.slice(0, end), text.slice(end).trim()];
}

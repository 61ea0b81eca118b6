import { containsFilter, filterMatches, filtersOverlap } from '@shoalmq/core';
import type { AuthorizeRequest } from '@shoalmq/core';

/** What a rule speaks of: `publish` to a topic, `subscribe` to a filter and receive what matches it. */
export type AclAction = 'publish' | 'subscribe';

/** Somebody who asks. */
export interface AclSubject {
  readonly clientId: string;
  /** '' when anonymous. */
  readonly username: string;
  readonly groups: readonly string[];
  readonly remoteAddress: string;
  readonly listener: string;
}

/** One rule. A condition that is left out holds for everybody. */
export interface AclRule {
  readonly effect: 'allow' | 'deny';
  readonly actions: readonly AclAction[];
  /** A topic filter. */
  readonly topic: string;
  /** `%u` and `%c` in it stand for the user name and the client id. */
  readonly isTemplate?: boolean | undefined;
  /** '': anonymous clients. */
  readonly user?: string | undefined;
  readonly group?: string | undefined;
  readonly clientId?: string | undefined;
  readonly listener?: string | undefined;
  /** Whether the address of the client is one of those meant. */
  readonly address?: ((remoteAddress: string) => boolean) | undefined;
  /** The highest QoS that is allowed, or from which on it is denied. */
  readonly qos?: 0 | 1 | 2 | undefined;
  /** Only messages with, or without, the RETAIN flag. Says nothing of subscriptions. */
  readonly retain?: boolean | undefined;
}

/**
 * Answers what rules say. A denying rule is stronger than an allowing one, wherever it stands, and what no rule allows
 * is denied. A SUBSCRIBE is allowed when one rule's filter contains the one asked for, and no denied filter has a topic
 * in common with it: what is denied is never received through a wider filter. Topics of the server (`$SYS/...`) are
 * matched only by filters that name them.
 *
 * No text of a client is ever a pattern: a user name or client id stands for itself, and a rule in which it would have
 * to contain `/`, `+` or `#`, or begin a topic with `$`, does not allow anything, and denies all that it could mean.
 */
export class Acl {
  readonly #rules: readonly AclRule[];

  constructor(rules: readonly AclRule[]) {
    this.#rules = rules;
  }

  isAllowed(
    subject: AclSubject,
    request: Pick<AuthorizeRequest, 'action' | 'topic' | 'qos' | 'retain'>,
  ): boolean {
    let allowed = false;
    for (const rule of this.#rules) {
      if (!concerns(rule, subject, request)) continue;
      if (rule.effect === 'deny') {
        const denied = fill(rule, subject, '+');
        if (request.action === 'subscribe') {
          if (filtersOverlap(denied, request.topic)) return false;
        } else if (filterMatches(denied, request.topic)) return false;
        continue;
      }
      if (allowed) continue;
      const filter = fill(rule, subject, undefined);
      if (filter === undefined) continue;
      allowed =
        request.action === 'subscribe'
          ? containsFilter(filter, request.topic)
          : filterMatches(filter, request.topic);
    }
    return allowed;
  }
}

function concerns(
  rule: AclRule,
  subject: AclSubject,
  { action, qos, retain }: Pick<AuthorizeRequest, 'action' | 'qos' | 'retain'>,
): boolean {
  if (!rule.actions.includes(action === 'publish' ? 'publish' : 'subscribe')) return false;
  if (rule.user !== undefined && rule.user !== subject.username) return false;
  if (rule.clientId !== undefined && rule.clientId !== subject.clientId) return false;
  if (rule.listener !== undefined && rule.listener !== subject.listener) return false;
  if (rule.group !== undefined && !subject.groups.includes(rule.group)) return false;
  if (rule.address !== undefined && !rule.address(subject.remoteAddress)) return false;
  // QoS and RETAIN of a message that is received are no matter of what its receiver may do.
  if (action === 'receive') return true;
  if (rule.qos !== undefined) {
    if (rule.effect === 'allow' ? qos > rule.qos : qos < rule.qos) return false;
  }
  return rule.retain === undefined || action === 'subscribe' || rule.retain === retain;
}

function fill(rule: AclRule, subject: AclSubject, instead: string): string;
function fill(rule: AclRule, subject: AclSubject, instead: undefined): string | undefined;
/** The filter of a rule for this subject. `instead`: what a level becomes that the subject cannot stand for. */
function fill(rule: AclRule, subject: AclSubject, instead: string | undefined): string | undefined {
  if (rule.isTemplate !== true) return rule.topic;
  const levels = rule.topic.split('/');
  for (const [index, level] of levels.entries()) {
    if (!level.includes('%u') && !level.includes('%c')) continue;
    const { username, clientId } = subject;
    // One pass: a user name that contains %c stands for itself.
    const filled = level.replaceAll(/%[uc]/g, (name) => (name === '%u' ? username : clientId));
    const isLiteral =
      !(level.includes('%u') && !isLevel(username)) &&
      !(level.includes('%c') && !isLevel(clientId)) &&
      !(index === 0 && filled.startsWith('$') && !level.startsWith('$'));
    if (isLiteral) levels[index] = filled;
    else if (instead === undefined) return undefined;
    else levels[index] = instead;
  }
  return levels.join('/');
}

/** Can stand for itself as a level, or part of one. */
function isLevel(text: string): boolean {
  return text !== '' && !/[/+#]/.test(text);
}

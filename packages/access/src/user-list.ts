import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { ReasonCode } from '@shoalmq/core';
import type { Access, AuthenticateResult } from '@shoalmq/core';

export interface User {
  readonly username: string;
  readonly password: string;
}

export interface UserListOptions {
  /** A client that sends no user name may connect. */
  readonly allowAnonymous: boolean;
}

/**
 * A fixed list of users with passwords, compared as UTF-8 bytes. Whoever gets in may do everything.
 *
 * A wrong password, an unknown user, a user name without a password and a password without a user name are all
 * rejected with 0x86, after the same work: the answer and its time do not tell which user names exist. A client
 * with neither gets in when anonymous access is allowed, and 0x87 otherwise. Passwords are kept as keyed digests
 * only.
 *
 * @throws TypeError when two users have the same name.
 */
export function userList(users: readonly User[], { allowAnonymous }: UserListOptions): Access {
  const key = randomBytes(32);
  const digest = (password: string | Uint8Array) =>
    createHmac('sha256', key).update(password).digest();
  const digests = new Map<string, Buffer>();
  for (const { username, password } of users) {
    if (digests.has(username)) throw new TypeError('two users have the same name');
    digests.set(username, digest(password));
  }
  // No password has this digest; it stands in for users that do not exist.
  const nobody = randomBytes(32);

  function check(username: string | undefined, password: Uint8Array | undefined) {
    if (username === undefined && password === undefined) {
      return allowAnonymous ? accepted('') : rejected(ReasonCode.NotAuthorized);
    }
    const expected = digests.get(username ?? '');
    const equal = timingSafeEqual(digest(password ?? new Uint8Array(0)), expected ?? nobody);
    const known = username !== undefined && password !== undefined && expected !== undefined;
    return known && equal ? accepted(username) : rejected(ReasonCode.BadUserNameOrPassword);
  }

  return {
    authenticate: (packet) => Promise.resolve(check(packet.username, packet.password)),
    enhanced: () => undefined,
    authorize: () => true,
    revision: 0,
  };
}

function accepted(username: string): AuthenticateResult {
  return { outcome: 'accepted', principal: { username, unrestricted: true } };
}

function rejected(reasonCode: number): AuthenticateResult {
  return { outcome: 'rejected', reasonCode };
}

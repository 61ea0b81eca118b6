import { createHmac, randomBytes } from 'node:crypto';
import { ReasonCode } from '@shoalmq/core';
import type { Access, AuthenticateResult } from '@shoalmq/core';
import { hashPassword, parsePasswordHash, verifyPassword } from './password-hash.ts';
import type { PasswordHash } from './password-hash.ts';

/** A file of users is not one; the message names the line. */
export class PasswordFileError extends Error {
  override readonly name = 'PasswordFileError';
}

/**
 * Reads a password file: a line `user:hash` for each user, empty lines and lines that begin with `#`.
 *
 * @throws PasswordFileError for a line without a colon, a hash of an unknown kind, or a user that is there twice.
 */
export function parsePasswordFile(text: string): Map<string, PasswordHash> {
  const users = new Map<string, PasswordHash>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const where = `line ${String(index + 1)}`;
    // Mosquitto's user names have no colon, and hashes have none either.
    const colon = line.indexOf(':');
    if (colon <= 0) throw new PasswordFileError(`${where}: not of the form user:hash`);
    const username = line.slice(0, colon);
    const hash = parsePasswordHash(line.slice(colon + 1).trim());
    if (hash === undefined) {
      throw new PasswordFileError(
        `${where}: not a hash that is known; \`shoal passwd\` and mosquitto_passwd make them`,
      );
    }
    if (users.has(username)) throw new PasswordFileError(`${where}: this user is there twice`);
    users.set(username, hash);
  }
  return users;
}

/**
 * The text of a password file with the password of one user set, or the user gone (`undefined`); everything else,
 * comments too, stays as it is.
 */
export async function changePasswordFile(
  text: string,
  username: string,
  password: string | undefined,
): Promise<string> {
  if (username === '' || /[:\r\n]/.test(username) || username.startsWith('#')) {
    throw new PasswordFileError(
      'a user name is not empty, has no colon, and does not begin with #',
    );
  }
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  const at = lines.findIndex((line) => line.startsWith(`${username}:`));
  if (password === undefined) {
    if (at < 0) throw new PasswordFileError('there is no such user');
    lines.splice(at, 1);
  } else {
    const line = `${username}:${await hashPassword(password)}`;
    if (at < 0) lines.push(line);
    else lines[at] = line;
  }
  return lines.map((line) => `${line}\n`).join('');
}

/** Checks that run at once: each takes a thread of the pool and, for scrypt, 32 MiB. */
const CHECKS_AT_ONCE = 4;
/** Checks that may wait; beyond that a client is told to come back. */
const CHECKS_WAITING_MAX = 10_000;
/** Passwords that were right a moment ago are not worked out again: a fleet that reconnects is one storm. */
const KNOWN_MAX = 50_000;

/** Users of a password file. Replace them with `setUsers` when the file changes. */
export class PasswordFile implements Access {
  #users: ReadonlyMap<string, PasswordHash>;
  #revision = 0;
  #running = 0;
  readonly #waiting: (() => void)[] = [];
  /** Keyed digests of passwords that were right, by user name, the latest last. */
  readonly #known = new Map<string, string>();
  readonly #key = randomBytes(32);
  readonly #allowAnonymous: boolean;
  /** What a user that does not exist is compared with, so that the time of the answer does not tell. */
  #nobody: PasswordHash;

  /** `allowAnonymous`: a client that sends neither user name nor password may connect. */
  constructor(
    users: ReadonlyMap<string, PasswordHash>,
    { allowAnonymous }: { readonly allowAnonymous: boolean },
  ) {
    this.#users = users;
    this.#nobody = unmatchable(users);
    this.#allowAnonymous = allowAnonymous;
  }

  get revision(): number {
    return this.#revision;
  }

  /** From now on these users, with these passwords. */
  setUsers(users: ReadonlyMap<string, PasswordHash>): void {
    this.#users = users;
    this.#nobody = unmatchable(users);
    this.#known.clear();
    this.#revision += 1;
  }

  /**
   * Rejects with 0x86 what is wrong in any way, after the same work; 0x87 a client without a user name where anonymous
   * ones may not connect; 0x97 when too many wait for their answer.
   */
  async authenticate({
    username,
    password,
  }: Parameters<Access['authenticate']>[0]): Promise<AuthenticateResult> {
    if (username === undefined && password === undefined) {
      return this.#allowAnonymous ? accepted('') : rejected(ReasonCode.NotAuthorized);
    }
    if (username === undefined || password === undefined) {
      return rejected(ReasonCode.BadUserNameOrPassword);
    }
    const expected = this.#users.get(username);
    const digest = createHmac('sha256', this.#key).update(password).digest('base64');
    if (expected !== undefined && this.#known.get(username) === digest) return accepted(username);
    if (this.#waiting.length >= CHECKS_WAITING_MAX) return rejected(ReasonCode.QuotaExceeded);
    const isRight = await this.#check(expected ?? this.#nobody, password);
    // The file may have changed meanwhile.
    if (!isRight || expected === undefined || this.#users.get(username) !== expected) {
      return rejected(ReasonCode.BadUserNameOrPassword);
    }
    this.#remember(username, digest);
    return accepted(username);
  }

  enhanced(): undefined {
    return undefined;
  }

  authorize(): boolean {
    return true;
  }

  async #check(expected: PasswordHash, password: Uint8Array): Promise<boolean> {
    if (this.#running >= CHECKS_AT_ONCE) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running += 1;
    }
    try {
      return await verifyPassword(expected, password);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }

  #remember(username: string, digest: string): void {
    this.#known.delete(username);
    this.#known.set(username, digest);
    if (this.#known.size <= KNOWN_MAX) return;
    const [oldest] = this.#known.keys();
    this.#known.delete(oldest!);
  }
}

/** No password has this hash, and checking one costs what it costs for users of the file. */
function unmatchable(users: ReadonlyMap<string, PasswordHash>): PasswordHash {
  const [like] = users.values();
  const hash = randomBytes(64);
  return like === undefined
    ? { kind: 'sha512', salt: hash, hash }
    : { ...like, salt: randomBytes(like.salt.length), hash: hash.subarray(0, like.hash.length) };
}

function accepted(username: string): AuthenticateResult {
  return { outcome: 'accepted', principal: { username, unrestricted: true } };
}

function rejected(reasonCode: number): AuthenticateResult {
  return { outcome: 'rejected', reasonCode };
}

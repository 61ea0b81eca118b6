import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Hello } from './messages.ts';

/** Bytes of a nonce; shorter ones are refused. */
const NONCE_BYTES = 16;

/** Major and minor version of a node, as its peers compare it. */
export interface LinkVersion {
  readonly major: number;
  readonly minor: number;
}

/** The version `0.12.3` as `{ major: 0, minor: 12 }`. */
export function linkVersion(version: string): LinkVersion {
  const [major, minor] = version.split('.', 2).map(Number);
  if (!Number.isInteger(major) || !Number.isInteger(minor)) {
    throw new RangeError(`not a semantic version: ${version}`);
  }
  return { major: major!, minor: minor! };
}

/** A rolling upgrade goes from one minor version to the next; nothing else has to understand each other. */
export function interoperates(one: LinkVersion, other: LinkVersion): boolean {
  return one.major === other.major && Math.abs(one.minor - other.minor) <= 1;
}

export function makeNonce(): Uint8Array {
  return randomBytes(NONCE_BYTES);
}

/** Whether a Hello says everything it must. */
export function isComplete(hello: Hello): boolean {
  return (
    hello.sender.id !== '' &&
    hello.sender.incarnation !== '' &&
    hello.link > 0 &&
    hello.attempt > 0 &&
    hello.nonce.length >= NONCE_BYTES
  );
}

/**
 * Shows that one side of a handshake knows the secret, without showing the secret: an HMAC over the role, the
 * receiver's nonce and the Hello (which names both nodes, the stream, and the sender's nonce). Each nonce is fresh, so
 * an overheard proof fits no other handshake, and the role keeps one side's proof from being sent back as the other's.
 *
 * It protects the handshake and not what follows: without TLS, whoever can change packets between the nodes can change
 * frames. Empty without a secret.
 */
export function prove(
  role: 'sender' | 'receiver',
  secret: string | undefined,
  handshake: { readonly helloBytes: Uint8Array; readonly nonce: Uint8Array },
): Uint8Array {
  if (secret === undefined) return new Uint8Array(0);
  return createHmac('sha256', secret)
    .update(`shoal peer ${role}\n${handshake.nonce.length}\n`)
    .update(handshake.nonce)
    .update(handshake.helloBytes)
    .digest();
}

/** Whether `proof` is what `prove` returns, in a time that does not tell how much of it is right. */
export function isProof(proof: Uint8Array, ...expected: Parameters<typeof prove>): boolean {
  const right = prove(...expected);
  return proof.length === right.length && timingSafeEqual(proof, right);
}

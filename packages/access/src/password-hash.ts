import { createHash, pbkdf2, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';

/**
 * A password as a password file has it. Never the password: what it takes to check one.
 *
 * - `scrypt`: ours, `$scrypt$ln=15,r=8,p=1$<salt>$<hash>`, in the notation of the PHC string format
 * - `pbkdf2-sha512`: Mosquitto's, `$7$<iterations>$<salt>$<hash>`
 * - `sha512`: Mosquitto's before 2.0, `$6$<salt>$<hash>`: one round, weak; read so that a file can be taken over
 */
export type PasswordHash =
  | {
      readonly kind: 'scrypt';
      /** Binary logarithm of the cost. */
      readonly logCost: number;
      readonly blockSize: number;
      readonly parallelization: number;
      readonly salt: Buffer;
      readonly hash: Buffer;
    }
  | {
      readonly kind: 'pbkdf2-sha512';
      readonly iterations: number;
      readonly salt: Buffer;
      readonly hash: Buffer;
    }
  | { readonly kind: 'sha512'; readonly salt: Buffer; readonly hash: Buffer };

/** What OWASP recommends for scrypt with 32 MiB: a check takes some tens of milliseconds of a thread of the pool. */
const LOG_COST = 15;
const BLOCK_SIZE = 8;
const PARALLELIZATION = 3;
const SALT_BYTES = 16;
const HASH_BYTES = 32;

/** Bounds on what a file may ask for, in memory and in time per check. */
const LOG_COST_MAX = 20;
const BLOCK_SIZE_MAX = 32;
const PARALLELIZATION_MAX = 16;
const ITERATIONS_MAX = 10_000_000;

const SCRYPT =
  /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;
const PBKDF2 = /^\$7\$(\d{1,8})\$([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]+=*)$/;
const SHA512 = /^\$6\$([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]+=*)$/;

const pbkdf2Async = promisify(pbkdf2);

/** Hashes a password with scrypt and a salt of its own, for a line of a password file. */
export async function hashPassword(password: string | Uint8Array): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const hash = await deriveScrypt(password, salt, HASH_BYTES, {
    logCost: LOG_COST,
    blockSize: BLOCK_SIZE,
    parallelization: PARALLELIZATION,
  });
  const parameters = `ln=${String(LOG_COST)},r=${String(BLOCK_SIZE)},p=${String(PARALLELIZATION)}`;
  return `$scrypt$${parameters}$${base64(salt)}$${base64(hash)}`;
}

/** Reads a hash of one of the three kinds; `undefined` when it is none, or asks for more work than is sane. */
export function parsePasswordHash(text: string): PasswordHash | undefined {
  const own = SCRYPT.exec(text);
  if (own !== null) {
    const [logCost, blockSize, parallelization] = own.slice(1, 4).map(Number) as [
      number,
      number,
      number,
    ];
    const isSane =
      logCost >= 1 &&
      logCost <= LOG_COST_MAX &&
      blockSize >= 1 &&
      blockSize <= BLOCK_SIZE_MAX &&
      parallelization >= 1 &&
      parallelization <= PARALLELIZATION_MAX;
    const salt = Buffer.from(own[4]!, 'base64');
    const hash = Buffer.from(own[5]!, 'base64');
    return isSane && isLong(hash)
      ? { kind: 'scrypt', logCost, blockSize, parallelization, salt, hash }
      : undefined;
  }
  const mosquitto = PBKDF2.exec(text);
  if (mosquitto !== null) {
    const iterations = Number(mosquitto[1]);
    const salt = Buffer.from(mosquitto[2]!, 'base64');
    const hash = Buffer.from(mosquitto[3]!, 'base64');
    return iterations >= 1 && iterations <= ITERATIONS_MAX && isLong(hash)
      ? { kind: 'pbkdf2-sha512', iterations, salt, hash }
      : undefined;
  }
  const old = SHA512.exec(text);
  if (old === null) return undefined;
  const hash = Buffer.from(old[2]!, 'base64');
  if (hash.length !== 64) return undefined;
  return { kind: 'sha512', salt: Buffer.from(old[1]!, 'base64'), hash };
}

/** Whether `password` is the one that was hashed. Takes the same time whatever the answer. */
export async function verifyPassword(
  expected: PasswordHash,
  password: Uint8Array,
): Promise<boolean> {
  return timingSafeEqual(await derive(expected, password), expected.hash);
}

function derive(expected: PasswordHash, password: Uint8Array): Promise<Buffer> | Buffer {
  const { salt, hash } = expected;
  switch (expected.kind) {
    case 'scrypt':
      return deriveScrypt(password, salt, hash.length, expected);
    case 'pbkdf2-sha512':
      return pbkdf2Async(password, salt, expected.iterations, hash.length, 'sha512');
    case 'sha512':
      return createHash('sha512').update(password).update(salt).digest();
  }
}

function deriveScrypt(
  password: string | Uint8Array,
  salt: Buffer,
  bytes: number,
  cost: { readonly logCost: number; readonly blockSize: number; readonly parallelization: number },
): Promise<Buffer> {
  const options = {
    N: 2 ** cost.logCost,
    r: cost.blockSize,
    p: cost.parallelization,
    // The default of 32 MiB is just too little for the cost that we use.
    maxmem: 256 * 2 ** cost.logCost * cost.blockSize,
  };
  return new Promise((resolve, reject) => {
    scrypt(password, salt, bytes, options, (error, derived) => {
      if (error === null) resolve(derived);
      else reject(error);
    });
  });
}

/** Shorter hashes would let other passwords in by chance. */
function isLong(hash: Buffer): boolean {
  return hash.length >= 16 && hash.length <= 64;
}

function base64(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '');
}

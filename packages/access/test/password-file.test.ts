import { expect, test } from '@jest/globals';
import {
  PasswordFile,
  PasswordFileError,
  changePasswordFile,
  parsePasswordFile,
} from '../src/password-file.ts';
import { hashPassword, parsePasswordHash, verifyPassword } from '../src/password-hash.ts';
import { connect } from './connect.ts';

/** Made by mosquitto_passwd 2.0.11. */
const MOSQUITTO = `# users
alice:$7$101$fwBr+uplv3CpCADn$WECQnDWnBVzuisc14rYgYDEgBWrgKvvh/KsveyDmBztq4ho9IB3hy33KcQrkdD0/sZg3Rf+S192Z7bvGWHRWCw==

old:$6$3nIwqkm8l/PjOnMA$/WH6q0i7l5ptoVX5lzM9IOpiTF0pRNj42F49N/x1oKXGuBKEiDamQVElUiAqcube+HQzkcldsNRzdXnl5OmuwA==
`;

const bytes = (text: string) => new TextEncoder().encode(text);

async function outcome(
  file: PasswordFile,
  username?: string,
  password?: string,
): Promise<number | string> {
  const result = await file.authenticate(connect(username, password));
  return result.outcome === 'rejected' ? result.reasonCode : result.outcome;
}

test("Mosquitto's files are read as they are", async () => {
  const file = new PasswordFile(parsePasswordFile(MOSQUITTO), { allowAnonymous: false });
  expect(await outcome(file, 'alice', 'pässword')).toBe('accepted');
  expect(await outcome(file, 'old', 'legacy')).toBe('accepted');
  expect(await outcome(file, 'alice', 'legacy')).toBe(0x86);
});

test('a hash of our own lets in its password and no other', async () => {
  const text = await hashPassword('secret');
  expect(text).toMatch(/^\$scrypt\$ln=15,r=8,p=3\$/);
  expect(await hashPassword('secret')).not.toBe(text);
  const hash = parsePasswordHash(text)!;
  expect(await verifyPassword(hash, bytes('secret'))).toBe(true);
  expect(await verifyPassword(hash, bytes('secret '))).toBe(false);
  expect(await verifyPassword(hash, bytes(''))).toBe(false);
});

test.each([
  ['plain:password', 'line 1: not a hash'],
  ['# fine\nuser', 'line 2: not of the form'],
  [':$6$a$b', 'line 1: not of the form'],
  ['u:$scrypt$ln=30,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA', 'not a hash'],
  ['u:$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA', 'not a hash'],
  ['u:$7$99999999$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', 'not a hash'],
  [`${MOSQUITTO}${MOSQUITTO}`, 'line 6: this user is there twice'],
])('what is no password file is refused with the line: %j', (text, message) => {
  expect(() => parsePasswordFile(text)).toThrow(PasswordFileError);
  expect(() => parsePasswordFile(text)).toThrow(message);
});

test('users are added, changed and deleted, and the rest of the file stays', async () => {
  const added = await changePasswordFile(MOSQUITTO, 'bob', 'b1');
  const changed = await changePasswordFile(added, 'alice', 'a2');
  const deleted = await changePasswordFile(changed, 'old', undefined);
  expect(deleted.split('\n').map((line) => line.split(':')[0])).toEqual([
    '# users',
    'alice',
    '',
    'bob',
    '',
  ]);
  const file = new PasswordFile(parsePasswordFile(deleted), { allowAnonymous: false });
  expect(await outcome(file, 'alice', 'a2')).toBe('accepted');
  expect(await outcome(file, 'bob', 'b1')).toBe('accepted');
  expect(await outcome(file, 'old', 'legacy')).toBe(0x86);
  await expect(changePasswordFile(deleted, 'old', undefined)).rejects.toThrow('no such user');
  await expect(changePasswordFile(deleted, 'a:b', 'x')).rejects.toThrow(PasswordFileError);
  await expect(changePasswordFile(deleted, 'a\nb', 'x')).rejects.toThrow(PasswordFileError);
});

test('who sends half of the credentials or none is told so', async () => {
  const users = parsePasswordFile(MOSQUITTO);
  const closed = new PasswordFile(users, { allowAnonymous: false });
  expect(await outcome(closed)).toBe(0x87);
  expect(await outcome(closed, 'alice')).toBe(0x86);
  expect(await outcome(closed, undefined, 'pässword')).toBe(0x86);
  const open = new PasswordFile(users, { allowAnonymous: true });
  expect(await outcome(open)).toBe('accepted');
  expect(await outcome(open, 'nobody', 'x')).toBe(0x86);
});

test('a password that was right is not known any more when the file changes', async () => {
  const file = new PasswordFile(parsePasswordFile(MOSQUITTO), { allowAnonymous: false });
  expect(await outcome(file, 'old', 'legacy')).toBe('accepted');
  const { revision } = file;
  const during = outcome(file, 'alice', 'pässword');
  file.setUsers(parsePasswordFile(await changePasswordFile(MOSQUITTO, 'old', 'new')));
  expect(file.revision).toBeGreaterThan(revision);
  expect(await outcome(file, 'old', 'legacy')).toBe(0x86);
  expect(await outcome(file, 'old', 'new')).toBe('accepted');
  await during;
});

test('many checks at once are all answered', async () => {
  const file = new PasswordFile(parsePasswordFile(MOSQUITTO), { allowAnonymous: false });
  const passwords = Array.from({ length: 40 }, (_, index) => (index % 3 === 0 ? 'x' : 'legacy'));
  const outcomes = await Promise.all(passwords.map((password) => outcome(file, 'old', password)));
  expect(outcomes).toEqual(passwords.map((p) => (p === 'x' ? 0x86 : 'accepted')));
});

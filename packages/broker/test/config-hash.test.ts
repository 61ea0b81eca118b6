import { expect, test } from '@jest/globals';
import { configHash } from '../src/config/config-hash.ts';
import { parseConfig } from '../src/config/load-config.ts';

const users = (password: string) => ({ auth: { users: [{ username: 'ann', password }] } });

test('nodes that are configured alike have one hash, whatever their name', () => {
  const hash = configHash(parseConfig({ node: { id: 'n1' } }));
  expect(hash).toMatch(/^[0-9a-f]{12}$/);
  expect(configHash(parseConfig({ node: { id: 'n2' } }))).toBe(hash);
  expect(configHash(parseConfig({ sys: { intervalSeconds: 11 } }))).not.toBe(hash);
});

test('the hash says nothing about passwords', () => {
  expect(configHash(parseConfig(users('a')))).toBe(configHash(parseConfig(users('b'))));
});

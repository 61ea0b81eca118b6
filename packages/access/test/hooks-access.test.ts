import { expect, test } from '@jest/globals';
import { allowAll, hooksAccess, userList } from '@shoalmq/access';
import type {
  AuthenticateHook,
  AuthorizeHook,
  EnhancedClient,
  EnhancedExchange,
  EnhancedStepResult,
} from '@shoalmq/access';
import type { AuthorizeRequest } from '@shoalmq/core';
import { connect, facts } from './connect.ts';

const request: AuthorizeRequest = {
  principal: { username: 'ann', unrestricted: false },
  clientId: 'c1',
  action: 'publish',
  topic: 'a/b',
  qos: 1,
  retain: true,
};

test('the authenticate hook sees the client and its password', async () => {
  const seen: unknown[] = [];
  const access = hooksAccess({ authenticate: (client) => seen.push(client) > 0 }, allowAll());
  await access.authenticate(connect('ann', 'secret'), facts);
  expect(seen).toEqual([
    {
      clientId: 'c1',
      username: 'ann',
      password: Buffer.from('secret'),
      remoteAddress: '127.0.0.1',
      listener: 'mqtt',
      protocolVersion: 5,
    },
  ]);
});

const rejected = (reasonCode: number) => ({ outcome: 'rejected', reasonCode });
const accepted = (username: string) => ({
  outcome: 'accepted',
  principal: { username, unrestricted: true },
});

test.each<[string, AuthenticateHook, object]>([
  ['true', () => true, accepted('ann')],
  ['a promise of true', () => Promise.resolve(true), accepted('ann')],
  ['another user name', () => ({ accept: true, username: 'x' }), accepted('x')],
  ['accept', () => ({ accept: true }), accepted('ann')],
  ['false', () => false, rejected(0x87)],
  ['a reason code', () => ({ accept: false, reasonCode: 0x86 }), rejected(0x86)],
  ['a reason code of success', () => ({ accept: false, reasonCode: 0 }), rejected(0x87)],
  ['a rejected promise', () => Promise.reject(new Error('down')), rejected(0x87)],
  ['something else', () => 'yes' as never, rejected(0x87)],
  ['nothing', () => undefined as never, rejected(0x87)],
  ['an object that only looks kind', () => ({ accept: 'yes' }) as never, rejected(0x87)],
  [
    'an exception',
    () => {
      throw new Error('bug');
    },
    rejected(0x87),
  ],
])('authenticate: %s', async (_, authenticate, expected) => {
  const access = hooksAccess({ authenticate }, allowAll());
  expect(await access.authenticate(connect('ann', 'x'), facts)).toEqual(expected);
});

test.each<[string, AuthorizeHook, boolean]>([
  ['true', () => true, true],
  ['false', () => false, false],
  ['a promise of true', () => Promise.resolve(true), true],
  ['a promise of false', () => Promise.resolve(false), false],
  ['a rejected promise', () => Promise.reject(new Error('down')), false],
  ['something truthy', () => 'yes' as never, false],
  ['nothing', () => undefined as never, false],
  [
    'an exception',
    () => {
      throw new Error('bug');
    },
    false,
  ],
])('authorize: %s', async (_, authorize, expected) => {
  expect(await hooksAccess({ authorize }, allowAll()).authorize(request)).toBe(expected);
});

test('a boolean answer of authorize costs no promise', () => {
  expect(hooksAccess({ authorize: () => true }, allowAll()).authorize(request)).toBe(true);
});

test('the authorize hook sees who wants to do what', () => {
  const seen: unknown[] = [];
  void hooksAccess({ authorize: (r) => seen.push(r) > 0 }, allowAll()).authorize(request);
  expect(seen).toEqual([
    { clientId: 'c1', username: 'ann', action: 'publish', topic: 'a/b', qos: 1, retain: true },
  ]);
});

test('with an authorize hook nobody is unrestricted, whoever authenticated', async () => {
  const authorize = () => true;
  for (const access of [
    hooksAccess({ authorize }, allowAll()),
    hooksAccess({ authorize, authenticate: () => true }, allowAll()),
  ]) {
    expect(await access.authenticate(connect('ann', 'x'), facts)).toMatchObject({
      principal: { username: 'ann', unrestricted: false },
    });
  }
});

test('what has no hook is asked of the fallback', async () => {
  const fallback = userList([{ username: 'ann', password: 'x' }], { allowAnonymous: false });
  const access = hooksAccess({}, fallback);
  expect(await access.authenticate(connect('ann', 'x'), facts)).toEqual(accepted('ann'));
  expect(await access.authenticate(connect('ann', 'y'), facts)).toEqual(rejected(0x86));
  expect(access.authorize(request)).toBe(true);
});

test('errors of hooks are reported', async () => {
  const errors: unknown[] = [];
  const access = hooksAccess(
    {
      authenticate: () => Promise.reject(new Error('one')),
      authorize: () => Promise.reject(new Error('two')),
      onError: (error, hook) => errors.push([hook, String(error)]),
    },
    allowAll(),
  );
  await access.authenticate(connect(), facts);
  await access.authorize(request);
  expect(errors).toEqual([
    ['authenticate', 'Error: one'],
    ['authorize', 'Error: two'],
  ]);
});

const bytes = (text: string) => new TextEncoder().encode(text);

test.each<[string, EnhancedStepResult, object]>([
  ['accepted', { outcome: 'accepted' }, accepted('ann')],
  ['another user name', { outcome: 'accepted', username: 'x' }, accepted('x')],
  [
    'accepted with data',
    { outcome: 'accepted', data: bytes('s') },
    { ...accepted('ann'), authenticationData: bytes('s') },
  ],
  ['continue', { outcome: 'continue' }, { outcome: 'continue' }],
  [
    'continue with data',
    { outcome: 'continue', data: bytes('s') },
    { outcome: 'continue', authenticationData: bytes('s') },
  ],
  ['rejected', { outcome: 'rejected' }, rejected(0x87)],
  ['a reason code', { outcome: 'rejected', reasonCode: 0x86 }, rejected(0x86)],
  ['a reason code of success', { outcome: 'rejected', reasonCode: 0 }, rejected(0x87)],
  ['something else', true as never, rejected(0x87)],
  ['nothing', undefined as never, rejected(0x87)],
])('enhanced authentication: %s', async (_, result, expected) => {
  const enhancedAuthentication = () => ({ step: () => result });
  const access = hooksAccess({ enhancedAuthentication }, allowAll());
  const exchange = access.enhanced('M', connect('ann'), facts)!;
  expect(await exchange.step(undefined)).toEqual(expected);
});

test('the enhanced authentication hook sees the client, its method and its data', async () => {
  const seen: unknown[] = [];
  const enhancedAuthentication = (client: EnhancedClient): EnhancedExchange => {
    seen.push([client.method, client.username]);
    return {
      step: (data) => {
        seen.push(data);
        return { outcome: 'continue' };
      },
      abandon: () => seen.push('abandon'),
    };
  };
  const access = hooksAccess({ enhancedAuthentication }, allowAll());
  const exchange = access.enhanced('M', connect('ann'), facts)!;
  await exchange.step(bytes('one'));
  exchange.abandon();
  expect(seen).toEqual([['M', 'ann'], Buffer.from('one'), 'abandon']);
});

test('with an authorize hook enhanced authentication leaves nobody unrestricted', async () => {
  const enhancedAuthentication = (): EnhancedExchange => ({
    step: () => ({ outcome: 'accepted' }),
  });
  const access = hooksAccess({ enhancedAuthentication, authorize: () => true }, allowAll());
  expect(await access.enhanced('M', connect('ann'), facts)!.step(undefined)).toMatchObject({
    principal: { unrestricted: false },
  });
});

test('a method that the enhanced authentication hook does not support has no exchange', () => {
  const access = hooksAccess({ enhancedAuthentication: () => undefined }, allowAll());
  expect(access.enhanced('M', connect(), facts)).toBeUndefined();
});

test('errors of an enhanced authentication are reported and refuse the client', async () => {
  const errors: unknown[] = [];
  const fail = (text: string) => () => {
    throw new Error(text);
  };
  const access = hooksAccess(
    {
      enhancedAuthentication: () => ({ step: fail('step'), abandon: fail('abandon') }),
      onError: (error, hook) => errors.push([hook, String(error)]),
    },
    allowAll(),
  );
  const exchange = access.enhanced('M', connect(), facts)!;
  expect(await exchange.step(undefined)).toEqual(rejected(0x87));
  exchange.abandon();
  expect(errors).toEqual([
    ['enhancedAuthentication', 'Error: step'],
    ['enhancedAuthentication', 'Error: abandon'],
  ]);
});

import { expect, test } from '@jest/globals';
import { allowAll, userList } from '@shoalmq/access';
import { connect, facts } from './connect.ts';

const users = [
  { username: 'ann', password: '0123' },
  { username: 'bob', password: '' },
];
const closed = userList(users, { allowAnonymous: false });

test('the right password gets in, unrestricted', async () => {
  expect(await closed.authenticate(connect('ann', '0123'), facts)).toEqual({
    outcome: 'accepted',
    principal: { username: 'ann', unrestricted: true },
  });
  expect(await closed.authenticate(connect('bob', ''), facts)).toMatchObject({
    outcome: 'accepted',
  });
});

test.each([
  ['a wrong password', 'ann', '123'],
  ['a longer password', 'ann', '0123x'],
  ['no password', 'ann', undefined],
  ['no password where it is empty', 'bob', undefined],
  ['an unknown user', 'eve', '0123'],
  ['an unknown user with an empty password', 'eve', ''],
  ['a name every object has', 'constructor', ''],
  ['a password without a user name', undefined, '0123'],
])('%s is rejected with 0x86', async (_, username, password) => {
  expect(await closed.authenticate(connect(username, password), facts)).toEqual({
    outcome: 'rejected',
    reasonCode: 0x86,
  });
});

test('a client without credentials gets in only when anonymous access is allowed', async () => {
  expect(await closed.authenticate(connect(), facts)).toEqual({
    outcome: 'rejected',
    reasonCode: 0x87,
  });
  const open = userList(users, { allowAnonymous: true });
  expect(await open.authenticate(connect(), facts)).toMatchObject({
    outcome: 'accepted',
    principal: { username: '' },
  });
  expect(await open.authenticate(connect('ann', 'wrong'), facts)).toMatchObject({
    outcome: 'rejected',
  });
});

test('two users of one name are refused', () => {
  expect(() => userList([...users, users[0]!], { allowAnonymous: false })).toThrow(TypeError);
});

test('enhanced authentication is not supported', () => {
  expect(closed.enhanced('SCRAM-SHA-1', connect(), facts)).toBeUndefined();
  expect(allowAll().enhanced('SCRAM-SHA-1', connect(), facts)).toBeUndefined();
});

test('allowAll accepts anybody under the name they give', async () => {
  expect(await allowAll().authenticate(connect('ann', 'whatever'), facts)).toEqual({
    outcome: 'accepted',
    principal: { username: 'ann', unrestricted: true },
  });
  expect(await allowAll().authenticate(connect(), facts)).toMatchObject({
    principal: { username: '' },
  });
});

import { expect, test } from '@jest/globals';
import { Acl } from '../src/acl.ts';
import type { AclRule, AclSubject } from '../src/acl.ts';
import { AclFileError, parseMosquittoAcl } from '../src/mosquitto-acl.ts';

const ALICE: AclSubject = {
  clientId: 'phone',
  username: 'alice',
  groups: ['staff'],
  remoteAddress: '10.0.0.7',
  listener: 'mqtts',
};
const ANONYMOUS = { ...ALICE, username: '' };

interface Options {
  readonly subject?: AclSubject;
  readonly qos?: 0 | 1 | 2;
  readonly retain?: boolean;
}

type Action = 'publish' | 'subscribe' | 'receive';

function may(
  rules: readonly AclRule[] | string,
  action: Action,
  topic: string,
  { subject = ALICE, qos = 0, retain = false }: Options = {},
): boolean {
  const acl = new Acl(typeof rules === 'string' ? parseMosquittoAcl(rules) : rules);
  return acl.isAllowed(subject, { action, topic, qos, retain });
}

const EXAMPLE = `
# Anonymous clients
topic read $SYS/#

user alice
topic foo/bar
topic write only/write
topic read only/read/+
topic deny foo/secret
topic readwrite read

pattern write sensors/%u/%c/state
`;

test.each<[Action, string, boolean, boolean]>([
  ['subscribe', '$SYS/broker/uptime', false, true],
  ['publish', '$SYS/broker/uptime', false, false],
  ['publish', 'foo/bar', true, false],
  ['subscribe', 'foo/bar', true, false],
  ['publish', 'only/write', true, false],
  ['subscribe', 'only/write', false, false],
  ['receive', 'only/read/1', true, false],
  ['subscribe', 'only/read/+', true, false],
  ['subscribe', 'only/read/#', false, false],
  ['publish', 'only/read/1', false, false],
  ['publish', 'read', true, false],
  ['publish', 'sensors/alice/phone/state', true, false],
  ['publish', 'sensors/bob/phone/state', false, false],
  ['publish', 'sensors/%u/%c/state', false, false],
])("a file of Mosquitto's: %s %s: alice %s, anonymous %s", (action, topic, alice, anonymous) => {
  expect(may(EXAMPLE, action, topic)).toBe(alice);
  expect(may(EXAMPLE, action, topic, { subject: ANONYMOUS })).toBe(anonymous);
});

test.each([
  ['topic', 'line 1: the topic filter is empty'],
  ['topic a/#/b', 'line 1: # is not'],
  ['user', 'line 1: a user needs a name'],
  ['user x\ntopics read a', 'line 2: neither user, topic nor pattern'],
])('a line that is no rule is refused: %j', (text, message) => {
  expect(() => parseMosquittoAcl(text)).toThrow(AclFileError);
  expect(() => parseMosquittoAcl(text)).toThrow(message);
});

test('nothing is allowed without a rule', () => {
  expect(may([], 'publish', 'a')).toBe(false);
  expect(may('', 'subscribe', '#')).toBe(false);
});

test('a filter that is wider than the grant is refused, also where several grants together would cover it', () => {
  const rules = 'user alice\ntopic read a/+/b\ntopic read a/+/c/#';
  expect(may(rules, 'subscribe', 'a/x/b')).toBe(true);
  expect(may(rules, 'subscribe', 'a/+/c/+')).toBe(true);
  expect(may(rules, 'subscribe', 'a/+/+')).toBe(false);
  expect(may(rules, 'subscribe', 'a/#')).toBe(false);
  expect(may(rules, 'subscribe', '#')).toBe(false);
});

test('what is denied is not received through a wider filter, and # does not mean $SYS', () => {
  const rules = 'user alice\ntopic #\ntopic deny a/secret/#';
  expect(may(rules, 'subscribe', 'b/#')).toBe(true);
  expect(may(rules, 'subscribe', 'a/+')).toBe(false);
  expect(may(rules, 'subscribe', '#')).toBe(false);
  expect(may(rules, 'receive', 'a/secret/x')).toBe(false);
  expect(may(rules, 'subscribe', '$SYS/#')).toBe(false);
  expect(may(rules, 'publish', '$SYS/x')).toBe(false);
});

test.each(['+', '#', 'a/b', '', '/', 'x/#'])(
  'a client id or user name that is not a level is no pattern: %j (CVE-2017-7650)',
  (name) => {
    const rules = 'pattern read dev/%c/#\npattern read user/%u/#';
    const subject = { ...ALICE, clientId: name, username: name };
    for (const topic of ['dev/other/x', `dev/${name}/x`, 'user/other/x', `user/${name}/x`]) {
      expect(may(rules, 'receive', topic, { subject })).toBe(false);
    }
    for (const filter of ['dev/#', 'dev/+/#', 'user/+/#']) {
      expect(may(rules, 'subscribe', filter, { subject })).toBe(false);
    }
    // A rule that takes something away from such a client takes all that it could mean.
    const without: AclRule[] = [
      { effect: 'allow', actions: ['subscribe'], topic: 'dev/#' },
      { effect: 'deny', actions: ['subscribe'], topic: 'dev/%c/x', isTemplate: true },
    ];
    expect(may(without, 'receive', 'dev/other/x', { subject })).toBe(false);
  },
);

test('names with special characters of other languages stand for themselves', () => {
  const rules = 'pattern read %c/%u/state';
  for (const name of ['a.*b', '$1', '%u', '%c', '$&', '(x', '}{']) {
    const subject = { ...ALICE, clientId: `c${name}`, username: name };
    expect(may(rules, 'receive', `c${name}/${name}/state`, { subject })).toBe(true);
    expect(may(rules, 'receive', `c${name}/alice/state`, { subject })).toBe(false);
  }
});

test('a client id cannot open the topics of the server', () => {
  const subject = { ...ALICE, clientId: '$SYS' };
  expect(may('pattern readwrite %c/#', 'publish', '$SYS/x', { subject })).toBe(false);
  expect(may('pattern readwrite %c/#', 'subscribe', '$SYS/#', { subject })).toBe(false);
});

test('conditions: group, client id, listener, address, QoS, RETAIN', () => {
  const rule = (more: Partial<AclRule>): AclRule[] => [
    { effect: 'allow', actions: ['publish', 'subscribe'], topic: 'a/#', ...more },
  ];
  expect(may(rule({ group: 'staff' }), 'publish', 'a/b')).toBe(true);
  expect(may(rule({ group: 'guests' }), 'publish', 'a/b')).toBe(false);
  expect(may(rule({ clientId: 'phone' }), 'publish', 'a/b')).toBe(true);
  expect(may(rule({ clientId: 'tablet' }), 'publish', 'a/b')).toBe(false);
  expect(may(rule({ listener: 'ws' }), 'publish', 'a/b')).toBe(false);
  const inside = (address: string) => address.startsWith('10.');
  expect(may(rule({ address: inside }), 'publish', 'a/b')).toBe(true);
  const subject = { ...ALICE, remoteAddress: '192.0.2.1' };
  expect(may(rule({ address: inside }), 'publish', 'a/b', { subject })).toBe(false);
  expect(may(rule({ qos: 1 }), 'publish', 'a/b', { qos: 1 })).toBe(true);
  expect(may(rule({ qos: 1 }), 'publish', 'a/b', { qos: 2 })).toBe(false);
  expect(may(rule({ qos: 0 }), 'receive', 'a/b', { qos: 2 })).toBe(true);
  expect(may(rule({ retain: false }), 'publish', 'a/b', { retain: true })).toBe(false);
  expect(may(rule({ retain: false }), 'publish', 'a/b')).toBe(true);
  expect(may(rule({ retain: true }), 'subscribe', 'a/b')).toBe(true);
});

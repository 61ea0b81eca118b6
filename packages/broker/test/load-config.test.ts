import { describe, expect, test } from '@jest/globals';
import { DEFAULT_LIMITS } from '@shoalmq/core';
import { ConfigError } from '../src/config/config-error.ts';
import { allowsAnonymous, isLoopback, loadConfig, parseConfig } from '../src/config/load-config.ts';
import { redact } from '../src/config/redact.ts';

interface Sources {
  argv?: string[];
  env?: Record<string, string>;
  yaml?: string;
}

function load({ argv = [], env = {}, yaml }: Sources) {
  const config = yaml === undefined ? [] : ['--config', '/etc/shoal/shoal.yaml'];
  return loadConfig({
    argv: [...config, ...argv],
    env,
    readFile: (path) => {
      if (path === '/etc/shoal/shoal.yaml' && yaml !== undefined) return yaml;
      throw Object.assign(new Error(`no such file: ${path}`), { code: 'ENOENT' });
    },
  });
}

function problemsOf(sources: Sources): readonly string[] {
  try {
    load(sources);
  } catch (error) {
    return (error as ConfigError).problems;
  }
  return [];
}

test('without any source everything has its default', () => {
  expect(load({})).toEqual({
    node: { id: '' },
    mqtt: { host: '127.0.0.1', port: 1883 },
    http: { host: '127.0.0.1', port: 9883, remoteAdmin: false },
    log: { level: 'info', format: 'auto' },
    auth: { users: [] },
    shared: { strategy: 'round-robin' },
    cluster: {
      ...{ redis: '', peerHost: '127.0.0.1', peerPort: 7883, peerAddress: '', secret: '' },
      ...{ peerTlsCert: '', peerTlsKey: '', peerTlsCa: '', peerTlsIdentity: 'cluster' },
      ...{ durability: 'primary', replicas: 1, keyPrefix: 'shoal:' },
      ...{ redisTlsCa: '', redisTlsCert: '', redisTlsKey: '' },
    },
    drain: {
      balancerDelaySeconds: 5,
      connectionsPerSecond: 500,
      maxSeconds: 60,
      willGraceSeconds: 30,
      serverReference: '',
    },
    sys: { intervalSeconds: 10 },
    limits: DEFAULT_LIMITS,
  });
});

test('every limit of the core is a setting, in the order and with the default of the core', () => {
  expect(Object.entries(load({}).limits)).toEqual(Object.entries(DEFAULT_LIMITS));
});

test('the command line wins over the environment, which wins over the file', () => {
  const yaml = 'mqtt:\n  port: 1\n  host: localhost\nhttp:\n  port: 2\nlog: {level: debug}\n';
  const env = { SHOAL_MQTT__PORT: '3', SHOAL_HTTP__PORT: '4' };
  const config = load({ yaml, env, argv: ['--port', '5'] });
  expect(config.mqtt).toEqual({ host: 'localhost', port: 5 });
  expect(config.http.port).toBe(4);
  expect(config.log.level).toBe('debug');
});

test('--set wins over the short flags, and the last one wins', () => {
  const argv = ['--set', 'mqtt.port=7', '--port', '5', '--set', 'mqtt.port=8'];
  expect(load({ argv }).mqtt.port).toBe(8);
});

test('every flag sets its setting', () => {
  const argv = ['--port=1', '--host=0.0.0.0', '--http-port=0', '--node-id=n1', '--log-level=warn'];
  const config = load({ argv: [...argv, '--allow-anonymous'] });
  expect(config.mqtt).toEqual({ host: '0.0.0.0', port: 1, allowAnonymous: true });
  expect([config.http.port, config.node.id, config.log.level]).toEqual([0, 'n1', 'warn']);
});

test('every flag of the cluster sets its setting', () => {
  const { cluster } = load({
    argv: [
      ...['--redis=rediss://h', '--peer-host=10.0.0.1', '--peer-port=1', '--durability=replicated'],
      ...['--replicas=2', '--peer-tls-cert=c', '--peer-tls-key=k', '--peer-tls-ca=a'],
    ],
  });
  expect(cluster).toMatchObject({
    ...{ redis: 'rediss://h', peerHost: '10.0.0.1', peerPort: 1, durability: 'replicated' },
    ...{ replicas: 2, peerTlsCert: 'c', peerTlsKey: 'k', peerTlsCa: 'a' },
  });
});

test.each<[string[], string]>([
  [
    ['--peer-tls-ca=a', '--peer-tls-cert=c'],
    'cluster.peerTlsKey: must be set, because cluster.peerTlsCert is',
  ],
  [
    ['--set', 'cluster.redisTlsCert=c', '--redis=rediss://h'],
    'cluster.redisTlsKey: must be set together with cluster.redisTlsCert',
  ],
  [
    ['--set', 'cluster.redisTlsCa=c', '--redis=redis://h'],
    'cluster.redis: must begin with rediss, because cluster.redisTls... is set',
  ],
  [
    ['--peer-tls-ca=a', '--peer-tls-cert=c', '--peer-tls-key=k'].concat(
      ...['--set', 'cluster.peerTlsIdentity=node'],
    ),
    'node.id: must be set, because cluster.peerTlsIdentity is node',
  ],
  [
    ['--durability=replicated'],
    'cluster.redis: must be set, because cluster.durability is replicated',
  ],
  [
    ['--set', 'cluster.keyPrefix={a}'],
    'cluster.keyPrefix: must have 1 to 64 characters, without braces and spaces (--set cluster.keyPrefix)',
  ],
])('settings of the cluster that do not go together: %j', (argv, problem) => {
  expect(problemsOf({ argv })).toEqual([problem]);
});

test('SHOAL_CONFIG names the file when --config does not', () => {
  const readFile = (path: string) => `node: { id: ${path} }`;
  expect(loadConfig({ argv: [], env: { SHOAL_CONFIG: 'a' }, readFile }).node.id).toBe('a');
  const argv = ['--config', 'b'];
  expect(loadConfig({ argv, env: { SHOAL_CONFIG: 'a' }, readFile }).node.id).toBe('b');
});

describe('text stays text', () => {
  const users = [{ username: '007', password: '0123' }];

  test('in the file', () => {
    const yaml = 'auth:\n  users:\n    - { username: 007, password: 0123 }\nnode: { id: 1e3 }\n';
    const config = load({ yaml });
    expect(config.auth.users).toEqual(users);
    expect(config.node.id).toBe('1e3');
    expect(load({ yaml: 'node: { id: true }' }).node.id).toBe('true');
  });

  test('in the environment and on the command line', () => {
    const json = JSON.stringify(users);
    expect(load({ env: { SHOAL_AUTH__USERS: json } }).auth.users).toEqual(users);
    expect(load({ argv: ['--set', `auth.users=${json}`] }).auth.users).toEqual(users);
    expect(load({ env: { SHOAL_NODE__ID: '0123' } }).node.id).toBe('0123');
  });

  test('and becomes a number only where the schema wants one, in decimal', () => {
    expect(load({ env: { SHOAL_MQTT__PORT: '01884' } }).mqtt.port).toBe(1884);
    for (const value of ['0x10', '1e3', '', ' 1', '1.5', 'Infinity']) {
      expect(problemsOf({ env: { SHOAL_MQTT__PORT: value } })).toEqual([
        'mqtt.port: must be an integer from 0 to 65535 (SHOAL_MQTT__PORT)',
      ]);
    }
  });
});

test('an empty section or setting of a mapping is not set', () => {
  expect(load({ yaml: 'mqtt:\n  # port: 1\nauth:\n  users:\n' })).toEqual(load({}));
  expect(load({ yaml: '' })).toEqual(load({}));
  expect(load({ yaml: '# nothing\n' })).toEqual(load({}));
});

test('all problems are listed at once, by path, with their source and without values', () => {
  const problems = problemsOf({
    yaml: 'mqtt:\n  prot: 1\n  allowAnonymous: hunter2\nhttp: [hunter2]\nauth:\n  users:\n    - username: hunter2\n    - password: [hunter2]\n',
    env: { SHOAL_MQTT__PRT: 'hunter2', SHOAL_PORT: 'hunter2', SHOAL_LOG__LEVEL: 'hunter2' },
    argv: ['--port', '70000', '--set', 'a.b=hunter2', '--set', 'hunter2', '--set', 'mqtt=hunter2'],
  });
  expect([...problems].sort()).toEqual([
    '--set: must be path=value, as in mqtt.port=1884',
    'SHOAL_MQTT__PRT: unknown setting (environment)',
    'SHOAL_PORT: unknown setting (environment)',
    'a.b: unknown setting (--set)',
    'auth.users[0].password: is missing (shoal.yaml)',
    'auth.users[1].password: must be a string (shoal.yaml)',
    'auth.users[1].username: is missing (shoal.yaml)',
    'http: must be a mapping (shoal.yaml)',
    'log.level: must be one of fatal, error, warn, info, debug, trace, silent (SHOAL_LOG__LEVEL)',
    'mqtt.allowAnonymous: must be true or false (shoal.yaml)',
    'mqtt.port: must be an integer from 0 to 65535 (--port)',
    'mqtt.prot: unknown setting (shoal.yaml)',
    'mqtt: unknown setting (--set)',
  ]);
});

test.each([
  ['__proto__: { x: 1 }', '__proto__: unknown setting (shoal.yaml)'],
  ['mqtt: { __proto__: { x: 1 } }', 'mqtt.__proto__: unknown setting (shoal.yaml)'],
  ['- a', 'shoal.yaml: must be a mapping of sections'],
  ['text', 'shoal.yaml: must be a mapping of sections'],
  ['mqtt: 5', 'mqtt: must be a mapping (shoal.yaml)'],
  [
    'node: { id: "a b" }',
    'node.id: may contain letters, digits, ".", "_" and "-" only (shoal.yaml)',
  ],
  ['mqtt: { host: "" }', 'mqtt.host: must not be empty (shoal.yaml)'],
  [
    'auth: { users: [{ username: a, password: x }, { username: a, password: y }] }',
    'auth.users: names a user twice (shoal.yaml)',
  ],
  [
    'mqtt: { port: 1 }\nmqtt: { port: 2 }',
    'shoal.yaml: Map keys must be unique at line 2, column 1',
  ],
])('a file with %j is refused', (yaml, problem) => {
  expect(problemsOf({ yaml })).toEqual([problem]);
});

test('a file that is no YAML is refused without quoting it', () => {
  const problems = problemsOf({ yaml: 'auth:\n  users: [{ password: hunter2\n' });
  expect(problems.length).toBeGreaterThan(0);
  expect(problems.join()).not.toContain('hunter2');
  expect(problems.join()).toContain('shoal.yaml: ');
});

test('aliases cannot make a small file large', () => {
  const levels = Array.from({ length: 20 }, (_, i) => `l${i + 1}: &l${i + 1} [*l${i}, *l${i}]`);
  expect(problemsOf({ yaml: ['l0: &l0 x', ...levels].join('\n') })).toEqual([
    'shoal.yaml: too many aliases',
  ]);
});

test('a file that cannot be read is one problem beside the others', () => {
  expect(problemsOf({ argv: ['--config', '/no/such.yaml', '--port', 'x'] })).toEqual([
    '/no/such.yaml: cannot be read (ENOENT)',
    'mqtt.port: must be an integer from 0 to 65535 (--port)',
  ]);
});

test('an unknown flag is an error of one line', () => {
  expect(problemsOf({ argv: ['--prot', '5'] })).toEqual(["Unknown option '--prot'"]);
  expect(problemsOf({ argv: ['--port'] })).toEqual(["Option '--port <value>' argument missing"]);
});

test('the variables that Kubernetes sets for a Service named shoal are not settings', () => {
  const env = {
    SHOAL_SERVICE_HOST: '10.0.0.1',
    SHOAL_SERVICE_PORT: '1883',
    SHOAL_SERVICE_PORT_MQTT: '1883',
    SHOAL_PORT: 'tcp://10.0.0.1:1883',
    SHOAL_PORT_1883_TCP: 'tcp://10.0.0.1:1883',
    SHOAL_PORT_1883_TCP_ADDR: '10.0.0.1',
    SHOAL_HEADLESS_SERVICE_HOST: '10.0.0.2',
    SHOAL_HEADLESS_PORT: 'tcp://10.0.0.2:1883',
  };
  expect(load({ env })).toEqual(load({}));
});

describe('anonymous access', () => {
  const refusal =
    'mqtt.allowAnonymous: must be set (--allow-anonymous) to let anybody connect through mqtt.host, which is not a loopback address; or give auth.users';

  test.each(['0.0.0.0', '::', '192.168.1.5', 'example.org', '127.example.org'])(
    'listening on %s needs an explicit setting',
    (host) => {
      expect(problemsOf({ argv: ['--host', host] })).toEqual([refusal]);
      expect(load({ argv: ['--host', host, '--allow-anonymous'] }).mqtt.host).toBe(host);
      const config = load({ argv: ['--host', host, '--set', 'mqtt.allowAnonymous=false'] });
      expect(allowsAnonymous(config)).toBe(false);
    },
  );

  test.each(['127.0.0.1', '127.8.9.10', '::1', 'localhost', '::ffff:127.0.0.1'])(
    'on %s it is allowed',
    (host) => {
      expect(isLoopback(host)).toBe(true);
      expect(allowsAnonymous(load({ argv: ['--host', host] }))).toBe(true);
    },
  );

  test('with users it has to be allowed, wherever the broker listens', () => {
    const users = [{ username: 'ann', password: 'x' }];
    expect(allowsAnonymous(parseConfig({ auth: { users } }))).toBe(false);
    expect(allowsAnonymous(parseConfig({ auth: { users }, mqtt: { host: '::' } }))).toBe(false);
    expect(allowsAnonymous(parseConfig({ auth: { users }, mqtt: { allowAnonymous: true } }))).toBe(
      true,
    );
  });

  test('a program that authenticates by itself may listen anywhere', () => {
    expect(() => parseConfig({ mqtt: { host: '::' } })).toThrow(ConfigError);
    expect(parseConfig({ mqtt: { host: '::' } }, { authenticated: true }).mqtt.host).toBe('::');
  });
});

test('an object is not coerced', () => {
  expect(() => parseConfig({ mqtt: { port: '1883' as never } })).toThrow(
    'mqtt.port: must be an integer from 0 to 65535',
  );
});

test('redact hides passwords and nothing else', () => {
  const config = load({
    yaml: 'auth: { users: [{ username: ann, password: hunter2 }] }\nlog: { level: debug }\n',
  });
  expect(redact(config)).toEqual({
    ...config,
    auth: { users: [{ username: 'ann', password: '[redacted]' }] },
  });
  expect(config.auth.users[0]?.password).toBe('hunter2');
});

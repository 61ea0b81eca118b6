import { isIPv4 } from 'node:net';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { parseDocument } from 'yaml';
import type { z } from 'zod';
import { ConfigError } from './config-error.ts';
import { configSchema } from './schema.ts';
import type { Config, ConfigInput } from './schema.ts';
import { coerce, environmentName, sections } from './setting.ts';
import type { Setting } from './setting.ts';

export interface ConfigSources {
  /** Command line after `shoal start`. */
  readonly argv: readonly string[];
  /** Only names that begin with `SHOAL_` are looked at. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Returns the text of a file, or throws what Node.js throws. */
  readonly readFile: (path: string) => string;
}

/** Flags of `shoal start` that stand for a setting. */
export const SETTING_FLAGS = {
  port: 'mqtt.port',
  host: 'mqtt.host',
  'http-port': 'http.port',
  'node-id': 'node.id',
  redis: 'cluster.redis',
  'peer-host': 'cluster.peerHost',
  'peer-port': 'cluster.peerPort',
  'peer-tls-cert': 'cluster.peerTlsCert',
  'peer-tls-key': 'cluster.peerTlsKey',
  'peer-tls-ca': 'cluster.peerTlsCa',
  durability: 'cluster.durability',
  replicas: 'cluster.replicas',
  'log-level': 'log.level',
  'allow-anonymous': 'mqtt.allowAnonymous',
} as const;

/** Kubernetes puts these into every container that runs beside a Service named `shoal`; they are not ours. */
const SERVICE_VARIABLE =
  /^SHOAL(_[A-Z0-9]+)*_(SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/;
/** Theirs with a URL; a number there is somebody who meant `SHOAL_MQTT__PORT`. */
const SERVICE_PORT = /^SHOAL(_[A-Z0-9]+)*_PORT$/;

/**
 * Puts the configuration together: defaults, then the YAML file (`--config`, or `SHOAL_CONFIG`), then environment,
 * then command line; the later wins, setting by setting, and a list replaces a list.
 *
 * @throws ConfigError with every problem at once.
 */
export function loadConfig({ argv, env, readFile }: ConfigSources): Config {
  const document = new LayeredDocument();
  const flags = parseFlags(argv);
  const file = flags.config ?? env['SHOAL_CONFIG'];
  if (file !== undefined) document.addFile(file, readFile);
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined) document.addEnvironment(name, value);
  }
  for (const [flag, path] of Object.entries(SETTING_FLAGS)) {
    const value = flags.settings[flag];
    if (value !== undefined) document.addText(path, String(value), `--${flag}`);
  }
  for (const assignment of flags.set) {
    const equals = assignment.indexOf('=');
    if (equals === -1) document.problems.push('--set: must be path=value, as in mqtt.port=1884');
    else {
      const path = assignment.slice(0, equals);
      document.addText(path, assignment.slice(equals + 1), `--set ${path}`);
    }
  }
  return document.finish();
}

/**
 * Checks a configuration file alone, as `shoal config check` does.
 *
 * @throws ConfigError with every problem at once.
 */
export function checkConfigFile(path: string, readFile: ConfigSources['readFile']): Config {
  const document = new LayeredDocument();
  document.addFile(path, readFile);
  return document.finish();
}

/**
 * Checks and completes a configuration given as an object, as an embedding program does. `authenticated`: the
 * program decides itself who may connect, so listening everywhere needs no further setting.
 *
 * @throws ConfigError with every problem at once.
 */
export function parseConfig(input: ConfigInput, { authenticated = false } = {}): Config {
  const result = configSchema.safeParse(input);
  if (!result.success) throw new ConfigError(problems(result.error.issues, () => undefined));
  const anonymous = authenticated ? undefined : anonymousProblem(result.data);
  const found = [...(anonymous === undefined ? [] : [anonymous]), ...clusterProblems(result.data)];
  if (found.length > 0) throw new ConfigError(found);
  return result.data;
}

/** Whether clients without user name and password may connect. */
export function allowsAnonymous({ mqtt, auth }: Pick<Config, 'mqtt' | 'auth'>): boolean {
  return mqtt.allowAnonymous ?? (auth.users.length === 0 && isLoopback(mqtt.host));
}

/** Whether only this machine can reach an address. A name is not looked up: all but `localhost` count as "no". */
export function isLoopback(host: string): boolean {
  const address = host.replace(/^::ffff:/i, '');
  return host === 'localhost' || host === '::1' || (isIPv4(address) && address.startsWith('127.'));
}

function anonymousProblem({ mqtt, auth }: Pick<Config, 'mqtt' | 'auth'>): string | undefined {
  if (mqtt.allowAnonymous !== undefined || auth.users.length > 0 || isLoopback(mqtt.host)) {
    return undefined;
  }
  return 'mqtt.allowAnonymous: must be set (--allow-anonymous) to let anybody connect through mqtt.host, which is not a loopback address; or give auth.users';
}

/** Settings of the cluster that do not go together. */
function clusterProblems({ cluster, node }: Pick<Config, 'cluster' | 'node'>): string[] {
  const { redis, peerHost, secret, durability } = cluster;
  const found: string[] = [];
  const peerTls = ['peerTlsCert', 'peerTlsKey', 'peerTlsCa'] as const;
  const missing = peerTls.filter((key) => cluster[key] === '');
  if (missing.length > 0 && missing.length < peerTls.length) {
    const others = peerTls.filter((key) => !missing.includes(key));
    for (const key of missing) {
      found.push(`cluster.${key}: must be set, because cluster.${others[0]!} is`);
    }
  }
  if ((cluster.redisTlsCert === '') !== (cluster.redisTlsKey === '')) {
    found.push('cluster.redisTlsKey: must be set together with cluster.redisTlsCert');
  }
  if (cluster.peerTlsIdentity === 'node' && cluster.peerTlsCert !== '' && node.id === '') {
    found.push('node.id: must be set, because cluster.peerTlsIdentity is node');
  }
  const redisTls = `${cluster.redisTlsCa}${cluster.redisTlsCert}${cluster.redisTlsKey}` !== '';
  if (redisTls && !redis.startsWith('rediss')) {
    found.push('cluster.redis: must begin with rediss, because cluster.redisTls... is set');
  }
  if (durability === 'replicated' && redis === '') {
    found.push('cluster.redis: must be set, because cluster.durability is replicated');
  }
  // Whoever gets in as a node sees and sends everything.
  if (redis !== '' && secret === '' && cluster.peerTlsCa === '' && !isLoopback(peerHost)) {
    found.push('cluster.secret: must be set, because cluster.peerHost is not a loopback address');
  }
  return found;
}

interface Flags {
  readonly config: string | undefined;
  readonly settings: Readonly<Record<string, string | boolean | undefined>>;
  readonly set: readonly string[];
}

function parseFlags(argv: readonly string[]): Flags {
  try {
    const { values } = parseArgs({
      args: [...argv],
      strict: true,
      allowPositionals: false,
      options: {
        config: { type: 'string' },
        set: { type: 'string', multiple: true, default: [] },
        port: { type: 'string' },
        host: { type: 'string' },
        'http-port': { type: 'string' },
        'node-id': { type: 'string' },
        redis: { type: 'string' },
        'peer-host': { type: 'string' },
        'peer-port': { type: 'string' },
        'peer-tls-cert': { type: 'string' },
        'peer-tls-key': { type: 'string' },
        'peer-tls-ca': { type: 'string' },
        durability: { type: 'string' },
        replicas: { type: 'string' },
        'log-level': { type: 'string' },
        'allow-anonymous': { type: 'boolean' },
      },
    });
    const { config, set, ...settings } = values;
    return { config, set, settings };
  } catch (error) {
    throw new ConfigError([argumentProblem(error)]);
  }
}

/** The first sentence of what `util.parseArgs` says: the rest is advice about positional arguments. */
export function argumentProblem(error: unknown): string {
  const [line = ''] = (error as Error).message.split('\n');
  return line.replace(/\. (To specify|This command does).*$/, '').replace(/\.$/, '');
}

/** Values from several sources on top of each other, with where each came from, and all that was wrong. */
class LayeredDocument {
  readonly problems: string[] = [];
  readonly #values: Record<string, unknown> = {};
  /** Origin by dotted path of a setting. */
  readonly #origins = new Map<string, string>();
  readonly #settings = new Map<string, Setting>();
  readonly #byEnvironmentName = new Map<string, string>();

  constructor() {
    for (const setting of sections().flatMap((section) => section.settings)) {
      const path = setting.path.join('.');
      this.#settings.set(path, setting);
      this.#byEnvironmentName.set(environmentName(setting.path), path);
    }
  }

  addFile(path: string, readFile: ConfigSources['readFile']): void {
    const origin = basename(path);
    let text: string;
    try {
      text = readFile(path);
    } catch (error) {
      this.problems.push(`${path}: cannot be read (${(error as NodeJS.ErrnoException).code})`);
      return;
    }
    // Every scalar stays text until the schema says what it is: a password 0123 is not a number.
    const document = parseDocument(text, { schema: 'failsafe', prettyErrors: true });
    if (document.errors.length > 0) {
      for (const { message } of document.errors) {
        // Further lines quote the file, secrets included.
        this.problems.push(`${origin}: ${(message.split('\n')[0] ?? '').replace(/:$/, '')}`);
      }
      return;
    }
    let values: unknown;
    try {
      values = document.toJS({ maxAliasCount: 100 });
    } catch {
      this.problems.push(`${origin}: too many aliases`);
      return;
    }
    if (values === null || values === '') return;
    if (typeof values !== 'object' || Array.isArray(values)) {
      this.problems.push(`${origin}: must be a mapping of sections`);
      return;
    }
    const coerced = coerce(values, configSchema, false) as Record<string, unknown>;
    for (const [section, settings] of Object.entries(coerced)) {
      this.#origins.set(section, origin);
      this.#merge(section, settings, origin);
    }
  }

  addEnvironment(name: string, value: string): void {
    if (!name.startsWith('SHOAL_') || name === 'SHOAL_CONFIG') return;
    if (SERVICE_VARIABLE.test(name) || (SERVICE_PORT.test(name) && value.includes('://'))) return;
    const path = this.#byEnvironmentName.get(name);
    if (path === undefined) this.problems.push(`${name}: unknown setting (environment)`);
    else this.addText(path, value, name);
  }

  addText(path: string, value: string, origin: string): void {
    const setting = this.#settings.get(path);
    if (setting === undefined) {
      this.problems.push(`${path}: unknown setting (${origin.split(' ')[0]})`);
      return;
    }
    const [section, key] = setting.path as [string, string];
    const coerced = coerce({ [section]: { [key]: value } }, configSchema, true);
    this.#merge(section, (coerced as Record<string, unknown>)[section], origin);
  }

  finish(): Config {
    const result = configSchema.safeParse(this.#values);
    if (!result.success) {
      this.problems.push(...problems(result.error.issues, (path) => this.#origin(path)));
    } else {
      const anonymous = anonymousProblem(result.data);
      if (anonymous !== undefined) this.problems.push(anonymous);
      this.problems.push(...clusterProblems(result.data));
    }
    if (this.problems.length > 0 || !result.success) throw new ConfigError(this.problems);
    return result.data;
  }

  #merge(section: string, settings: unknown, origin: string): void {
    const current = Object.hasOwn(this.#values, section) ? this.#values[section] : undefined;
    // A section that is no mapping stays, for the schema to refuse.
    if (current !== undefined && !isMapping(current)) return;
    const merged =
      current !== undefined && isMapping(settings) ? { ...current, ...settings } : settings;
    // Not an assignment: a section may be called `__proto__`.
    Object.defineProperty(this.#values, section, {
      value: merged,
      enumerable: true,
      configurable: true,
    });
    if (!isMapping(settings)) return;
    for (const key of Object.keys(settings)) this.#origins.set(`${section}.${key}`, origin);
  }

  #origin(path: readonly PropertyKey[]): string | undefined {
    for (let length = Math.min(path.length, 2); length > 0; length--) {
      const origin = this.#origins.get(path.slice(0, length).join('.'));
      if (origin !== undefined) return origin;
    }
    return undefined;
  }
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** One line for each thing that is wrong, in words of the setting and never with its value. */
function problems(
  issues: readonly z.core.$ZodIssue[],
  originOf: (path: readonly PropertyKey[]) => string | undefined,
): string[] {
  const settings = new Map(
    sections().flatMap((section) => section.settings.map((s) => [s.path.join('.'), s] as const)),
  );
  const line = (path: readonly PropertyKey[], problem: string) => {
    const origin = originOf(path);
    return `${pathText(path)}: ${problem}${origin === undefined ? '' : ` (${origin})`}`;
  };
  return issues.flatMap((issue) => {
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => line([...issue.path, key], 'unknown setting'));
    }
    return [line(issue.path, expectation(issue, settings.get(issue.path.join('.'))))];
  });
}

function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`))
    .join('')
    .slice(1);
}

function expectation(issue: z.core.$ZodIssue, setting: Setting | undefined): string {
  // These two carry words of our own.
  if (issue.code === 'custom' || issue.code === 'invalid_format') return issue.message;
  if (setting?.type === 'text' && issue.code === 'too_small') return 'must not be empty';
  if (setting?.type === 'text' && issue.code === 'too_big') return 'is too long';
  if (setting !== undefined) return `must be ${valuesOf(setting)}`;
  if (issue.code === 'invalid_type') {
    if (issue.message.endsWith('received undefined')) return 'is missing';
    return issue.expected === 'object' ? 'must be a mapping' : `must be a ${issue.expected}`;
  }
  return 'is not valid';
}

/** The values that a setting takes, as a phrase: `an integer from 0 to 65535`. */
export function valuesOf({ type, choices, min, max }: Setting): string {
  switch (type) {
    case 'integer':
      if (min !== undefined && max !== undefined) return `an integer from ${min} to ${max}`;
      return min === undefined ? 'an integer' : `an integer of at least ${min}`;
    case 'boolean':
      return 'true or false';
    case 'choice':
      return `one of ${choices.join(', ')}`;
    case 'list':
      return 'a list';
    case 'text':
      return 'text';
  }
}

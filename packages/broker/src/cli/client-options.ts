import { randomBytes } from 'node:crypto';
import type { IClientOptions } from 'mqtt';
import { ClientProperties } from './client-properties.ts';

/** The command line of `shoal pub` or `shoal sub` cannot be used. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** What `shoal pub` and `shoal sub` have in common, checked. */
export interface ClientOptions {
  readonly host: string;
  readonly port: number;
  readonly topics: readonly string[];
  readonly qos: 0 | 1 | 2;
  readonly quiet: boolean;
  readonly protocolVersion: 3 | 4 | 5;
  readonly properties: ClientProperties;
  /** Ready for MQTT.js, but for the address. */
  readonly connect: IClientOptions;
}

/** Where the payload of `shoal pub` comes from. */
export type PayloadSource =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'empty' }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'stdin' }
  | { readonly kind: 'stdin-lines' };

export interface PubOptions extends ClientOptions {
  readonly topic: string;
  readonly source: PayloadSource;
  readonly retain: boolean;
  readonly repeat: number;
  /** QoS 1 and 2 messages sent and not yet acknowledged. */
  readonly inflightMax: number;
}

export interface SubOptions extends ClientOptions {
  readonly verbose: boolean;
  /** `undefined`: until the end of time. */
  readonly count: number | undefined;
  readonly timeoutSeconds: number | undefined;
  readonly format: string | undefined;
  readonly retainedOnly: boolean;
  readonly skipRetained: boolean;
  readonly filterOut: readonly string[];
  readonly newline: boolean;
  /** End once all subscriptions were acknowledged. */
  readonly exitAfterSubscribe: boolean;
}

const COMMON_HELP = `  -h HOST  -p PORT          address of the broker, default localhost:1883
  -L URL                    mqtt://[user[:password]@]host[:port]/topic
  -t TOPIC  -q QOS
  -i ID  -I PREFIX          client id, or what to put before a random one
  -u USER  -P PASSWORD
  -V VERSION                mqttv5, mqttv311 (default), mqttv31; mqttv5 when -D or -x is given
  -c                        do not start clean; needs -i
  -x SECONDS                session expiry interval; -1: never
  -k SECONDS                keep alive, default 60
  -D COMMAND NAME VALUE...  property of MQTT 5.0, as in -D PUBLISH user-property name value
  --will-topic TOPIC  --will-payload TEXT  --will-qos QOS  --will-retain
  --quiet                   print no errors
`;

export const PUB_HELP = `Usage: shoal pub -t TOPIC {-m TEXT | -n | -f FILE | -s | -l} [options]

Publishes, with the options and exit codes of mosquitto_pub.

  -m TEXT  -f FILE  -n      the payload: a text, a file, nothing
  -s  -l                    all of standard input as one message, or each line as one
  -r                        retained
  --repeat N                publish N times (not with -l)
  -M N                      QoS 1 and 2 messages under way at most, default 20
${COMMON_HELP}
Exit code 0: all was published and, at QoS 1 and 2, acknowledged; 1: it was not; otherwise the
code with which the broker refused.
`;

export const SUB_HELP = `Usage: shoal sub -t TOPIC [-t TOPIC ...] [options]

Prints messages, with the options and exit codes of mosquitto_sub.

  -v                        print the topic before the payload
  -C N                      end after N messages
  -W SECONDS                end after this time, with exit code 27
  -F FORMAT                 %t topic, %p payload, %x %X in hex, %l its length, %q QoS, %r retained, %m message id,
                            %j %J JSON, %I %U time, %A %C %D %E %F %P %R %S properties, %% \\n \\t
  -R                        no retained messages
  --retained-only           retained messages only; end at the first other one
  -T FILTER                 leave out what matches
  -N                        no end of line after a payload
  -E                        end once the broker has acknowledged the subscriptions
${COMMON_HELP}
Exit code 0: ended as asked; 27: timed out; 1: failed; otherwise the code with which the broker
refused.
`;

/** Long names of options, as mosquitto_pub and mosquitto_sub have them, and the short ones that they stand for. */
const ALIASES: Readonly<Record<string, string>> = {
  '--host': '-h',
  '--port': '-p',
  '--url': '-L',
  '--topic': '-t',
  '--qos': '-q',
  '--id': '-i',
  '--id-prefix': '-I',
  '--username': '-u',
  '--pw': '-P',
  '--protocol-version': '-V',
  '--disable-clean-session': '-c',
  '--session-expiry-interval': '-x',
  '--keepalive': '-k',
  '--property': '-D',
  '--message': '-m',
  '--file': '-f',
  '--null-message': '-n',
  '--stdin-file': '-s',
  '--stdin-line': '-l',
  '--retain': '-r',
  '--max-inflight': '-M',
  '--verbose': '-v',
  '--filter-out': '-T',
};

const COMMON_VALUES = [
  ...['-h', '-p', '-L', '-t', '-q', '-i', '-I', '-u', '-P', '-V', '-x', '-k'],
  ...['--will-topic', '--will-payload', '--will-qos'],
];
const COMMON_SWITCHES = ['-c', '--will-retain', '--quiet'];

/** Reads the command line of `shoal pub`. @throws UsageError */
export function parsePubOptions(argv: readonly string[]): PubOptions {
  const args = new Arguments(argv, {
    values: [...COMMON_VALUES, '-m', '-f', '-M', '--repeat'],
    switches: [...COMMON_SWITCHES, '-n', '-s', '-l', '-r'],
  });
  const common = clientOptions(args, 'pub');
  const sources: PayloadSource[] = [];
  const text = args.last('-m');
  const path = args.last('-f');
  if (text !== undefined) sources.push({ kind: 'text', text });
  if (path !== undefined) sources.push({ kind: 'file', path });
  if (args.has('-n')) sources.push({ kind: 'empty' });
  if (args.has('-s')) sources.push({ kind: 'stdin' });
  if (args.has('-l')) sources.push({ kind: 'stdin-lines' });
  const [source] = sources;
  const [topic] = common.topics;
  if (source === undefined || topic === undefined) {
    throw new UsageError('both topic (-t) and message (-m, -f, -n, -s or -l) must be given');
  }
  if (sources.length > 1) throw new UsageError('only one of -m, -f, -n, -s and -l can be given');
  if (common.topics.length > 1) throw new UsageError('only one topic (-t) can be given');
  if (topic === '' && !common.properties.has('publish', 'topicAlias')) {
    throw new UsageError('the topic (-t) must not be empty');
  }
  if (/[+#\0]/.test(topic)) throw new UsageError('the topic (-t) must not contain + or #');
  return {
    ...common,
    topic,
    source,
    retain: args.has('-r'),
    repeat: args.integer('--repeat', 1, 0xffffffff) ?? 1,
    inflightMax: args.integer('-M', 1, 65_535) ?? 20,
  };
}

/** Reads the command line of `shoal sub`. @throws UsageError */
export function parseSubOptions(argv: readonly string[]): SubOptions {
  const args = new Arguments(argv, {
    values: [...COMMON_VALUES, '-C', '-W', '-F', '-T'],
    switches: [...COMMON_SWITCHES, '-v', '-R', '-N', '-E', '--retained-only'],
  });
  const common = clientOptions(args, 'sub');
  if (common.topics.length === 0) throw new UsageError('a topic (-t) must be given');
  for (const [option, filters] of [
    ['-t', common.topics],
    ['-T', args.all('-T')],
  ] as const) {
    if (!filters.every(isFilter)) {
      throw new UsageError(`${option} must be a topic filter: + for one level, # as the last one`);
    }
  }
  if (args.has('-R') && args.has('--retained-only')) {
    throw new UsageError('only one of -R and --retained-only can be given');
  }
  return {
    ...common,
    verbose: args.has('-v'),
    count: args.integer('-C', 1, Number.MAX_SAFE_INTEGER),
    timeoutSeconds: args.integer('-W', 1, 2_147_483),
    format: args.last('-F'),
    retainedOnly: args.has('--retained-only'),
    skipRetained: args.has('-R'),
    filterOut: args.all('-T'),
    newline: !args.has('-N'),
    exitAfterSubscribe: args.has('-E'),
  };
}

/**
 * Whether a topic name matches a topic filter; `$SYS` and the like not by a wildcard at the first level
 * [MQTT-4.7.2-1].
 */
export function matchesFilter(filter: string, topic: string): boolean {
  const filterLevels = filter.split('/');
  const levels = topic.split('/');
  if (topic.startsWith('$') && /^[+#]/.test(filter)) return false;
  for (const [index, level] of filterLevels.entries()) {
    if (level === '#') return true;
    if (index >= levels.length) return false;
    if (level !== '+' && level !== levels[index]) return false;
  }
  return filterLevels.length === levels.length;
}

function isFilter(filter: string): boolean {
  const levels = filter.split('/');
  return (
    filter !== '' &&
    !filter.includes('\0') &&
    levels.every(
      (level, index) =>
        level === '+' || (level === '#' && index === levels.length - 1) || !/[+#]/.test(level),
    )
  );
}

/**
 * A command line of the kind mosquitto_pub has: each option is a word of its own, and the word after it is its
 * value whatever it looks like (`-m -1`), which `util.parseArgs` does not allow.
 */
class Arguments {
  readonly #values = new Map<string, string[]>();
  readonly properties = new ClientProperties();

  constructor(
    argv: readonly string[],
    { values, switches }: { values: readonly string[]; switches: readonly string[] },
  ) {
    for (let index = 0; index < argv.length; index++) {
      const word = argv[index]!;
      const option = (Object.hasOwn(ALIASES, word) ? ALIASES[word] : undefined) ?? word;
      if (option === '-D') {
        index += this.#addProperty(argv.slice(index + 1));
      } else if (values.includes(option)) {
        const value = argv[++index];
        if (value === undefined) throw new UsageError(`${word} needs a value`);
        this.#values.set(option, [...this.all(option), value]);
      } else if (switches.includes(option)) {
        this.#values.set(option, ['']);
      } else {
        throw new UsageError(`unknown option '${word}'`);
      }
    }
  }

  has(option: string): boolean {
    return this.#values.has(option);
  }

  all(option: string): readonly string[] {
    return this.#values.get(option) ?? [];
  }

  last(option: string): string | undefined {
    return this.all(option).at(-1);
  }

  integer(option: string, min: number, max: number): number | undefined {
    const text = this.last(option);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || value < min || value > max) {
      throw new UsageError(`${option} must be an integer from ${min} to ${max}`);
    }
    return value;
  }

  /** Returns the number of words that the property took. */
  #addProperty(words: readonly string[]): number {
    try {
      return this.properties.add(words);
    } catch (error) {
      throw new UsageError(`-D: ${(error as Error).message}`);
    }
  }
}

const VERSIONS: Readonly<Record<string, 3 | 4 | 5>> = {
  mqttv31: 3,
  '31': 3,
  mqttv311: 4,
  '311': 4,
  mqttv5: 5,
  '5': 5,
};

function clientOptions(args: Arguments, command: 'pub' | 'sub'): ClientOptions {
  const url = parseUrl(args.last('-L'));
  const { properties } = args;
  const asked = args.last('-V');
  if (asked !== undefined && !Object.hasOwn(VERSIONS, asked)) {
    throw new UsageError('-V must be mqttv5, mqttv311 or mqttv31');
  }
  const needsV5 = !properties.empty || args.has('-x');
  const protocolVersion = asked === undefined ? (needsV5 ? 5 : 4) : VERSIONS[asked]!;
  if (needsV5 && protocolVersion !== 5) throw new UsageError('-D and -x need -V mqttv5');
  const clean = !args.has('-c');
  const clientId = args.last('-i');
  if (!clean && clientId === undefined) throw new UsageError('-c needs a client id (-i)');
  const qos = (args.integer('-q', 0, 2) ?? 0) as 0 | 1 | 2;
  const username = args.last('-u') ?? url.username;
  const password = args.last('-P') ?? url.password;
  if (password !== undefined && username === undefined && protocolVersion !== 5) {
    throw new UsageError('-P needs a user name (-u)');
  }
  const will = willOptions(args, protocolVersion);
  return {
    host: args.last('-h') ?? url.host ?? 'localhost',
    port: args.integer('-p', 1, 65_535) ?? url.port ?? 1883,
    topics: [...(url.topic === undefined ? [] : [url.topic]), ...args.all('-t')],
    qos,
    quiet: args.has('--quiet'),
    protocolVersion,
    properties,
    connect: {
      clientId:
        clientId ?? `${args.last('-I') ?? `shoal-${command}-`}${randomBytes(5).toString('hex')}`,
      clean,
      keepalive: args.integer('-k', 0, 65_535) ?? 60,
      protocolVersion,
      protocolId: protocolVersion === 3 ? 'MQIsdp' : 'MQTT',
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(will === undefined ? {} : { will }),
      ...(protocolVersion === 5
        ? {
            properties: {
              sessionExpiryInterval: sessionExpiry(args, clean),
              ...properties.of('connect'),
            },
          }
        : {}),
    },
  };
}

const NEVER = 0xffff_ffff;

function sessionExpiry(args: Arguments, clean: boolean): number {
  const text = args.last('-x');
  if (text === undefined) return clean ? 0 : NEVER;
  if (text === '-1' || text === '∞') return NEVER;
  return args.integer('-x', 0, NEVER)!;
}

function willOptions(args: Arguments, version: 3 | 4 | 5): IClientOptions['will'] {
  const topic = args.last('--will-topic');
  if (topic === undefined) {
    for (const option of ['--will-payload', '--will-qos', '--will-retain']) {
      if (args.has(option)) throw new UsageError(`${option} needs --will-topic`);
    }
    return undefined;
  }
  if (topic === '' || /[+#\0]/.test(topic)) {
    throw new UsageError('--will-topic must not be empty or contain + or #');
  }
  return {
    topic,
    payload: Buffer.from(args.last('--will-payload') ?? ''),
    qos: (args.integer('--will-qos', 0, 2) ?? 0) as 0 | 1 | 2,
    retain: args.has('--will-retain'),
    ...(version === 5 ? { properties: args.properties.of('will') } : {}),
  };
}

interface UrlParts {
  readonly host?: string;
  readonly port?: number;
  readonly username?: string;
  readonly password?: string;
  readonly topic?: string;
}

function parseUrl(text: string | undefined): UrlParts {
  if (text === undefined) return {};
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'mqtt:' || url.hostname === '') {
    throw new UsageError('-L must be mqtt://[user[:password]@]host[:port]/topic');
  }
  try {
    const topic = decodeURIComponent(url.pathname.slice(1));
    return {
      host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
      ...(url.port === '' ? {} : { port: Number(url.port) }),
      ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
      ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
      ...(topic === '' ? {} : { topic }),
    };
  } catch {
    throw new UsageError('-L contains a % that is not an escape');
  }
}

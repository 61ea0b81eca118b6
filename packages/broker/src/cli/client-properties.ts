/** Packets that `-D` can give properties to. */
export type PropertyCommand = 'connect' | 'publish' | 'subscribe' | 'disconnect' | 'will';

type Kind = 'byte' | 'flag' | 'uint16' | 'uint32' | 'varint' | 'text' | 'binary';

interface PropertyType {
  /** As MQTT.js names it. */
  readonly key: string;
  readonly kind: Kind;
  readonly commands: readonly PropertyCommand[];
}

/** Properties by their names in mosquitto_pub; `user-property` is apart, for its two values. */
const PROPERTIES: Readonly<Record<string, PropertyType>> = {
  'authentication-data': { key: 'authenticationData', kind: 'binary', commands: ['connect'] },
  'authentication-method': { key: 'authenticationMethod', kind: 'text', commands: ['connect'] },
  'maximum-packet-size': { key: 'maximumPacketSize', kind: 'uint32', commands: ['connect'] },
  'receive-maximum': { key: 'receiveMaximum', kind: 'uint16', commands: ['connect'] },
  'request-problem-information': {
    key: 'requestProblemInformation',
    kind: 'flag',
    commands: ['connect'],
  },
  'request-response-information': {
    key: 'requestResponseInformation',
    kind: 'flag',
    commands: ['connect'],
  },
  'session-expiry-interval': {
    key: 'sessionExpiryInterval',
    kind: 'uint32',
    commands: ['connect', 'disconnect'],
  },
  'topic-alias-maximum': { key: 'topicAliasMaximum', kind: 'uint16', commands: ['connect'] },
  'content-type': { key: 'contentType', kind: 'text', commands: ['publish', 'will'] },
  'correlation-data': { key: 'correlationData', kind: 'binary', commands: ['publish', 'will'] },
  'message-expiry-interval': {
    key: 'messageExpiryInterval',
    kind: 'uint32',
    commands: ['publish', 'will'],
  },
  'payload-format-indicator': {
    key: 'payloadFormatIndicator',
    kind: 'flag',
    commands: ['publish', 'will'],
  },
  'response-topic': { key: 'responseTopic', kind: 'text', commands: ['publish', 'will'] },
  'topic-alias': { key: 'topicAlias', kind: 'uint16', commands: ['publish'] },
  'subscription-identifier': {
    key: 'subscriptionIdentifier',
    kind: 'varint',
    commands: ['subscribe'],
  },
  'will-delay-interval': { key: 'willDelayInterval', kind: 'uint32', commands: ['will'] },
};

const MAXIMA = { byte: 0xff, flag: 1, uint16: 0xffff, uint32: 0xffff_ffff, varint: 268_435_455 };

/** The properties given with `-D`, in the form MQTT.js takes them. */
export class ClientProperties {
  readonly #byCommand = new Map<PropertyCommand, Record<string, unknown>>();

  get empty(): boolean {
    return this.#byCommand.size === 0;
  }

  /**
   * Adds the property that `words` (what follows `-D`) begins with; returns how many words that is.
   *
   * @throws Error that says what is wrong with them.
   */
  add([commandWord, name, value, second]: readonly string[]): number {
    const command = commandWord?.toLowerCase();
    if (name === undefined || value === undefined)
      throw new Error('needs a command, a name and a value');
    if (!isCommand(command)) {
      throw new Error('the command must be connect, publish, subscribe, disconnect or will');
    }
    const properties = this.#byCommand.get(command) ?? {};
    this.#byCommand.set(command, properties);
    if (name === 'user-property') {
      if (second === undefined) throw new Error('user-property needs a name and a value');
      addUserProperty(properties, value, second);
      return 4;
    }
    const type = Object.hasOwn(PROPERTIES, name) ? PROPERTIES[name] : undefined;
    if (type === undefined) throw new Error('unknown property name');
    if (!type.commands.includes(command)) throw new Error(`${command} has no ${name}`);
    properties[type.key] = parse(name, type.kind, value);
    return 3;
  }

  /** Whether a property, by its MQTT.js name, was given. */
  has(command: PropertyCommand, key: string): boolean {
    return Object.hasOwn(this.of(command), key);
  }

  /** A copy that MQTT.js may keep. */
  of(command: PropertyCommand): Record<string, never> {
    return { ...this.#byCommand.get(command) } as Record<string, never>;
  }
}

function isCommand(word: string | undefined): word is PropertyCommand {
  return ['connect', 'publish', 'subscribe', 'disconnect', 'will'].includes(word ?? '');
}

/** Names may repeat; MQTT.js then takes a list of values. */
function addUserProperty(properties: Record<string, unknown>, name: string, value: string): void {
  const users = (properties['userProperties'] ?? {}) as Record<string, string | string[]>;
  const values = Object.hasOwn(users, name) ? [users[name]!].flat() : [];
  Object.defineProperty(users, name, {
    value: values.length === 0 ? value : [...values, value],
    enumerable: true,
    configurable: true,
    writable: true,
  });
  properties['userProperties'] = users;
}

function parse(name: string, kind: Kind, text: string): unknown {
  switch (kind) {
    case 'text':
      return text;
    case 'binary':
      return Buffer.from(text);
    default: {
      const value = Number(text);
      if (!/^\d+$/.test(text) || value > MAXIMA[kind]) {
        throw new Error(`${name} must be an integer from 0 to ${MAXIMA[kind]}`);
      }
      return kind === 'flag' ? value === 1 : value;
    }
  }
}

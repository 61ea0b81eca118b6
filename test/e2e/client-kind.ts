/** A protocol version by its level: 3.1, 3.1.1, 5.0. */
export type Version = 3 | 4 | 5;

export type Qos = 0 | 1 | 2;

/** Properties of MQTT 5.0 that a message has; `undefined` where the client does not tell. */
export interface MessageProperties {
  /** In the order in which they stand in the packet. */
  readonly userProperties?: readonly (readonly [name: string, value: string])[];
  readonly responseTopic?: string;
  readonly correlationData?: string;
  readonly contentType?: string;
  readonly messageExpiryInterval?: number;
  /** Only of a message that was received. */
  readonly subscriptionIdentifiers?: readonly number[];
  /** Only of a message to publish. */
  readonly topicAlias?: number;
}

export interface OutgoingMessage {
  readonly topic: string;
  readonly payload: string | Buffer;
  readonly qos?: Qos;
  readonly retain?: boolean;
  readonly properties?: MessageProperties;
}

export interface IncomingMessage {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: number;
  readonly retain: boolean;
  readonly properties: MessageProperties;
}

export interface ClientOptions {
  readonly port: number;
  readonly version: Version;
  readonly clientId?: string;
  readonly username?: string;
  readonly password?: string;
}

export interface SubscriberOptions extends ClientOptions {
  readonly filters: readonly string[];
  readonly qos?: Qos;
  readonly subscriptionIdentifier?: number;
  /** The session goes on after the connection, for an hour in 5.0. */
  readonly persistent?: boolean;
  readonly will?: OutgoingMessage & { readonly delaySeconds?: number };
}

/** A connected client with its subscriptions acknowledged. Disposing of it ends it. */
export interface Subscriber extends AsyncDisposable {
  /** The process in which it runs, when it has one of its own. */
  readonly pid: number | undefined;
  /** The next message, in the order in which they came. */
  next(): Promise<IncomingMessage>;
  /** Resolves when the broker has ended the connection: with the reason code, when one came. */
  readonly closed: Promise<number | undefined>;
  /** Ends it with DISCONNECT. */
  end(): Promise<void>;
  /** Ends it as a crash does: a process is killed. */
  kill(): Promise<void>;
}

/** A client that we did not write. */
export interface ClientKind {
  readonly name: string;
  readonly versions: readonly Version[];
  /** Why it cannot be used here; `undefined`: it can. */
  missing(): string | undefined;
  /** Connects and subscribes. Rejects when the broker refuses either. */
  subscribe(options: SubscriberOptions): Promise<Subscriber>;
  /** Connects, publishes in order, waits for the last acknowledgement, and disconnects. Rejects when refused. */
  publish(options: ClientOptions, messages: readonly OutgoingMessage[]): Promise<void>;
}

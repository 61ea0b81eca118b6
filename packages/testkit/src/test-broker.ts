import { createBroker } from '@shoalmq/broker';
import type { Broker, BrokerHooks, BrokerOptions } from '@shoalmq/broker';
import { ByteClient } from './byte-client.ts';
import type { ByteClientOptions, ConnectFields } from './byte-client.ts';

/** What a test changes about the broker it starts. */
export interface TestBrokerOptions {
  /** As in a configuration file, over: port 0, no ops port, no `$SYS` topics. */
  readonly config?: NonNullable<BrokerOptions['config']>;
  readonly hooks?: BrokerHooks;
  readonly report?: NonNullable<BrokerOptions['report']>;
  readonly hookFailed?: NonNullable<BrokerOptions['hookFailed']>;
}

/**
 * A broker of the test's own, in this process, with the embedded store, on a free port of 127.0.0.1. Disposing of
 * it closes it.
 *
 * ```ts
 * await using broker = await TestBroker.start();
 * await using client = await broker.client({ version: 4, clientId: 'a' });
 * ```
 */
export class TestBroker implements AsyncDisposable {
  readonly broker: Broker;

  private constructor(broker: Broker) {
    this.broker = broker;
  }

  static async start(options: TestBrokerOptions = {}): Promise<TestBroker> {
    const { config = {}, hooks, report, hookFailed } = options;
    return new TestBroker(
      await createBroker({
        config: {
          sys: { intervalSeconds: 0 },
          ...config,
          mqtt: { port: 0, ...config.mqtt },
          http: { port: 0, ...config.http },
        },
        ...(hooks === undefined ? {} : { hooks }),
        ...(report === undefined ? {} : { report }),
        ...(hookFailed === undefined ? {} : { hookFailed }),
      }),
    );
  }

  get port(): number {
    return this.broker.port;
  }

  /** A client that is connected, with CONNACK received, whatever it says. */
  client(fields: ConnectFields & ByteClientOptions = {}): Promise<ByteClient> {
    return ByteClient.connect(this.port, fields);
  }

  /** A TCP connection on which nothing was sent yet. */
  open(options: ByteClientOptions = {}): Promise<ByteClient> {
    return ByteClient.open(this.port, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.broker.close();
  }
}

import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

/** Between a client and a Redis: can throw a reply away together with the connection, as a network does. */
export class LossyProxy implements AsyncDisposable {
  readonly host = '127.0.0.1';
  readonly port: number;
  /** Replies that were lost. */
  lost = 0;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;
  /** Chunks of replies to let through before one is lost; -1: all. */
  #until = -1;

  private constructor(
    server: Server,
    sockets: Set<Socket>,
    onConnection: (proxy: LossyProxy) => void,
  ) {
    this.#server = server;
    this.#sockets = sockets;
    this.port = (server.address() as AddressInfo).port;
    onConnection(this);
  }

  static async start(target: {
    readonly host: string;
    readonly port: number;
  }): Promise<LossyProxy> {
    const sockets = new Set<Socket>();
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new LossyProxy(server, sockets, (proxy) => {
      server.on('connection', (client) => proxy.#relay(client, connect(target)));
    });
  }

  /** Loses the next reply after `chunks` others, with the connection it is on. */
  loseReply({ after }: { readonly after: number }): void {
    this.#until = after;
  }

  /** Loses nothing any more. */
  loseNothing(): void {
    this.#until = -1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #relay(client: Socket, server: Socket): void {
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    client.on('data', (data) => server.write(data));
    server.on('data', (data) => {
      if (this.#until === 0) {
        this.#until = -1;
        this.lost += 1;
        client.destroy();
        return;
      }
      if (this.#until > 0) this.#until -= 1;
      client.write(data);
    });
  }
}

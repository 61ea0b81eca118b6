import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pollUntil } from './poll-until.ts';

/** The example for production: what is tested is what users get. */
const EXAMPLE = fileURLToPath(new URL('../../../../deploy/haproxy/haproxy.cfg', import.meta.url));

/** A node as the balancer knows it. It need not run yet. */
export interface BalancedNode {
  readonly id: string;
  readonly port: number;
  readonly httpPort: number;
}

/** Whether this machine has `haproxy`; tests that need it are skipped where it is absent. */
export function hasHaproxy(): boolean {
  return spawnSync('haproxy', ['-v'], { stdio: 'ignore' }).status === 0;
}

/** HAProxy in front of the nodes of a test, with the settings of `deploy/haproxy/haproxy.cfg`. */
export class BalancerProcess implements AsyncDisposable {
  readonly port: number;
  readonly #directory: string;
  readonly #child: ChildProcess;

  private constructor(port: number, directory: string, child: ChildProcess) {
    this.port = port;
    this.#directory = directory;
    this.#child = child;
  }

  /** Resolves when it takes connections. */
  static async start(port: number, nodes: readonly BalancedNode[]): Promise<BalancerProcess> {
    const directory = mkdtempSync(join(tmpdir(), 'shoal-haproxy-'));
    const file = join(directory, 'haproxy.cfg');
    writeFileSync(file, configuration(port, nodes));
    const child = spawn('haproxy', ['-db', '-f', file], { stdio: 'ignore' });
    const balancer = new BalancerProcess(port, directory, child);
    try {
      await pollUntil('HAProxy takes connections', () => {
        if (child.exitCode !== null) throw new Error('HAProxy ended');
        return takesConnections(port);
      });
    } catch (error) {
      await balancer.stop();
      throw error;
    }
    return balancer;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Ends it, and every connection through it. */
  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGKILL');
      await once(this.#child, 'exit');
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

function configuration(port: number, nodes: readonly BalancedNode[]): string {
  const servers = nodes.map(
    (node) =>
      `    server ${node.id} 127.0.0.1:${String(node.port)} port ${String(node.httpPort)}\n`,
  );
  return readFileSync(EXAMPLE, 'utf8')
    .replace(/^ +bind .*$/m, `    bind 127.0.0.1:${String(port)}`)
    .replace(/^(?: +server .*\n)+/m, servers.join(''));
}

async function takesConnections(port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port });
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

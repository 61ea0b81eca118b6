import { ShoalProcess } from '@shoalmq/testkit';

/** Nodes of one cluster, as processes; disposing of them stops them. */
export class Nodes implements AsyncDisposable {
  readonly all: ShoalProcess[] = [];
  readonly #url: string;
  readonly #args: readonly string[];

  constructor(url: string, args: readonly string[]) {
    this.#url = url;
    this.#args = args;
  }

  /** Starts the node at `index`: for the first time, or after it was killed or stopped. */
  async restart(index: number): Promise<void> {
    this.all[index] = await startNode(index, this.#url, this.#args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((node) => node.stop()));
  }
}

/** Starts `count` nodes n1, n2 ... on the Redis at `url`; `settings` are `name=value`, as for `--set`. */
export async function startNodes(
  count: number,
  url: string,
  settings: readonly string[] = [],
): Promise<Nodes> {
  const args = settings.flatMap((setting) => ['--set', setting]);
  const nodes = new Nodes(url, args);
  try {
    // One after the other: a port that is free now must not be given to two of them.
    for (let index = 0; index < count; index++) await nodes.restart(index);
    return nodes;
  } catch (error) {
    await nodes[Symbol.asyncDispose]();
    throw error;
  }
}

function startNode(index: number, url: string, args: readonly string[]): Promise<ShoalProcess> {
  const id = `n${String(index + 1)}`;
  return ShoalProcess.start({
    args: ['--redis', url, '--peer-port', '0', '--node-id', id, ...args],
  });
}

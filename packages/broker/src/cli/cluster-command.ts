import { parseArgs } from 'node:util';
import type { ClusterOverview, RecipientOverview, RouteOverview } from '../cluster-overview.ts';
import { argumentProblem } from '../config/load-config.ts';
import { ExitCode } from './terminal.ts';
import type { Terminal } from './terminal.ts';

export const CLUSTER_HELP = `Usage: shoal cluster status [options]
       shoal cluster explain TOPIC [options]

status    nodes, where state is kept and at which durability, and what is wrong
explain   which subscriptions match a topic, on which nodes and sessions, and which member of each shared
          subscription would get the next message that is published on the node that is asked

  --url URL       operations port (http.port) of a node, default http://127.0.0.1:9883
  --json          print the answer as JSON
  --qos N         explain: QoS of the message, default 1
  --client ID     explain: client id of the publisher
  --limit N       explain: entries of a list, default 100

A node answers only to its own machine, unless http.remoteAdmin is set.
`;

const TIMEOUT_MS = 10_000;

/** `shoal cluster`: resolves with the exit code. */
export async function clusterCommand(argv: readonly string[], terminal: Terminal): Promise<number> {
  const usage = (problem: string): number => {
    terminal.stderr.write(`shoal: ${problem}; see shoal cluster --help\n`);
    return ExitCode.Usage;
  };
  let parsed;
  try {
    parsed = parseArgs({
      args: [...argv],
      strict: true,
      allowPositionals: true,
      options: {
        url: { type: 'string', default: 'http://127.0.0.1:9883' },
        json: { type: 'boolean', default: false },
        qos: { type: 'string' },
        client: { type: 'string' },
        limit: { type: 'string' },
      },
    });
  } catch (error) {
    return usage(argumentProblem(error));
  }
  const { positionals, values } = parsed;
  const [verb, topic, ...more] = positionals;
  const isStatus = verb === 'status' && topic === undefined;
  if (!isStatus && (verb !== 'explain' || topic === undefined || more.length > 0)) {
    return usage('usage is shoal cluster status, or shoal cluster explain TOPIC');
  }
  const base = parseUrl(values.url);
  if (base === undefined) return usage('--url: is not a URL');
  const { qos, client, limit } = values;
  const url = new URL(`/api/v1/cluster/${verb}`, base);
  for (const [name, value] of Object.entries(isStatus ? {} : { topic, qos, client, limit })) {
    if (value !== undefined) url.searchParams.set(name, value);
  }
  const answer = await ask(url);
  if (typeof answer === 'string') {
    terminal.stderr.write(`shoal: ${answer}\n`);
    return ExitCode.Failure;
  }
  if (values.json) terminal.stdout.write(`${JSON.stringify(answer, undefined, 2)}\n`);
  else if (isStatus) terminal.stdout.write(statusText(answer as ClusterOverview));
  else terminal.stdout.write(routeText(answer as RouteOverview));
  return ExitCode.Ok;
}

/** The answer of a node, or why there is none. */
async function ask(url: URL): Promise<object | string> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    const body = (await response.json()) as { readonly error?: unknown };
    return response.ok ? body : `${url.origin} says: ${printable(String(body.error))}`;
  } catch (error) {
    const { cause = error } = error as Error;
    const { code, message } = cause as NodeJS.ErrnoException;
    return `no answer from ${url.origin}: ${code ?? message}`;
  }
}

function parseUrl(text: string): URL | undefined {
  try {
    const url = new URL(text);
    return /^https?:$/.test(url.protocol) ? url : undefined;
  } catch {
    return undefined;
  }
}

function statusText({ node, store, nodes, nodeCount, dead, warnings }: ClusterOverview): string {
  const lines = [
    `node ${node.id}, version ${node.version}: ${node.ready ? 'ready' : 'not ready'}`,
    ...node.problems.map((problem) => `  ${problem}`),
    storeText(store),
    '',
    ...table([
      ['NODE', 'STATE', 'VERSION', 'CONNECTIONS', 'ROUTE LAG', 'LINK', 'ADDRESS'],
      ...nodes.map(({ id, state, version, connections, routeLagMs, link, address }) => [
        ...[id, state, version],
        connections === undefined ? '?' : String(connections),
        lagText(routeLagMs),
        link === undefined ? 'this node' : link.state,
        address,
      ]),
    ]),
    ...more(nodeCount - nodes.length),
    ...(dead.length === 0 ? [] : ['', `dead, not buried yet: ${dead.join(', ')}`]),
    '',
    ...(warnings.length === 0 ? ['no warnings'] : ['warnings:']),
    ...warnings.map((warning) => `  ${warning}`),
  ];
  return `${lines.map(printable).join('\n')}\n`;
}

function storeText({ mode, durability, replicas, up, servers }: ClusterOverview['store']): string {
  if (mode === 'memory') return 'state: in the memory of this node, durability memory';
  const versions = [...new Set(servers.map(({ version }) => version ?? 'unknown'))].join(', ');
  const level = replicas === 0 ? durability : `${durability} by ${replicas}`;
  const count = servers.length > 1 ? `, ${servers.length} primaries` : '';
  return `state: in Redis ${versions} (${mode}${count}), durability ${level}, ${up ? 'up' : 'DOWN'}`;
}

function lagText(lagMs: number | undefined): string {
  if (lagMs === undefined) return '?';
  return lagMs < 0 ? 'loading' : `${(lagMs / 1_000).toFixed(1)} s`;
}

function routeText(overview: RouteOverview): string {
  const { topic, qos, node, retained, routes, routeCount, groups, groupCount } = overview;
  const lines = [
    `${topic} at QoS ${qos}, published on node ${node}: ${routeCount} subscriptions, ` +
      `${groupCount} shared subscriptions${retained ? '; there is a retained message' : ''}`,
  ];
  if (routes.length > 0) {
    const rows = routes.map(({ filter, ...recipient }) => [filter, recipientText(recipient)]);
    lines.push('', ...table([['FILTER', 'WHO'], ...rows]), ...more(routeCount - routes.length));
  }
  for (const { filter, memberCount, chosen, members } of groups) {
    const next = chosen === undefined ? 'nobody can take a message now' : recipientText(chosen);
    lines.push('', `${filter}: ${memberCount} members, ${overview.strategy}`, `  next: ${next}`);
    for (const member of members) lines.push(`  member: ${recipientText(member)}`);
    lines.push(...more(memberCount - members.length));
  }
  lines.push(...more(groupCount - groups.length));
  return `${lines.map(printable).join('\n')}\n`;
}

function recipientText({ clientId, persistent, qos, node }: RecipientOverview): string {
  if (clientId === undefined) return `clean sessions of node ${node}`;
  const place =
    node === undefined ? 'place unknown' : node === '' ? 'not connected' : `on node ${node}`;
  return `${persistent ? 'persistent' : 'clean'} session ${clientId}, QoS ${qos}, ${place}`;
}

function more(count: number): string[] {
  return count > 0 ? [`  ... and ${count} more`] : [];
}

/** Columns as wide as their widest entry. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
}

/** Client ids, topics and what other machines say must not move the cursor. */
function printable(text: string): string {
  return text.replace(
    // eslint-disable-next-line no-control-regex -- these are what is looked for
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

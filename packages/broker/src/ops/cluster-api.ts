import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { topicFromName } from '@shoalmq/codec';
import { TopicTable } from '@shoalmq/core';
import type { ExplainedMessage } from '@shoalmq/core';
import { isLoopback } from '../config/load-config.ts';
import type { ClusterOverview, RouteOverview } from '../cluster-overview.ts';

/** Whoever answers questions about the cluster; `undefined` until the node has joined it. */
export interface ClusterSource {
  status(): Promise<ClusterOverview>;
  explain(message: ExplainedMessage, listMax: number): Promise<RouteOverview>;
}

export interface ApiAnswer {
  readonly status: number;
  readonly body: object;
}

export const CLUSTER_API = '/api/v1/cluster/';
const LIST_DEFAULT = 100;
const LIST_MAX = 1_000;

/**
 * Answers a request below `CLUSTER_API`: `status`, and `explain?topic=T[&qos=0..2][&client=ID][&limit=1..1000]`. Only
 * reads, never changes anything.
 */
export async function answerClusterApi(
  url: URL,
  source: ClusterSource | undefined,
): Promise<ApiAnswer> {
  if (source === undefined) return refusal(503, 'this node has not joined its cluster yet');
  switch (url.pathname.slice(CLUSTER_API.length)) {
    case 'status':
      return { status: 200, body: await source.status() };
    case 'explain': {
      const query = explainQuery(url.searchParams);
      if (typeof query === 'string') return refusal(400, query);
      return { status: 200, body: await source.explain(query.message, query.listMax) };
    }
    default:
      return refusal(404, 'not here; see status and explain?topic=');
  }
}

/**
 * Whether a request may ask about clients and topics: it comes from this machine, and not from a web page that was made
 * to believe that this machine is its server.
 */
export function isLocalRequest({ socket, headers }: IncomingMessage): boolean {
  const host = (headers.host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return isLoopback(socket.remoteAddress ?? '') && (host === 'localhost' || isIP(host) !== 0);
}

export function refusal(status: number, error: string): ApiAnswer {
  return { status, body: { error } };
}

/** What is to be explained, or what is wrong with the question. */
function explainQuery(
  params: URLSearchParams,
): { readonly message: ExplainedMessage; readonly listMax: number } | string {
  const topic = params.get('topic');
  if (topic === null) return 'topic is missing';
  try {
    topicFromName(new TopicTable(16), topic);
  } catch (error) {
    return `topic: ${(error as Error).message}`;
  }
  const qos = Number(params.get('qos') ?? 1);
  if (qos !== 0 && qos !== 1 && qos !== 2) return 'qos must be 0, 1 or 2';
  const listMax = Number(params.get('limit') ?? LIST_DEFAULT);
  if (!Number.isInteger(listMax) || listMax < 1 || listMax > LIST_MAX) {
    return `limit must be an integer from 1 to ${LIST_MAX}`;
  }
  return { message: { topic, qos, publisher: params.get('client') ?? '' }, listMax };
}

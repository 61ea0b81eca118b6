/** A port could not be opened. The message names the setting to change. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  /** Code of the operating system: `EADDRINUSE`, `EACCES`, ... */
  readonly code: string;
  constructor(
    section: 'mqtt' | 'http' | 'cluster',
    { host, port }: { readonly host: string; readonly port: number },
    cause: unknown,
  ) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error';
    const reason = REASONS[code] ?? { text: code, key: 'port' };
    const path = `${section}.${section === 'cluster' ? PEER_KEYS[reason.key] : reason.key}`;
    const flag = FLAGS[path];
    const setting = `${path}${flag === undefined ? '' : ` (${flag})`}`;
    super(`cannot listen on ${host}:${port}: ${reason.text}; change ${setting}`, { cause });
    this.code = code;
  }
}

/** Whether an error is about opening a port, and not a bug. */
export function isListenFailure(error: unknown): boolean {
  const { code, syscall } = error as NodeJS.ErrnoException;
  return (code !== undefined && Object.hasOwn(REASONS, code)) || syscall === 'listen';
}

const REASONS: Readonly<Record<string, { text: string; key: 'host' | 'port' }>> = {
  EADDRINUSE: { text: 'the port is in use', key: 'port' },
  EACCES: { text: 'not permitted', key: 'port' },
  EADDRNOTAVAIL: { text: 'this machine does not have that address', key: 'host' },
  EAFNOSUPPORT: { text: 'this machine does not have that address', key: 'host' },
  EINVAL: { text: 'that is not an address', key: 'host' },
  ENOTFOUND: { text: 'that name is not known', key: 'host' },
  EAI_AGAIN: { text: 'that name cannot be looked up', key: 'host' },
};

const PEER_KEYS = { host: 'peerHost', port: 'peerPort' } as const;

const FLAGS: Readonly<Record<string, string>> = {
  'mqtt.host': '--host',
  'mqtt.port': '--port',
  'http.port': '--http-port',
  'cluster.peerHost': '--peer-host',
  'cluster.peerPort': '--peer-port',
};

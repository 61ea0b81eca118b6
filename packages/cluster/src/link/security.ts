import type { PeerCertificate } from 'node:tls';
import { ChannelCredentials, ServerCredentials } from '@grpc/grpc-js';

/** How nodes know each other. With neither `secret` nor `tls` anybody who reaches the port is a node. */
export interface LinkSecurity {
  /** The same on all nodes of the cluster; never sent. */
  readonly secret?: string;
  /** TLS in both directions: also the node that connects shows its certificate. */
  readonly tls?: LinkTls;
}

export interface LinkTls {
  /** PEM: the authorities whose certificates are nodes. */
  readonly ca: string;
  /** PEM: this node's certificate, with the chain up to `ca` if there is one, and its key. */
  readonly cert: string;
  readonly key: string;
  /**
   * `node`: a certificate stands for the node whose id is its common name or one of its DNS names. `cluster`: every
   * certificate of `ca` stands for any node, so one certificate may serve all.
   *
   * @default 'node'
   */
  readonly identity?: 'node' | 'cluster';
}

/** Credentials with which this node connects to the node `receiverId`. */
export function senderCredentials(security: LinkSecurity, receiverId: string): ChannelCredentials {
  const { tls } = security;
  if (tls === undefined) return ChannelCredentials.createInsecure();
  return ChannelCredentials.createSsl(
    Buffer.from(tls.ca),
    Buffer.from(tls.key),
    Buffer.from(tls.cert),
    {
      // In place of the comparison with the host name: nodes are reached by address, and know each other by id.
      checkServerIdentity: (_host, certificate) =>
        isCertificateOf(certificate, receiverId, tls)
          ? undefined
          : new Error(`the certificate is not that of node ${receiverId}`),
    },
  );
}

export function receiverCredentials(security: LinkSecurity): ServerCredentials {
  const { tls } = security;
  if (tls === undefined) return ServerCredentials.createInsecure();
  const pair = { private_key: Buffer.from(tls.key), cert_chain: Buffer.from(tls.cert) };
  return ServerCredentials.createSsl(Buffer.from(tls.ca), [pair], true);
}

/**
 * Whether a certificate, which TLS has found valid and of the right authority, may speak for the node. Names are
 * compared as a whole: a wildcard is nobody's id.
 */
export function isCertificateOf(
  certificate: Pick<PeerCertificate, 'subject' | 'subjectaltname'>,
  nodeId: string,
  tls: LinkTls,
): boolean {
  if (tls.identity === 'cluster') return true;
  // The id is out of [A-Za-z0-9._-], so neither a comma nor a quote can hide another name in the list.
  const names = (certificate.subjectaltname ?? '').split(', ');
  return names.includes(`DNS:${nodeId}`) || certificate.subject.CN === nodeId;
}

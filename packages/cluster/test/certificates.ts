import type { LinkTls } from '@shoalmq/cluster';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** An authority that makes certificates for nodes, with the `openssl` of the system. */
export class TestAuthority {
  readonly #directory = mkdtempSync(join(tmpdir(), 'shoal-ca-'));
  readonly ca: string;

  constructor() {
    this.ca = this.#makeCertificate('ca', 'cluster', []).cert;
  }

  /** `commonName`, and optionally DNS names beside it. */
  issue(commonName: string, dnsNames: readonly string[] = []): LinkTls {
    return { ca: this.ca, ...this.#makeCertificate('node', commonName, dnsNames) };
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }

  #makeCertificate(
    name: string,
    commonName: string,
    dnsNames: readonly string[],
  ): { cert: string; key: string } {
    const path = (file: string): string => join(this.#directory, file);
    const key = path(`${name}.key`);
    const cert = path(`${name}.pem`);
    const subject = ['-subj', `/CN=${commonName}`];
    const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    if (name === 'ca') {
      openssl('req', '-x509', ...newKey, ...subject, '-days', '2', '-keyout', key, '-out', cert);
    } else {
      const request = path(`${name}.csr`);
      const extensions = path(`${name}.ext`);
      const names = dnsNames.map((dnsName) => `DNS:${dnsName}`).join(',');
      writeFileSync(extensions, names === '' ? '' : `subjectAltName=${names}\n`);
      openssl('req', ...newKey, ...subject, '-keyout', key, '-out', request);
      openssl(
        ...['x509', '-req', '-in', request, '-CA', path('ca.pem'), '-CAkey', path('ca.key')],
        ...['-CAcreateserial', '-days', '2', '-extfile', extensions, '-out', cert],
      );
    }
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
  }
}

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: 'ignore' });
}

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { ConfigError } from './config-error.ts';
import type { Config } from './schema.ts';

/** Contents of PEM files, as `node:tls` takes them; what was not configured is not there. */
export interface PemFiles {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

type ClusterKey = keyof Config['cluster'];

/**
 * Reads the files that these settings of `cluster` name and sees that they fit together.
 *
 * @throws ConfigError naming the setting
 */
export function readPemFiles(
  cluster: Config['cluster'],
  settings: { readonly ca: ClusterKey; readonly cert: ClusterKey; readonly key: ClusterKey },
): PemFiles {
  const files: { ca?: string; cert?: string; key?: string } = {};
  for (const part of ['ca', 'cert', 'key'] as const) {
    const path = cluster[settings[part]] as string;
    if (path === '') continue;
    try {
      files[part] = readFileSync(path, 'utf8');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new ConfigError([`cluster.${settings[part]}: ${path} cannot be read (${code ?? ''})`]);
    }
    // `createSecureContext` takes authorities that it cannot read, and every connection is refused then.
    if (part === 'ca' && !isCertificate(files[part])) {
      throw new ConfigError([`cluster.${settings[part]}: ${path} is no certificate in PEM`]);
    }
  }
  try {
    createSecureContext(files);
  } catch (error) {
    const names = Object.keys(files).map((part) => `cluster.${settings[part as 'ca']}`);
    throw new ConfigError([`${names.join(', ')}: cannot be used (${(error as Error).message})`]);
  }
  return files;
}

function isCertificate(text: string): boolean {
  try {
    new X509Certificate(text);
    return true;
  } catch {
    return false;
  }
}

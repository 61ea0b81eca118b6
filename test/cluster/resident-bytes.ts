import { readFile } from 'node:fs/promises';

/** Memory that a process has in use, as Linux counts it. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${String(pid)}/status`, 'utf8');
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(status) ?? [];
  if (kib === undefined) throw new Error(`no VmRSS of process ${String(pid)}`);
  return Number(kib) * 1024;
}

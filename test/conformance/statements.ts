import { readFileSync } from 'node:fs';

/**
 * One normative statement of the MQTT standards, in our words.
 *
 * The ids are those of Appendix B: `MQTT-…` for 5.0 (OASIS Standard, 7 March 2019), `MQTT3-…` for 3.1.1
 * (OASIS Standard, 29 October 2014). Where appendix and body disagree on a label, the body counts: `MQTT-4.2-1`
 * (appendix: 4.2.0-1), and `3.1.2-7` and `3.8.3-4` of 3.1.1, which the appendix misprints.
 */
export interface Statement {
  readonly id: string;
  /**
   * Who must obey. A rule for what clients send is `both` when the server must refuse a packet that breaks
   * it (malformed packet, Protocol Error), and `client` when a server can neither obey nor enforce it.
   */
  readonly binds: 'server' | 'client' | 'both';
  readonly summary: string;
}

/** A statement that no test cites, with the reason. */
export interface AllowListEntry {
  readonly id: string;
  readonly reason: string;
}

/**
 * Reads the statements of both versions, 5.0 first, each in the order of its ids.
 *
 * @throws Error naming the file and line that is not `<id> <binds> <summary>`, separated by tabs.
 */
export function loadStatements(): Statement[] {
  return ['statements-5.0.txt', 'statements-3.1.1.txt'].flatMap((file) =>
    readLines(file).map(({ line, where }) => {
      const [id, binds, summary, ...rest] = line.split('\t');
      if (!id || !isBinds(binds) || !summary || rest.length > 0) {
        throw new Error(`${where}: expected <id> <server|client|both> <summary>, tab separated`);
      }
      return { id, binds, summary };
    }),
  );
}

/**
 * Reads the statements that need no test yet, or can have none.
 *
 * @throws Error naming the line that is not `<id> <reason>`, separated by a tab.
 */
export function loadAllowList(): AllowListEntry[] {
  return readLines('allow-list.txt').map(({ line, where }) => {
    const [id, reason, ...rest] = line.split('\t');
    if (!id || !reason || rest.length > 0) {
      throw new Error(`${where}: expected <id> <reason>, tab separated`);
    }
    return { id, reason };
  });
}

function readLines(file: string): { line: string; where: string }[] {
  return readFileSync(new URL(file, import.meta.url), 'utf8')
    .split('\n')
    .map((line, index) => ({ line, where: `${file}:${index + 1}` }))
    .filter(({ line }) => line !== '');
}

function isBinds(text: string | undefined): text is Statement['binds'] {
  return text === 'server' || text === 'client' || text === 'both';
}

import { expect, test } from '@jest/globals';
import { createLogger } from '../src/telemetry/logger.ts';

function memory() {
  const lines: string[] = [];
  return { lines, destination: { write: (line: string) => void lines.push(line) } };
}

function jsonLogger(level: 'info' | 'warn' = 'info') {
  const { lines, destination } = memory();
  const { logger } = createLogger({ level, format: 'json', nodeId: 'n1', destination });
  return { lines, logger };
}

test('a line is JSON with event, level by name, time and node', () => {
  const { lines, logger } = jsonLogger();
  logger.info({ event: 'session.taken_over', clientId: 'c' }, 'session taken over');
  expect(JSON.parse(lines[0]!)).toEqual({
    level: 'info',
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
    nodeId: 'n1',
    event: 'session.taken_over',
    clientId: 'c',
    msg: 'session taken over',
  });
});

test('the level is obeyed', () => {
  const { lines, logger } = jsonLogger('warn');
  logger.info('no');
  logger.warn('yes');
  expect(lines).toHaveLength(1);
});

test('passwords and payloads are never logged, however deep they are', () => {
  const { lines, logger } = jsonLogger();
  const secret = { password: 'hunter2', payload: Buffer.from('hunter2') };
  logger.info(secret, 'a');
  logger.info({ packet: secret }, 'b');
  logger.info({ packet: { will: secret } }, 'c');
  logger.info({ config: { auth: { users: [{ username: 'ann', password: 'hunter2' }] } } }, 'd');
  expect(lines).toHaveLength(4);
  for (const line of lines) {
    expect(line).not.toContain('hunter2');
    expect(line).not.toContain('104,117'); // nor as bytes
    expect(line).toContain('[redacted]');
  }
});

test('control characters of clients cannot write to a terminal or forge a line', () => {
  const { lines, logger } = jsonLogger();
  const hostile = '\u001b[31m\r\n{"level":"fatal"}\u0000\u009b2J\u007f\u2028\u202e%s%j';
  logger.info({ event: 'x', clientId: hostile, username: hostile, topic: hostile }, 'hello');
  const [line = ''] = lines;
  expect(line.trimEnd()).not.toMatch(/\p{C}|\p{Zl}|\p{Zp}/u);
  expect(JSON.parse(line)).toMatchObject({ level: 'info', msg: 'hello' });
});

test('long text of clients is cut', () => {
  const { lines, logger } = jsonLogger();
  logger.info({ clientId: 'x'.repeat(65_535) }, 'connected');
  expect(lines[0]!.length).toBeLessThan(500);
});

test('the pretty form is one line for people', () => {
  const { lines, destination } = memory();
  const { logger } = createLogger({ level: 'info', format: 'pretty', nodeId: 'n1', destination });
  logger.info({ event: 'broker.listening', port: 1883, clientId: '\u001b[31m' }, 'listening');
  expect(lines.join('')).toMatch(
    /^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: listening \{.*"port":1883.*\}\n$/,
  );
  expect(lines.join('')).not.toContain('\u001b');
});

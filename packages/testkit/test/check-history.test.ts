import { describe, expect, test } from '@jest/globals';
import { History, checkHistory, messagePayload, messageStamp, payloadHash } from '@shoalmq/testkit';
import type { CheckHistoryOptions, HistoryFields, HistoryRecord } from '@shoalmq/testkit';

type Line = HistoryFields;

test('a history gives back what was recorded', () => {
  let now = 0;
  const history = new History(() => (now += 0.5));
  history.record({ op: 'connect', client: 'c', connection: history.nextConnection('c') });
  const full: HistoryRecord = {
    ...{ atMs: 7.25, op: 'deliver', phase: 'info', client: 'd', connection: 70_000, topic: 't/ä' },
    ...{ publisher: 'c', seq: 100_000, qos: 2, dup: true, retain: true, clean: true },
    ...{ resumed: true, fresh: true, hash: -5 },
  };
  history.record(full);
  for (let seq = 1; seq <= 70_000; seq++) history.record({ op: 'publish', seq });
  const records = [...history];
  expect(records[0]).toMatchObject({ atMs: 0.5, op: 'connect', phase: 'ok', connection: 1 });
  expect(records[1]).toEqual(full);
  expect(records).toHaveLength(70_002);
  expect(records.at(-1)).toMatchObject({ op: 'publish', seq: 70_000, client: '' });
  expect(history.nextConnection('c')).toBe(2);
});

test('a payload says whose it is, and any other is nobody’s', () => {
  const payload = messagePayload({ publisher: 'p-1', seq: 42 }, 64);
  expect(payload).toHaveLength(64);
  expect(messageStamp(payload)).toEqual({ publisher: 'p-1', seq: 42 });
  expect(payloadHash(payload)).not.toBe(
    payloadHash(messagePayload({ publisher: 'p-1', seq: 43 }, 64)),
  );
  expect(messageStamp(Buffer.from('something else'))).toEqual({ publisher: '', seq: 0 });
});

const topic = 'a/b';

function connected(client: string, connection = 1, more: Partial<HistoryRecord> = {}): Line {
  return { op: 'connect', client, connection, ...more };
}

function subscribed(client: string, filter = topic, qos: 0 | 1 | 2 = 2): Line[] {
  const line = { op: 'subscribe', client, connection: 1, topic: filter, qos } as const;
  return [{ ...line, phase: 'invoke' }, line];
}

function published(seq: number, qos: 0 | 1 | 2 = 2, more: Partial<HistoryRecord> = {}): Line[] {
  return [invoked(seq, qos, more), acked(seq, qos, more)];
}

function invoked(seq: number, qos: 0 | 1 | 2 = 2, more: Partial<HistoryRecord> = {}): Line {
  const message = { client: 'p', publisher: 'p', topic, seq, qos, hash: seq };
  return { op: 'publish', phase: 'invoke', ...message, ...more };
}

function acked(seq: number, qos: 0 | 1 | 2 = 2, more: Partial<HistoryRecord> = {}): Line {
  return { ...invoked(seq, qos, more), phase: 'ok' };
}

function delivered(
  client: string,
  seq: number,
  qos: 0 | 1 | 2 = 2,
  more: Partial<HistoryRecord> = {},
): Line {
  return {
    ...{ op: 'deliver', client, connection: 1, publisher: 'p', topic, seq, qos, hash: seq },
    ...more,
  };
}

const fault: Line[] = [
  { op: 'fault', phase: 'invoke', client: 'n1' },
  { op: 'fault', phase: 'ok', client: 'n1' },
];

/** Two sessions, one of them back after a fault that cut it off. */
const clean: readonly Line[] = [
  connected('p'),
  connected('s'),
  connected('t', 1, { clean: true }),
  ...subscribed('s', 'a/+'),
  ...subscribed('t', topic, 1),
  ...published(1),
  delivered('s', 1),
  delivered('t', 1, 1),
  invoked(2),
  delivered('s', 2),
  ...fault,
  { op: 'close', client: 's', connection: 1 },
  connected('s', 2, { resumed: true }),
  { ...invoked(2), op: 'resend' },
  acked(2),
  delivered('t', 2, 1),
  ...published(3, 1),
  delivered('s', 3, 1, { connection: 2 }),
  delivered('s', 3, 1, { connection: 2, dup: true }),
  delivered('t', 3, 1),
  { op: 'end' },
  { op: 'close', client: 's', connection: 2 },
];

function rules(lines: readonly Line[], options?: CheckHistoryOptions): string[] {
  const history = new History(() => 0);
  for (const line of lines) history.record(line);
  return [...new Set(checkHistory(history, options).map(({ rule }) => rule))];
}

/** The clean history with the lines that `mutate` makes of each. */
function mutated(mutate: (line: Line) => Line | Line[]): Line[] {
  return clean.flatMap((line) => mutate(line));
}

function isDelivery(line: Line, client: string, seq: number): boolean {
  return line.op === 'deliver' && line.client === client && line.seq === seq;
}

test('a history in which everything holds passes', () => {
  expect(rules(clean, { livenessMsMax: 1 })).toEqual([]);
});

describe('L1', () => {
  test('an acknowledged message that never comes is lost', () => {
    for (const [client, seq] of [
      ['s', 1],
      ['s', 2],
      ['t', 1],
      ['t', 3],
    ] as const) {
      expect(rules(mutated((line) => (isDelivery(line, client, seq) ? [] : line)))).toEqual(['L1']);
    }
  });

  test('nothing is owed that was not acknowledged, or published before SUBACK', () => {
    expect(
      rules([connected('p'), connected('s'), ...subscribed('s'), invoked(1), acked(1)]),
    ).toEqual(['L1']);
    expect(
      rules([
        ...[connected('p'), connected('s'), ...subscribed('s'), invoked(1)],
        { ...invoked(1), phase: 'info' },
      ]),
    ).toEqual([]);
    const [asked, suback] = subscribed('s') as [Line, Line];
    expect(rules([connected('s'), asked, invoked(1), suback, acked(1)])).toEqual([]);
  });

  test('nothing is owed at QoS 0, on either side', () => {
    expect(rules([connected('s'), ...subscribed('s', topic, 0), ...published(1)])).toEqual([]);
    expect(rules([connected('s'), ...subscribed('s'), ...published(1, 0)])).toEqual([]);
  });

  test('nothing is owed to a clean session that ended, but a gap in what it got is a loss', () => {
    const start = [connected('s', 1, { clean: true }), ...subscribed('s')];
    const closed: Line = { op: 'close', client: 's', connection: 1 };
    const messages = [...published(1), ...published(2)];
    expect(rules([...start, ...messages, delivered('s', 1), closed])).toEqual([]);
    expect(rules([...start, ...messages, delivered('s', 2), closed])).toEqual(['L1']);
  });

  test('a session that is gone is a loss', () => {
    const lines = [connected('s'), { op: 'close', client: 's', connection: 1 } as const];
    expect(rules([...lines, connected('s', 2, { resumed: true })])).toEqual([]);
    expect(rules([...lines, connected('s', 2)])).toEqual(['L1']);
    expect(rules([...lines, connected('s', 2, { clean: true })])).toEqual([]);
  });

  test('of a shared group anybody has to get it', () => {
    const filter = `$share/g/${topic}`;
    const group = [connected('s'), connected('t'), ...subscribed('s', filter)];
    const start = [...group, ...subscribed('t', filter), ...published(1)];
    expect(rules([...start, delivered('t', 1)])).toEqual([]);
    expect(rules(start)).toEqual(['L1']);
  });

  test('what was under way to a clean member that died may be lost', () => {
    const filter = `$share/g/${topic}`;
    const group = [connected('s'), connected('t', 1, { clean: true }), ...subscribed('s', filter)];
    const start = [...group, ...subscribed('t', filter), ...published(1)];
    expect(rules([...start, { op: 'close', client: 't', connection: 1 }])).toEqual([]);
  });
});

describe('L2', () => {
  test('a second delivery at QoS 2 is caught, on whatever connection and with whatever flag', () => {
    for (const again of [
      delivered('s', 2, 2, { connection: 2 }),
      delivered('s', 2, 2, { connection: 2, dup: true }),
    ]) {
      expect(rules(mutated((line) => (isDelivery(line, 's', 3) ? [again, line] : line)))).toEqual([
        'L2',
      ]);
    }
  });

  test('two members of a group are one too many', () => {
    const filter = `$share/g/${topic}`;
    const group = [connected('s'), connected('t'), ...subscribed('s', filter)];
    const start = [...group, ...subscribed('t', filter), ...published(1)];
    expect(rules([...start, delivered('s', 1), delivered('t', 1)])).toEqual(['L2']);
  });

  test('a message whose outcome nobody knows comes at most once', () => {
    const start = [connected('s'), ...subscribed('s'), invoked(1)];
    const unknown: Line = { ...invoked(1), phase: 'info' };
    expect(rules([...start, delivered('s', 1), unknown])).toEqual([]);
    expect(rules([...start, delivered('s', 1), unknown, delivered('s', 1)])).toEqual(['L2']);
  });
});

describe('L3', () => {
  const start = [connected('p'), connected('s'), ...subscribed('s', topic, 1)];
  const first = [...published(1, 1), delivered('s', 1, 1)];

  test('a duplicate at QoS 1 without a fault is caught', () => {
    expect(rules([...start, ...first, delivered('s', 1, 1, { dup: true })])).toEqual(['L3']);
    expect(rules(clean.filter(({ op }) => op !== 'fault'))).toEqual(['L3']);
  });

  test('after a fault it is legal as redelivery only', () => {
    const again = (more: Partial<HistoryRecord>) => [
      ...[...start, ...first, ...fault],
      delivered('s', 1, 1, more),
    ];
    expect(rules(again({}))).toEqual(['L3']);
    expect(rules(again({ dup: true }))).toEqual([]);
    expect(rules(again({ connection: 2 }))).toEqual([]);
  });

  test('after a fault it is legal because the publisher sent it again', () => {
    const resent: Line = { ...invoked(1, 1), op: 'resend' };
    expect(
      rules([...start, ...first, ...fault, resent, acked(1, 1), delivered('s', 1, 1)]),
    ).toEqual([]);
  });

  test('nothing is delivered again at QoS 0', () => {
    const lines = [connected('s'), ...subscribed('s', topic, 0), invoked(1, 0), ...fault];
    expect(rules([...lines, delivered('s', 1, 0), delivered('s', 1, 0)])).toEqual(['L3']);
  });
});

describe('L4', () => {
  test('a first delivery after a later one is caught', () => {
    const start = [connected('p'), connected('s'), ...subscribed('s')];
    const messages = [...published(1), ...published(2)];
    expect(rules([...start, ...messages, delivered('s', 2), delivered('s', 1)])).toEqual(['L4']);
  });

  test('publishers, topics and QoS are orders of their own', () => {
    const start = [connected('s'), ...subscribed('s', '#')];
    const other = { topic: 'other' };
    const messages = [...published(1), ...published(2, 1), ...published(3, 2, other)];
    const deliveries = [delivered('s', 3, 2, other), delivered('s', 2, 1), delivered('s', 1)];
    expect(rules([...start, ...messages, ...deliveries])).toEqual([]);
  });

  test('redelivery does not count, and shared subscriptions promise no order', () => {
    const messages = [...published(1, 1), ...published(2, 1)];
    const redelivery = [1, 2].map((seq) => delivered('s', seq, 1, { dup: true }));
    const lines = [connected('s'), ...subscribed('s', topic, 1), ...messages, ...fault];
    expect(rules([...lines, delivered('s', 1, 1), delivered('s', 2, 1), ...redelivery])).toEqual(
      [],
    );
    const shared = [connected('s'), ...subscribed('s', `$share/g/${topic}`), ...messages];
    expect(rules([...shared, delivered('s', 2, 1), delivered('s', 1, 1)])).toEqual([]);
  });
});

describe('L5', () => {
  test('what was never published is caught', () => {
    expect(rules([...clean.slice(0, -2), delivered('s', 9)])).toEqual(['L5']);
    const before = [connected('s'), ...subscribed('s'), delivered('s', 1), ...published(1)];
    expect(rules(before)).toContain('L5');
  });

  test('a payload, topic or QoS that is not what was published is caught', () => {
    for (const wrong of [{ hash: 77 }, { topic: 'a/c' }]) {
      expect(
        rules(mutated((line) => (isDelivery(line, 't', 2) ? { ...line, ...wrong } : line))),
      ).toContain('L5');
    }
    expect(
      rules(mutated((line) => (isDelivery(line, 't', 2) ? { ...line, qos: 2 } : line))),
    ).toEqual(['L5']);
  });

  test('what somebody else subscribed to is caught', () => {
    expect(
      rules([connected('s'), ...subscribed('s', 'x'), ...published(1), delivered('s', 1)]),
    ).toEqual(['L5']);
  });

  test('what was published after UNSUBACK is caught, what was published before is not', () => {
    const start = [connected('p'), connected('s'), ...subscribed('s')];
    const unsubscribe = { op: 'unsubscribe', client: 's', topic } as const;
    const revoked: Line[] = [{ ...unsubscribe, phase: 'invoke' }, unsubscribe];
    expect(rules([...start, ...published(1), ...revoked, delivered('s', 1)])).toEqual([]);
    expect(rules([...start, ...revoked, ...published(1), delivered('s', 1)])).toEqual(['L5']);
    expect(rules([...start, ...revoked, ...published(1)])).toEqual([]);
  });
});

describe('L6', () => {
  const start = [connected('s'), ...subscribed('s', 'wills/+')];
  const will: Line = {
    ...{ op: 'will', client: 'w', publisher: 'w', topic: 'wills/w', seq: 1, qos: 2, hash: 1 },
    phase: 'invoke',
  };
  const came = delivered('s', 1, 2, { publisher: 'w', topic: 'wills/w' });

  test('a will that is due comes once', () => {
    const due: Line = { ...will, phase: 'ok' };
    expect(rules([...start, will, due, came])).toEqual([]);
    expect(rules([...start, will, due])).toEqual(['L6']);
    expect(rules([...start, will, due, came, came])).toEqual(['L6']);
  });

  test('a will that is not due does not come', () => {
    const notDue: Line = { ...will, phase: 'fail' };
    expect(rules([...start, will, notDue])).toEqual([]);
    expect(rules([...start, will, notDue, came])).toEqual(['L6']);
  });

  test('a will whose fate nobody knows comes or not', () => {
    expect(rules([...start, will])).toEqual([]);
    expect(rules([...start, will, came])).toEqual([]);
  });
});

describe('L7', () => {
  const published3 = [1, 2, 3].flatMap((seq) => published(seq, 1, { retain: true }));
  const given = (client: string, seq: number): Line => ({
    ...{ op: 'retained', client, publisher: seq === 0 ? '' : 'p', topic, seq },
  });

  test('every node has the last one', () => {
    expect(rules([...published3, given('n1', 3), given('n2', 3)])).toEqual([]);
    expect(rules([...published3, given('n1', 3), given('n2', 2)])).toEqual(['L7']);
    expect(rules([...published3, given('n1', 2), given('n2', 2)])).toEqual(['L7']);
    expect(rules([...published3, given('n1', 0)])).toEqual(['L7']);
  });

  test('a later one whose outcome nobody knows may be there', () => {
    const unknown: Line[] = [4].flatMap((seq) => [
      invoked(seq, 1, { retain: true }),
      { ...invoked(seq, 1, { retain: true }), phase: 'info' },
    ]);
    expect(rules([...published3, ...unknown, given('n1', 4), given('n2', 4)])).toEqual([]);
    expect(rules([...published3, ...unknown, given('n1', 3), given('n2', 3)])).toEqual([]);
  });
});

describe('L8', () => {
  const both = [connected('c', 1), connected('c', 2, { atMs: 100, resumed: true })];

  test('the older of two connections lives on for a moment only', () => {
    const closed = (atMs: number): Line => ({ op: 'close', client: 'c', connection: 1, atMs });
    expect(rules([...both, closed(600)], { overlapMsMax: 1_000 })).toEqual([]);
    expect(rules([...both, closed(1_200)], { overlapMsMax: 1_000 })).toEqual(['L8']);
  });

  test('what comes on the older one later is caught', () => {
    const lines = [...both, ...subscribed('c'), ...published(1)];
    expect(rules([...lines, delivered('c', 1, 2, { atMs: 5_000 })])).toEqual(['L8']);
    expect(rules([...lines, delivered('c', 1, 2, { atMs: 5_000, connection: 2 })])).toEqual([]);
  });
});

describe('L9', () => {
  test('what is never answered hangs', () => {
    expect(rules([connected('p'), invoked(1)])).toEqual(['L9']);
    expect(rules([connected('p'), invoked(1, 0)])).toEqual([]);
  });

  test('what was acknowledged arrives in time, counted from the last fault and reconnect', () => {
    const lines = (cameMs: number): Line[] => [
      ...[connected('p'), connected('s'), ...subscribed('s')],
      ...published(1, 2, { atMs: 100 }),
      { op: 'fault', phase: 'invoke', client: 'n1', atMs: 200 },
      { op: 'fault', client: 'n1', atMs: 1_000 },
      connected('s', 2, { resumed: true, atMs: 1_500 }),
      delivered('s', 1, 2, { connection: 2, atMs: cameMs }),
    ];
    expect(rules(lines(2_400), { livenessMsMax: 1_000 })).toEqual([]);
    expect(rules(lines(2_600), { livenessMsMax: 1_000 })).toEqual(['L9']);
  });
});

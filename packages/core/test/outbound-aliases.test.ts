import { expect, test } from '@jest/globals';
import { topicOf } from '@shoalmq/testkit';
import { OutboundAliases } from '../src/delivery/outbound-aliases.ts';

test('the first message of a topic carries name and alias, the others the alias alone', () => {
  const aliases = new OutboundAliases(2);
  expect(aliases.use(topicOf('a'))).toEqual({ number: 1, known: false });
  expect(aliases.use(topicOf('b'))).toEqual({ number: 2, known: false });
  expect(aliases.use(topicOf('a'))).toEqual({ number: 1, known: true });
  expect(aliases.use(topicOf('b'))).toEqual({ number: 2, known: true });
});

test('[MQTT-3.1.2-26] topics beyond the maximum have no alias', () => {
  const aliases = new OutboundAliases(1);
  aliases.use(topicOf('a'));
  expect(aliases.use(topicOf('b'))).toBeUndefined();
  expect(aliases.use(topicOf('a'))).toEqual({ number: 1, known: true });
});

test('what was not sent did not tell the client: the name goes out again', () => {
  const aliases = new OutboundAliases(1);
  aliases.use(topicOf('a'));
  aliases.forget(topicOf('a'));
  aliases.forget(topicOf('never used'));
  expect(aliases.use(topicOf('a'))).toEqual({ number: 1, known: false });
  expect(aliases.use(topicOf('a'))).toEqual({ number: 1, known: true });
});

import { describe, expect, test } from '@jest/globals';
import { isSystemTopic, topicNameProblem } from '../src/topic/name.ts';

describe('topicNameProblem', () => {
  test.each(['a', '/', '//', ' ', '$SYS/x', 'a b/c', '\ufeffa', 'größe', '\u{1f41f}', '__proto__'])(
    'accepts %p',
    (name) => {
      expect(topicNameProblem(name, 200)).toBeUndefined();
    },
  );

  test('[MQTT-4.7.3-1] [MQTT3-4.7.3-1] refuses the empty name', () => {
    expect(topicNameProblem('', 200)).toBe('the topic name is empty');
  });

  test.each(['+', '#', 'a/+', 'a/#', 'a+b', 'a#b/c'])(
    '[MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT3-4.7.1-1] refuses a wildcard: %p',
    (name) => {
      expect(topicNameProblem(name, 200)).toBe('the topic name contains a wildcard');
    },
  );

  test('refuses more levels than allowed', () => {
    expect(topicNameProblem('a/b/c', 3)).toBeUndefined();
    expect(topicNameProblem('a/b/c/', 3)).toBe('the topic name has more than 3 levels');
    expect(topicNameProblem('/'.repeat(65_535), 200)).toBe(
      'the topic name has more than 200 levels',
    );
  });

  test('[MQTT-4.7.3-2] [MQTT3-4.7.3-2] refuses U+0000', () => {
    expect(topicNameProblem('a\0', 200)).toBe('a control character');
  });

  test.each([
    ['a\x01', 'a control character'],
    ['a\x7f', 'a control character'],
    ['a\x85', 'a control character'],
    ['a\ufffe', 'a non-character'],
    ['a\ufdd0', 'a non-character'],
    ['a\u{1ffff}', 'a non-character'],
    ['a\ud800', 'a surrogate'],
    ['\udc00\ud800', 'a surrogate'],
  ])('refuses %j: %s', (name, problem) => {
    expect(topicNameProblem(name, 200)).toBe(problem);
  });

  test('[MQTT-4.7.3-3] [MQTT3-4.7.3-3] refuses more than 65,535 bytes of UTF-8', () => {
    expect(topicNameProblem('a'.repeat(65_535), 200)).toBeUndefined();
    expect(topicNameProblem('a'.repeat(65_536), 200)).toBe('more than 65535 bytes');
    expect(topicNameProblem('ä'.repeat(32_768), 200)).toBe('more than 65535 bytes');
    expect(topicNameProblem('\u{1f41f}'.repeat(16_383), 200)).toBeUndefined();
    expect(topicNameProblem('\u{1f41f}'.repeat(16_384), 200)).toBe('more than 65535 bytes');
  });
});

test('system topics begin with $', () => {
  expect(['$SYS', '$', '$foo/x'].every(isSystemTopic)).toBe(true);
  expect(['', 'a', 'a/$SYS', ' $SYS'].some(isSystemTopic)).toBe(false);
});

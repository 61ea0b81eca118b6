import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { configurationDocument } from '../src/config/document.ts';
import { sections } from '../src/config/setting.ts';

test('docs/configuration.md is what the schema says (npm run docs -w @shoalmq/broker)', () => {
  const path = new URL('../../../docs/configuration.md', import.meta.url);
  expect(readFileSync(path, 'utf8')).toBe(configurationDocument());
});

test('every section and setting has a description', () => {
  for (const section of sections()) {
    expect(section.description).not.toBe('');
    for (const setting of section.settings) {
      expect([setting.path, setting.description]).not.toEqual([setting.path, '']);
    }
  }
});

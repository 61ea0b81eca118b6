// Writes docs/configuration.md and docs/metrics.md from the code. Needs a build: `npm run build` first.
import { writeFileSync } from 'node:fs';
import { configurationDocument } from '../dist/config/document.js';
import { metricsDocument } from '../dist/telemetry/metrics-document.js';

for (const [name, text] of [
  ['configuration.md', configurationDocument()],
  ['metrics.md', await metricsDocument()],
]) {
  writeFileSync(new URL(`../../../docs/${name}`, import.meta.url), text);
}

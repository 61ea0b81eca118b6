import { z } from 'zod';
import { configSchema } from './schema.ts';

/** The type of a setting without its default: what a value in text form is coerced to. */
export type SettingType = 'text' | 'integer' | 'boolean' | 'choice' | 'list';

/** One leaf of the schema. */
export interface Setting {
  /** Keys from the root: `['mqtt', 'port']`. */
  readonly path: readonly string[];
  readonly type: SettingType;
  readonly description: string;
  /** `undefined` when the setting has no default. */
  readonly defaultValue: unknown;
  /** Of a `choice`. */
  readonly choices: readonly string[];
  /** Of an `integer`; `undefined`: none but what a number can hold. */
  readonly min: number | undefined;
  readonly max: number | undefined;
}

/** A section of the configuration, with its settings in the order of the schema. */
export interface Section {
  readonly name: string;
  readonly description: string;
  readonly settings: readonly Setting[];
}

/** All settings, by section, in the order of the schema. */
export function sections(): Section[] {
  return Object.entries(configSchema.shape).map(([name, schema]) => ({
    name,
    description: schema.description ?? '',
    settings: Object.entries(objectShape(schema)).map(([key, leaf]) => setting([name, key], leaf)),
  }));
}

/** The environment variable of a setting: `mqtt.allowAnonymous` is `SHOAL_MQTT__ALLOW_ANONYMOUS`. */
export function environmentName(path: readonly string[]): string {
  const upper = (key: string) => key.replace(/[A-Z]/g, '_$&').toUpperCase();
  return `SHOAL_${path.map(upper).join('__')}`;
}

/**
 * Turns text into the type that the schema has at its place, in a whole document. Text that does not fit is left
 * for the schema to refuse. `parseText` additionally reads JSON where the schema wants a list or an object, as in
 * environment variables; in a file, an empty value there means "nothing set".
 */
export function coerce(value: unknown, schema: z.core.$ZodType, parseText: boolean): unknown {
  const inner = unwrap(schema);
  if (inner instanceof z.ZodObject) {
    const object = typeof value === 'string' ? fromText(value, parseText) : value;
    if (typeof object !== 'object' || object === null || Array.isArray(object)) return object;
    const shape = inner.shape as Record<string, z.core.$ZodType>;
    return Object.fromEntries(
      Object.entries(object).map(([key, entry]) => {
        const child = Object.hasOwn(shape, key) ? shape[key] : undefined;
        return [key, child === undefined ? entry : coerce(entry, child, parseText)];
      }),
    );
  }
  if (inner instanceof z.ZodArray) {
    const list = typeof value === 'string' ? fromText(value, parseText) : value;
    if (!Array.isArray(list)) return list;
    return list.map((entry) => coerce(entry, inner.element, parseText));
  }
  if (typeof value !== 'string') return value;
  if (inner instanceof z.ZodNumber && /^-?[0-9]{1,16}$/.test(value)) return Number(value);
  if (inner instanceof z.ZodBoolean && value === 'true') return true;
  if (inner instanceof z.ZodBoolean && value === 'false') return false;
  return value;
}

/** Replaces everything the schema calls a secret by a mark, in a copy. */
export function redactSecrets(value: unknown, schema: z.core.$ZodType, mark: string): unknown {
  const inner = unwrap(schema);
  if (inner instanceof z.ZodObject && typeof value === 'object' && value !== null) {
    const shape = inner.shape as Record<string, z.core.$ZodType>;
    return Object.fromEntries(
      Object.entries(value).map(([key, entry]) => [key, redactSecrets(entry, shape[key]!, mark)]),
    );
  }
  if (inner instanceof z.ZodArray && Array.isArray(value)) {
    return value.map((entry) => redactSecrets(entry, inner.element, mark));
  }
  return z.globalRegistry.get(inner)?.secret === true ? mark : value;
}

function fromText(value: string, parseText: boolean): unknown {
  if (!parseText) return value === '' ? undefined : value;
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}

function setting(path: readonly string[], schema: z.core.$ZodType): Setting {
  const inner = unwrap(schema);
  const isNumber = inner instanceof z.ZodNumber;
  return {
    path,
    type: settingType(inner),
    description: z.globalRegistry.get(schema)?.description ?? '',
    defaultValue: schema instanceof z.ZodDefault ? schema.def.defaultValue : undefined,
    choices: inner instanceof z.ZodEnum ? (inner.options as readonly string[]) : [],
    min: isNumber ? bound(inner.minValue) : undefined,
    max: isNumber ? bound(inner.maxValue) : undefined,
  };
}

function settingType(schema: z.core.$ZodType): SettingType {
  if (schema instanceof z.ZodNumber) return 'integer';
  if (schema instanceof z.ZodBoolean) return 'boolean';
  if (schema instanceof z.ZodEnum) return 'choice';
  if (schema instanceof z.ZodArray) return 'list';
  return 'text';
}

function bound(value: number | null): number | undefined {
  return value === null || !Number.isFinite(value) || Math.abs(value) === Number.MAX_SAFE_INTEGER
    ? undefined
    : value;
}

function objectShape(schema: z.core.$ZodType): Record<string, z.core.$ZodType> {
  const inner = unwrap(schema);
  return inner instanceof z.ZodObject ? inner.shape : {};
}

function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  let inner = schema;
  while (
    inner instanceof z.ZodDefault ||
    inner instanceof z.ZodPrefault ||
    inner instanceof z.ZodOptional
  ) {
    inner = inner.def.innerType;
  }
  return inner;
}

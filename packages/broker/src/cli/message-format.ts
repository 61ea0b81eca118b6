import type { IPublishPacket } from 'mqtt';

export interface MessageFormat {
  readonly verbose: boolean;
  /** As for `-F` of mosquitto_sub; without it the payload alone, or after its topic. */
  readonly format: string | undefined;
  readonly newline: boolean;
}

/** The bytes to print for a message, and what was wrong with it, if anything. */
export interface FormattedMessage {
  readonly bytes: Buffer;
  readonly problem?: string;
}

/**
 * A message as mosquitto_sub prints it: payload bytes as they are, `(null)` for an empty payload after a topic,
 * and nothing at all for one without. `now` is for the formats that show the time.
 */
export function formatMessage(
  packet: IPublishPacket,
  { verbose, format, newline }: MessageFormat,
  now: Date = new Date(),
): FormattedMessage {
  const payload = Buffer.from(packet.payload as Buffer);
  const end = newline ? '\n' : '';
  if (format === undefined) {
    if (verbose)
      return { bytes: join([packet.topic, ' ', payload.length > 0 ? payload : '(null)', end]) };
    return { bytes: payload.length > 0 ? join([payload, end]) : Buffer.alloc(0) };
  }
  const parts: (string | Buffer)[] = [];
  for (let index = 0; index < format.length; index++) {
    const letter = format[index + 1];
    if (format[index] === '%' && letter !== undefined) {
      if (letter === 'J' && !isJson(payload)) {
        const problem = `the payload on topic ${JSON.stringify(packet.topic)} is not valid JSON`;
        return { bytes: Buffer.alloc(0), problem };
      }
      parts.push(field(letter, packet, payload, now));
      index += 1;
    } else if (format[index] === '\\' && letter !== undefined) {
      parts.push(ESCAPES[letter] ?? `\\${letter}`);
      index += 1;
    } else {
      parts.push(format[index]!);
    }
  }
  return { bytes: join([...parts, end]) };
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\',
  '0': '\0',
  a: '\u0007',
  e: '\u001b',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

function field(
  letter: string,
  packet: IPublishPacket,
  payload: Buffer,
  now: Date,
): string | Buffer {
  const { properties = {} } = packet;
  switch (letter) {
    case '%':
      return '%';
    case 't':
      return packet.topic;
    case 'p':
      return payload;
    case 'x':
      return payload.toString('hex');
    case 'X':
      return payload.toString('hex').toUpperCase();
    case 'l':
      return String(payload.length);
    case 'q':
      return String(packet.qos);
    case 'r':
      return packet.retain ? '1' : '0';
    case 'm':
      return String(packet.messageId ?? 0);
    case 'j':
      return json(packet, payload.toString('utf8'), now);
    case 'J':
      return json(packet, JSON.parse(payload.toString('utf8')), now);
    case 'I':
      return now.toISOString().replace(/\.\d+Z$/, '+0000');
    case 'U':
      return (now.getTime() / 1000).toFixed(9);
    case 'A':
      return String(properties.topicAlias ?? '');
    case 'C':
      return properties.contentType ?? '';
    case 'D':
      return properties.correlationData ?? '';
    case 'E':
      return String(properties.messageExpiryInterval ?? '');
    case 'F':
      return properties.payloadFormatIndicator === undefined
        ? ''
        : String(Number(properties.payloadFormatIndicator));
    case 'P':
      return userProperties(packet)
        .map(([name, value]) => `${name}:${value}`)
        .join(' ');
    case 'R':
      return properties.responseTopic ?? '';
    case 'S':
      return [properties.subscriptionIdentifier ?? []].flat().join(' ');
    default:
      return `%${letter}`;
  }
}

function json(packet: IPublishPacket, payload: unknown, now: Date): string {
  const { properties } = packet;
  return JSON.stringify({
    tst: now.toISOString().replace('Z', '000Z+0000'),
    topic: packet.topic,
    qos: packet.qos,
    retain: packet.retain ? 1 : 0,
    payloadlen: packet.payload.length,
    ...(packet.qos > 0 ? { mid: packet.messageId } : {}),
    ...(properties === undefined ? {} : { properties: jsonProperties(packet) }),
    payload,
  });
}

function jsonProperties(packet: IPublishPacket): object {
  const { properties = {} } = packet;
  return {
    'payload-format-indicator':
      properties.payloadFormatIndicator === undefined
        ? undefined
        : Number(properties.payloadFormatIndicator),
    'message-expiry-interval': properties.messageExpiryInterval,
    'content-type': properties.contentType,
    'response-topic': properties.responseTopic,
    'correlation-data': properties.correlationData?.toString('utf8'),
    'user-properties': properties.userProperties,
    'subscription-identifier': properties.subscriptionIdentifier,
  };
}

function userProperties({ properties }: IPublishPacket): [name: string, value: string][] {
  return Object.entries(properties?.userProperties ?? {}).flatMap(([name, values]) =>
    [values].flat().map((value): [string, string] => [name, value]),
  );
}

function isJson(payload: Buffer): boolean {
  try {
    JSON.parse(payload.toString('utf8'));
    return true;
  } catch {
    return false;
  }
}

function join(parts: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
}

import { expect, test } from '@jest/globals';

import {
  decodeReceiveMaximum,
  decodeVariableInteger,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
} from '../src/wire.ts';

test('CONNECT and SUBSCRIBE have the bytes of the standard', () => {
  const connect = { clientId: 'ab', keepAliveSeconds: 600 };
  expect(encodeConnect({ ...connect, level: 4 }).toString('hex')).toBe(
    '100e00044d5154540402025800026162',
  );
  expect(encodeConnect({ ...connect, level: 5 }).toString('hex')).toBe(
    '100f00044d515454050202580000026162',
  );
  const persistent = { ...connect, persistent: true };
  expect(encodeConnect({ ...persistent, level: 4 }).toString('hex')).toBe(
    '100e00044d5154540400025800026162',
  );
  expect(encodeConnect({ ...persistent, level: 5 }).toString('hex')).toBe(
    '101400044d5154540500025805' + '11ffffffff' + '00026162',
  );
  const subscribe = { packetId: 1, filters: ['a/#', 'b'], qos: 1 } as const;
  expect(encodeSubscribe({ ...subscribe, level: 4 }).toString('hex')).toBe(
    '820c00010003612f23010001' + '6201',
  );
  expect(encodeSubscribe({ ...subscribe, level: 5 }).toString('hex')).toBe(
    '820d0001000003612f23010001' + '6201',
  );
});

test('a PUBLISH template says where packet id and payload are', () => {
  for (const level of [4, 5] as const) {
    const plain = encodePublish({ topic: 't', payloadBytes: 300, qos: 0, level });
    expect(plain.bytes.subarray(0, 3).toString('hex')).toBe(level === 4 ? '30af02' : '30b002');
    expect(plain.bytes.length - plain.payloadOffset).toBe(300);
    expect(plain.packetIdOffset).toBe(0);
    const acknowledged = encodePublish({ topic: 't', payloadBytes: 16, qos: 2, level });
    expect(acknowledged.bytes.readUInt8(0)).toBe(0x34);
    expect(acknowledged.packetIdOffset).toBe(2 + 3);
    expect(acknowledged.payloadOffset).toBe(2 + 3 + 2 + (level === 5 ? 1 : 0));
  }
  const retained = encodePublish({ topic: 't', payloadBytes: 16, qos: 1, level: 4, retain: true });
  expect(retained.bytes.readUInt8(0)).toBe(0x33);
});

test('a variable byte integer is read, awaited when cut off, and refused when too long', () => {
  const decode = (...bytes: number[]) =>
    decodeVariableInteger(new DataView(Uint8Array.from(bytes).buffer), 0, bytes.length);
  expect(decode(0x7f)).toEqual({ value: 127, next: 1 });
  expect(decode(0xff, 0xff, 0xff, 0x7f)).toEqual({ value: 268_435_455, next: 4 });
  expect(decode(0x80)).toBeUndefined();
  expect(() => decode(0x80, 0x80, 0x80, 0x80)).toThrow('malformed');
});

test('the Receive Maximum is found among the properties of a CONNACK', () => {
  const maximum = (properties: string): number => {
    const bytes = Buffer.from(properties, 'hex');
    return decodeReceiveMaximum(Buffer.from([0, 0, bytes.length, ...bytes]), 5);
  };
  expect(maximum('22000a210014')).toBe(20);
  expect(maximum('1200026162' + '26000161000162' + '2500' + '2700001000' + '2103e8')).toBe(1000);
  expect(maximum('')).toBe(65_535);
  expect(decodeReceiveMaximum(Buffer.from([0, 0]), 4)).toBe(65_535);
});

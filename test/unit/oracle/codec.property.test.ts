import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { epoch } from "../../../src/base/epoch.ts";
import type { Codec } from "../../../src/base/shape.ts";
import { changesCodec, commandCodec, outcomeCodec } from "../../../src/oracle/rules/codec.ts";
import type { OracleCommand } from "../../../src/oracle/rules/command.ts";
import { checkDecoder, fromHex, toHex, tryDecode } from "../../support/decoding.ts";
import { at, OracleLife, unbuffered } from "../../support/oracle-life.ts";
import { anyLife } from "../../support/oracle-steps.ts";
import { anyChanges, anyCommand, anyOutcome, anyText } from "../../support/oracle-values.ts";
import { property } from "../../support/property.ts";

checkCodec("a command", commandCodec, anyCommand);
checkCodec("an outcome", outcomeCodec, anyOutcome);
checkCodec("a list of changes", changesCodec, anyChanges);

property(
  "whatever command can be read, at any moment, its result can be read",
  fc.property(anyLife, anyCommand, fc.boolean(), (steps, command, isFromLeader) => {
    const { machine } = new OracleLife().live(steps);
    const { fence, clock } = machine.state;
    const led = isFromLeader && command.epoch !== undefined ? { ...command, epoch: fence, now: clock } : command;
    const encoded = commandCodec.encode(led);
    outcomeCodec.decode(machine.apply(encoded, at(led.epoch ?? fence)));
  }),
);

describe("numbers at the end of what can be written", () => {
  const most = Number.MAX_SAFE_INTEGER;
  const [leader, now, holder] = [epoch(1n), 1_000, Uint8Array.of(1)];
  const limits = { maxKeys: 1, maxKeyBytes: 1, maxCount: 1, maxBatchKeys: 1, maxLeases: 1, maxHolderBytes: 1 };
  const takeOver = { type: "take-over", epoch: leader, now, failoverAdvanceMs: 0, maxClockJumpMs: 0, limits } as const;

  test.each<OracleCommand>([
    { ...takeOver, now: most, failoverAdvanceMs: most },
    { ...takeOver, failoverAdvanceMs: most, maxClockJumpMs: most },
    { type: "advance", epoch: leader, now, atLeast: most },
    { type: "lease-acquire", epoch: leader, now, holder, holderEpoch: 0n, ttlMs: most },
  ])("are refused in a $type by an outcome that can be read", (command) => {
    const { machine } = new OracleLife();
    machine.apply(commandCodec.encode(takeOver), at(leader));
    const outcome = outcomeCodec.decode(machine.apply(commandCodec.encode(command), at(leader)));
    expect(outcome.type).toBe("refused");
  });
});

property(
  "a text that is not UTF-8 is refused",
  fc.property(anyText, fc.nat(), fc.integer({ min: 0x80, max: 0xbf }), (key, place, continuation) => {
    const first = "d30000000000000000";
    const encoded = new Uint8Array(commandCodec.encode({ type: "sequence-init", key, first: 0n }));
    const utf8 = new TextEncoder().encode(key);
    const end = encoded.length - first.length / 2;
    expect(toHex(encoded.subarray(end - utf8.length))).toBe(toHex(utf8) + first);
    fc.pre(key !== "");

    // A continuation byte where a character begins belongs to nothing.
    const characters = [...key];
    const before = new TextEncoder().encode(characters.slice(0, place % characters.length).join(""));
    encoded[end - utf8.length + before.length] = continuation;
    expect(tryDecode(commandCodec, encoded)).toBeUndefined();
  }),
);

test("a byte order mark is a part of its text, however long the text is", () => {
  for (const length of [1, 30, 100, 1_000]) {
    const command: OracleCommand = { type: "sequence-init", key: `\ufeff${"k".repeat(length)}`, first: 0n };
    expect(commandCodec.decode(commandCodec.encode(command))).toEqual(command);
  }
});

test("two keys that differ in a lone surrogate are not written as one", () => {
  const init = (key: string): OracleCommand => ({ type: "sequence-init", key, first: 0n });
  for (const surrogate of ["\ud800", "\udfff"]) {
    for (const padding of ["", "k".repeat(100)]) expect(() => commandCodec.encode(init(surrogate + padding))).toThrow("TSO_WRONG_FORMAT");
  }
});

test("a number beyond 64 bits is refused", () => {
  const beyond = `c7094201${"00".repeat(8)}`; // 2^64, by an extension of msgpack
  for (const hex of [`92019205 93c0a161${beyond}`, `9201920392 92${beyond}${beyond}05`, `9201920392 92${beyond}cf${"00".repeat(8)}05`]) {
    expect(tryDecode(commandCodec, fromHex(hex.replaceAll(" ", ""))), hex).toBeUndefined();
  }
});

test.each([
  ["a date", "d6ff00000001"],
  ["a map", "81a16101"],
  ["nothing", "c0"],
  ["true", "c3"],
  ["a fraction", "cb3ff8000000000000"],
  ["minus one", "ff"],
  ["not a number", "cb7ff8000000000000"],
  ["a 64-bit number", "cf0000000000000005"],
  ["a text", "a135"],
  ["an extension of a type that nobody knows", "d40100"],
])("%s is no moment in time", (_, hex) => {
  expect(tryDecode(commandCodec, fromHex(`92019203 92 92cf${"00".repeat(8)}cf${"00".repeat(8)} ${hex}`.replaceAll(" ", "")))).toBeUndefined();
});

test("bytes are a Uint8Array and no Buffer, whichever of the two they were read from", () => {
  const encoded = commandCodec.encode({ type: "lease-acquire", epoch: epoch(1n), now: 1, holder: Uint8Array.of(1, 2), holderEpoch: 0n, ttlMs: 1 });
  for (const source of [new Uint8Array(encoded), Buffer.from(encoded)]) {
    const command = commandCodec.decode(source);
    expect(command.type === "lease-acquire" && command.holder.constructor.name).toBe("Uint8Array");
  }
});

test("an encoding is a Uint8Array with a buffer of its own", () => {
  const encoded = commandCodec.encode({ type: "expire", epoch: epoch(1n), now: 1 });
  expect(encoded.constructor.name).toBe("Uint8Array");
  expect(encoded.buffer.byteLength).toBe(encoded.length);
});

test("what is decoded keeps nothing of the bytes it came from", () => {
  const encoded = new Uint8Array(
    commandCodec.encode({ type: "lease-acquire", epoch: epoch(1n), now: 1, holder: Uint8Array.of(1, 2), holderEpoch: 0n, ttlMs: 1 }),
  );
  const command = commandCodec.decode(encoded);
  encoded.fill(0);
  expect(command.type === "lease-acquire" && [...command.holder]).toEqual([1, 2]);
});

function checkCodec<T>(what: string, codec: Codec<T>, any: fc.Arbitrary<T>): void {
  describe(what, () => {
    property(
      `${what} comes back from its bytes`,
      fc.property(any, (value) => {
        const encoded = new Uint8Array(codec.encode(value));
        expect(codec.decode(encoded)).toEqual(value);
        expect(unbuffered(codec.decode(Buffer.from(encoded)))).toEqual(value);
      }),
    );

    property(
      `the bytes of ${what} depend on nothing but it, nor does what they are read as`,
      fc.property(any, fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 5 }), (value, noises) => {
        const encoded = toHex(codec.encode(value));
        for (const noise of noises) checkDecoder(codec, noise);
        expect(toHex(codec.encode(value))).toBe(encoded);
        expect(codec.decode(fromHex(encoded))).toEqual(value);
      }),
    );

    property(
      `${what} that is cut short is refused`,
      fc.property(any, fc.array(fc.nat(), { minLength: 1, maxLength: 10 }), (value, lengths) => {
        const encoded = codec.encode(value);
        for (const length of lengths) expect(checkDecoder(codec, encoded.subarray(0, length % encoded.length))).toBe("refused");
      }),
    );

    property(
      `random bytes are refused, or read as ${what}`,
      fc.property(fc.uint8Array({ maxLength: 60 }), (noise) => {
        checkDecoder(codec, noise);
        checkDecoder(codec, Uint8Array.of(0x92, 1, ...noise));
      }),
    );

    property(
      `${what} with flipped bits is refused, or read as another`,
      fc.property(any, fc.array(fc.nat(), { minLength: 1, maxLength: 3 }), (value, places) => {
        const flipped = new Uint8Array(codec.encode(value));
        for (const place of places) flipped.set([(flipped[(place >> 3) % flipped.length] ?? 0) ^ (1 << (place & 7))], (place >> 3) % flipped.length);
        checkDecoder(codec, flipped);
      }),
    );

    property(
      `${what} of a later format is refused`,
      fc.property(any, fc.integer({ min: 2, max: 0x7f }), (value, format) => {
        const later = new Uint8Array(codec.encode(value));
        later[1] = format;
        expect(() => codec.decode(later)).toThrow(new RegExp(`^TSO_WRONG_FORMAT: .* has format ${format}, and this release reads up to 1$`));
      }),
    );
  });
}

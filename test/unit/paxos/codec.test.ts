/**
 * The bytes of every message and of an image. Nodes of two releases say them to each other, and find them on their disks: a row that must change is a change of
 * the format, and of its version. Computed by another program, from the order of the fields.
 */
import { describe, expect, test } from "vitest";
import type { NodeId, Slot } from "../../../src/base/ids.ts";
import { type Configuration, configurationCodec } from "../../../src/paxos/core/configuration.ts";
import { createEntry } from "../../../src/paxos/core/entry.ts";
import { imageCodec } from "../../../src/paxos/core/image-codec.ts";
import { messageCodec } from "../../../src/paxos/core/message-codec.ts";
import type { PaxosMessage } from "../../../src/paxos/core/messages.ts";
import type { SnapshotMeta } from "../../../src/paxos/core/snapshot.ts";
import { fromHex, toHex } from "../../support/decoding.ts";
import { MESSAGE_TYPES } from "../../support/paxos-values.ts";

/** Plain numbers for branded ones: what follows is of the type it is given to, but for its brands. */
type Plain<T> = T extends number ? number : T extends Uint8Array | string | boolean | undefined ? T : { readonly [Name in keyof T]: Plain<T[Name]> };
type Type = PaxosMessage["type"];

const low = { round: 1, prio: 0, node: 1 };
const high = { round: 2 ** 40, prio: 0xffff, node: 0xffff_ffff };
const first = createEntry({
  slot: 7 as Slot,
  origin: { round: 1, prio: 0, node: 1 as NodeId },
  kind: "start",
  payload: new Uint8Array(),
  previousChain: 9,
});
const second = createEntry({
  slot: 8 as Slot,
  origin: { round: 2, prio: 3, node: 4 as NodeId },
  kind: "app",
  payload: Uint8Array.of(5),
  previousChain: first.chain,
});
const entries = [first, second];
const configuration: Plain<Configuration> = {
  version: 3,
  slot: 6,
  members: [
    { id: 1, storageId: "00ff", role: "voter", address: "a:1", prio: 9 },
    { id: 2, storageId: "11ee", role: "learner", address: "é", prio: 0 },
  ],
  nextNodeId: 3,
};
const state = { accepted: low, last: 8, lastOrigin: low, decidedThrough: 6, decidedOrigin: low, cut: 1 };
const id = { boot: 2, count: 300 };
const snapshot: Plain<SnapshotMeta> = { id: "0f".repeat(16), slot: 6, origin: low, chain: 9, configuration, bytes: 70_000, sha256: "a5".repeat(32) };

/** Some types have a second row, for the fields and the reasons that the first has not. */
const MESSAGES: {
  readonly [Name in Type]: readonly (readonly [message: Omit<Plain<Extract<PaxosMessage, { type: Name }>>, "type">, hex: string])[];
} = {
  heartbeat: [
    [{ round: 5, decidedThrough: 6, readSeq: 0, configVersion: 3 }, "920192019505c0060003"],
    [{ round: 5, ballot: high, decidedThrough: 6, readSeq: 7, configVersion: 3 }, "92019201950593cb4270000000000000cdffffceffffffff060703"],
  ],
  "heartbeat-reply": [
    [
      { round: 5, promised: low, happy: false, hasRoom: true, configVersion: 3, decidedThrough: 6, last: 8, readSeq: 0 },
      "920192029b0593010001c0c2c3030608c000c0",
    ],
    [
      {
        round: 5,
        promised: high,
        leader: low,
        happy: true,
        hasRoom: false,
        configVersion: 3,
        decidedThrough: 6,
        last: 8,
        accepted: { ballot: low, through: 8, cut: 1 },
        readSeq: 7,
        seen: { promised: high, accepted: low, cut: 1, last: 8 },
      },
      "920192029b0593cb4270000000000000cdffffceffffffff93010001c3c203060893930100010801079493cb4270000000000000cdffffceffffffff930100010108",
    ],
  ],
  prepare: [
    [
      { ballot: high, decidedThrough: 6, accepted: low, last: 8, lastOrigin: low },
      "920192039593cb4270000000000000cdffffceffffffff06930100010893010001",
    ],
  ],
  promise: [
    [
      { ballot: high, ...state, compactedThrough: 4, configuration },
      "920192049a93cb4270000000000000cdffffceffffffff93010001089301000106930100010104940306929501c4043030666600c403613a31099502c4043131656501c402c3a90003c0",
    ],
    [
      { ballot: high, ...state, compactedThrough: 4, configuration, tail: { after: 6, entries } },
      "920192049a93cb4270000000000000cdffffceffffffff93010001089301000106930100010104940306929501c4043030666600c403613a31099502c4043131656501c402c3a90003920692c426e70000000700000000000000010000000000000000000100000000000000268b2cd1c349f80cc427e7010000080000000000000002000000000000000300040000000100000005085f347374409a03",
    ],
  ],
  reject: [
    [{ re: low, reason: "ballot", promised: high, decidedThrough: 6 }, "9201920594930100010093cb4270000000000000cdffffceffffffff06"],
    [{ re: low, reason: "unpromised", promised: high, decidedThrough: 6 }, "9201920594930100010193cb4270000000000000cdffffceffffffff06"],
    [{ re: low, reason: "happy", promised: high, decidedThrough: 6 }, "9201920594930100010293cb4270000000000000cdffffceffffffff06"],
    [{ re: low, reason: "grace", promised: high, decidedThrough: 6 }, "9201920594930100010393cb4270000000000000cdffffceffffffff06"],
    [{ re: low, reason: "stale", promised: high, decidedThrough: 6 }, "9201920594930100010493cb4270000000000000cdffffceffffffff06"],
  ],
  sync: [
    [
      { ballot: high, base: 6, baseOrigin: low, entries, floor: 8, decidedThrough: 5 },
      "920192069693cb4270000000000000cdffffceffffffff069301000192c426e70000000700000000000000010000000000000000000100000000000000268b2cd1c349f80cc427e7010000080000000000000002000000000000000300040000000100000005085f347374409a030805",
    ],
  ],
  "sync-request": [[{ ballot: high, ...state }, "920192079793cb4270000000000000cdffffceffffffff930100010893010001069301000101"]],
  accept: [
    [
      { ballot: high, base: 6, baseChain: 9, entries, decidedThrough: 5 },
      "920192089593cb4270000000000000cdffffceffffffff060992c426e70000000700000000000000010000000000000000000100000000000000268b2cd1c349f80cc427e7010000080000000000000002000000000000000300040000000100000005085f347374409a0305",
    ],
  ],
  accepted: [[{ ballot: high, through: 8, cut: 0xffff_ffff }, "920192099393cb4270000000000000cdffffceffffffff08ceffffffff"]],
  nack: [
    [{ ballot: high, match: 8, reason: "gap" }, "9201920a9393cb4270000000000000cdffffceffffffff0800"],
    [{ ballot: high, match: 8, reason: "busy" }, "9201920a9393cb4270000000000000cdffffceffffffff0801"],
  ],
  decide: [[{ ballot: high, decidedThrough: Number.MAX_SAFE_INTEGER }, "9201920b9293cb4270000000000000cdffffceffffffffcb433fffffffffffff"]],
  "catchup-hint": [[{ ballot: high, decidedThrough: 6 }, "9201920c9293cb4270000000000000cdffffceffffffff06"]],
  "fetch-request": [
    [{ id, kind: "facts", after: 6, afterOrigin: low, maxBytes: 1_048_576 }, "9201920d969202cd012c00c00693010001ce00100000"],
    [
      { id, kind: "tail", ballot: high, after: 6, afterOrigin: low, maxBytes: 1_048_576 },
      "9201920d969202cd012c0193cb4270000000000000cdffffceffffffff0693010001ce00100000",
    ],
  ],
  "fetch-reply": [
    [
      { id, after: 6, entries, decidedThrough: 5 },
      "9201920e969202cd012c0692c426e70000000700000000000000010000000000000000000100000000000000268b2cd1c349f80cc427e7010000080000000000000002000000000000000300040000000100000005085f347374409a0305c0c0",
    ],
    [{ id, after: 6, entries: [], decidedThrough: 5, problem: "mismatch" }, "9201920e969202cd012c06900500c0"],
    [{ id, after: 6, entries: [], decidedThrough: 5, problem: "facts-first" }, "9201920e969202cd012c06900501c0"],
    [
      { id, after: 6, entries: [], decidedThrough: 5, snapshot },
      "9201920e969202cd012c069005c097c4203066306630663066306630663066306630663066306630663066306630663066069301000109940306929501c4043030666600c403613a31099502c4043131656501c402c3a90003ce00011170c44061356135613561356135613561356135613561356135613561356135613561356135613561356135613561356135613561356135613561356135613561356135",
    ],
  ],
  "read-request": [[{ id }, "9201920f919202cd012c"]],
  "read-reply": [
    [{ id }, "92019210929202cd012cc0"],
    [{ id, through: 8 }, "92019210929202cd012c08"],
  ],
  "snapshot-request": [
    [
      { snapshot: snapshot.id, position: 65_536, length: 4_096 },
      "9201921193c4203066306630663066306630663066306630663066306630663066306630663066ce00010000cd1000",
    ],
  ],
  "snapshot-chunk": [
    [
      { snapshot: snapshot.id, position: 65_536, bytes: Uint8Array.of(1, 2), crc: 0xffff_fffe },
      "9201921294c4203066306630663066306630663066306630663066306630663066306630663066ce00010000c4020102cefffffffe",
    ],
    [
      { snapshot: snapshot.id, position: 65_536, crc: 0 },
      "9201921294c4203066306630663066306630663066306630663066306630663066306630663066ce00010000c000",
    ],
  ],
};

describe.each(MESSAGE_TYPES)("the bytes of a message of type %s", (type) => {
  test.each(MESSAGES[type].map(([fields, hex], row) => [row, { type, ...fields } as PaxosMessage, hex] as const))("row %i", (_, message, hex) => {
    expect(toHex(messageCodec.encode(message))).toBe(hex);
    expect(messageCodec.decode(fromHex(hex))).toEqual(message);
  });
});

test("the bytes of a configuration", () => {
  const hex = "9201940306929501c4043030666600c403613a31099502c4043131656501c402c3a90003";
  expect(toHex(configurationCodec.encode(configuration as Configuration))).toBe(hex);
  expect(configurationCodec.decode(fromHex(hex))).toEqual(configuration);
});

test("the bytes of an image", () => {
  const image = {
    promised: high,
    accepted: low,
    last: 8,
    lastOrigin: low,
    lastChain: 0xffff_fffe,
    decidedThrough: 6,
    configuration,
    cut: 1,
    compactedThrough: 4,
    compactedOrigin: low,
    compactedChain: 9,
  };
  const hex =
    "92019b93cb4270000000000000cdffffceffffffff930100010893010001cefffffffe06940306929501c4043030666600c403613a31099502c4043131656501c402c3a9000301049301000109";
  expect(toHex(imageCodec.encode(image as unknown as Parameters<typeof imageCodec.encode>[0]))).toBe(hex);
  expect(imageCodec.decode(fromHex(hex))).toEqual(image);
});

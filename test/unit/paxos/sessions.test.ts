import { expect, test } from "vitest";
import type { NodeId } from "../../../src/base/ids.ts";
import { SESSIONS_MAX, Sessions } from "../../../src/paxos/core/sessions.ts";

const one = 1 as NodeId;
const two = 2 as NodeId;

test("a process is accepted, and again for as long as nobody contradicts it", () => {
  const sessions = new Sessions();
  expect(sessions.admit({ node: one, storageId: "a", boot: 3, nonce: 7 })).toBe("accepted");
  expect(sessions.admit({ node: one, storageId: "a", boot: 3, nonce: 7 })).toBe("accepted");
  expect(sessions.admit({ node: two, storageId: "b", boot: 3, nonce: 8 })).toBe("accepted");
  expect(sessions.accepted({ node: one, storageId: "a" })).toMatchObject({ boot: 3, nonce: 7 });
});

test("a later process replaces the one before it, which is refused from then on", () => {
  const sessions = new Sessions();
  sessions.admit({ node: one, storageId: "a", boot: 3, nonce: 7 });
  expect(sessions.admit({ node: one, storageId: "a", boot: 4, nonce: 9 })).toBe("accepted");
  expect(sessions.admit({ node: one, storageId: "a", boot: 3, nonce: 7 })).toBe("older-boot");
  expect(sessions.accepted({ node: one, storageId: "a" })).toMatchObject({ boot: 4, nonce: 9 });
});

test("two processes with one boot count are both refused, until one is started anew", () => {
  const sessions = new Sessions();
  sessions.admit({ node: one, storageId: "a", boot: 3, nonce: 7 });
  expect(sessions.admit({ node: one, storageId: "a", boot: 3, nonce: 8 })).toBe("duplicate-process");
  expect(sessions.admit({ node: one, storageId: "a", boot: 3, nonce: 7 })).toBe("duplicate-process");
  expect(sessions.accepted({ node: one, storageId: "a" })).toBeUndefined();
  expect(sessions.admit({ node: one, storageId: "a", boot: 4, nonce: 9 })).toBe("accepted");
  expect(sessions.admit({ node: one, storageId: "a", boot: 3, nonce: 8 })).toBe("older-boot");
});

test("another disk's count says nothing: a node that was once started on a wrong directory is accepted again with its own", () => {
  const sessions = new Sessions();
  sessions.admit({ node: one, storageId: "a", boot: 3, nonce: 7 });
  expect(sessions.admit({ node: one, storageId: "wrong", boot: 9, nonce: 8 })).toBe("accepted");
  expect(sessions.admit({ node: one, storageId: "a", boot: 4, nonce: 9 })).toBe("accepted");
  expect(sessions.admit({ node: one, storageId: "a", boot: 3, nonce: 7 })).toBe("older-boot");
});

test("no more disks are remembered than the limit; those that are known are heard all the same", () => {
  const sessions = new Sessions();
  for (let disk = 0; disk < SESSIONS_MAX; disk++) expect(sessions.admit({ node: one, storageId: `${disk}`, boot: 1, nonce: 1 })).toBe("accepted");
  expect(sessions.admit({ node: one, storageId: "one more", boot: 1, nonce: 1 })).toBe("too-many-disks");
  expect(sessions.accepted({ node: one, storageId: "one more" })).toBeUndefined();
  expect(sessions.admit({ node: one, storageId: "0", boot: 2, nonce: 2 })).toBe("accepted");
});

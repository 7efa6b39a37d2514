import { expect, test } from "vitest";
import type { NodeId } from "../../../src/base/ids.ts";
import { Sessions } from "../../../src/paxos/core/sessions.ts";

const one = 1 as NodeId;
const two = 2 as NodeId;

test("a process is accepted, and again for as long as nobody contradicts it", () => {
  const sessions = new Sessions();
  expect(sessions.admit({ node: one, boot: 3, nonce: 7 })).toBe("accepted");
  expect(sessions.admit({ node: one, boot: 3, nonce: 7 })).toBe("accepted");
  expect(sessions.admit({ node: two, boot: 3, nonce: 8 })).toBe("accepted");
  expect(sessions.accepted(one)).toMatchObject({ boot: 3, nonce: 7 });
});

test("a later process replaces the one before it, which is refused from then on", () => {
  const sessions = new Sessions();
  sessions.admit({ node: one, boot: 3, nonce: 7 });
  expect(sessions.admit({ node: one, boot: 4, nonce: 9 })).toBe("accepted");
  expect(sessions.admit({ node: one, boot: 3, nonce: 7 })).toBe("older-boot");
  expect(sessions.accepted(one)).toMatchObject({ boot: 4, nonce: 9 });
});

test("two processes with one boot count are both refused, until one is started anew", () => {
  const sessions = new Sessions();
  sessions.admit({ node: one, boot: 3, nonce: 7 });
  expect(sessions.admit({ node: one, boot: 3, nonce: 8 })).toBe("duplicate-process");
  expect(sessions.admit({ node: one, boot: 3, nonce: 7 })).toBe("duplicate-process");
  expect(sessions.accepted(one)).toBeUndefined();
  expect(sessions.admit({ node: one, boot: 4, nonce: 9 })).toBe("accepted");
  expect(sessions.admit({ node: one, boot: 3, nonce: 8 })).toBe("older-boot");
});

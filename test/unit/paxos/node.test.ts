import { afterEach, describe, expect, test } from "vitest";
import { encodeUtf8 } from "../../../src/base/bytes.ts";
import { NodeWorld } from "../../support/node-world.ts";

let world = new NodeWorld();
afterEach(() => world.end());

describe("three nodes", () => {
  test("form a cluster, elect a leader, and apply the same", async () => {
    world = new NodeWorld();
    await world.startAll();
    for (let count = 1; count <= 20; count++) await world.apply(`command ${count}`);
    const expected = Array.from({ length: 20 }, (_, index) => `command ${index + 1}`);
    for (const id of world.ids) {
      await world.until(`node ${id} has applied all`, () => world.running(id).machine.commands.length === 20);
      expect(world.running(id).machine.commands).toEqual(expected);
    }
    const { node } = await world.leader();
    const outcome = await node.propose(encodeUtf8("one more"));
    expect(outcome).toMatchObject({ type: "applied", result: encodeUtf8("21") });
  });
});

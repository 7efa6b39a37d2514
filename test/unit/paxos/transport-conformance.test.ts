/** The transport in one process keeps to what every transport must do: on a quiet network, and on one of a seed's making. */
import { describe, test } from "vitest";
import { MemoryNetwork, type MemoryNetworkOptions } from "../../../src/paxos/transport/memory.ts";
import { transportConformance } from "../../../src/testing/transport-conformance.ts";
import type { TransportNetwork } from "../../../src/testing/transport-stage.ts";
import { IdleTimers } from "../../support/peer-timers.ts";

function networkOf(options: MemoryNetworkOptions): () => Promise<TransportNetwork> {
  return async () => {
    const network = new MemoryNetwork({ timers: new IdleTimers(), ...options });
    return {
      open: async ({ place, claim, receiver, options: limits }) => network.open({ address: place, claim, receiver, ...limits }),
      address: (_, to) => to,
      kill: (place) => network.kill(place),
      cut: (place, other) => network.cut(place, other),
      hold: (place, other, held) => network.hold(place, other, held),
      cleanUp: () => undefined,
    };
  };
}

describe.each<MemoryNetworkOptions>([{}, { seed: 7, delayMaxMs: 5 }])("in one process, %j", (options) => {
  for (const { name, run } of transportConformance(networkOf(options))) test(name, run);
});

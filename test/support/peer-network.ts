/** gRPC transports over loopback, a proxy between each two places. */
import { grpcTransport } from "../../src/paxos/transport/grpc.ts";
import type { PeerTransport } from "../../src/paxos/transport/transport.ts";
import type { TransportNetwork, TransportProcess } from "../../src/testing/transport-stage.ts";
import { PeerProxy } from "./peer-proxy.ts";

export class PeerNetwork implements TransportNetwork {
  readonly #proxies = new Map<string, { readonly from: string; readonly to: string; readonly proxy: PeerProxy }>();
  readonly #transports = new Map<string, PeerTransport>();
  readonly #dead = new Set<string>();

  async open({ place, claim, receiver, options }: TransportProcess): Promise<PeerTransport> {
    const transport = await grpcTransport({ listen: "127.0.0.1:0", ...options })(claim, receiver);
    this.#transports.set(place, transport);
    this.#dead.delete(place);
    this.#arrange();
    return transport;
  }

  address(from: string, to: string): string {
    return this.proxy(from, to).address;
  }

  proxy(from: string, to: string): PeerProxy {
    const name = `${from} ${to}`;
    const known = this.#proxies.get(name);
    if (known !== undefined) return known.proxy;
    const proxy = new PeerProxy();
    this.#proxies.set(name, { from, to, proxy });
    this.#arrange();
    return proxy;
  }

  kill(place: string): void {
    this.#dead.add(place);
    this.#arrange();
    void this.#transports.get(place)?.close(); // nobody hears it any more, and it says nothing to a later one's peers
  }

  cut(place: string, other: string): void {
    for (const proxy of this.#between(place, other)) proxy.cut();
  }

  hold(place: string, other: string, held: boolean): void {
    for (const proxy of this.#between(place, other)) proxy.hold(held);
  }

  cleanUp(): void {
    for (const { proxy } of this.#proxies.values()) proxy.refuse();
  }

  #between(place: string, other: string): PeerProxy[] {
    return [this.proxy(place, other), this.proxy(other, place)];
  }

  #arrange(): void {
    for (const { from, to, proxy } of this.#proxies.values()) {
      const upstream = this.#transports.get(to)?.address;
      if (upstream !== undefined && !this.#dead.has(from) && !this.#dead.has(to)) proxy.open(upstream);
      else proxy.refuse();
    }
  }
}

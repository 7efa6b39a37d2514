/** A TCP proxy between two peers, with what may go wrong on the way. */
import { connect, createServer, type Server, type Socket } from "node:net";

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
}

export class PeerProxy {
  readonly address: string;
  readonly #port: number;
  readonly #pairs = new Set<Pair>();
  /** Held before they came further. */
  readonly #waiting = new Set<Socket>();
  #server: Server | undefined;
  #upstream: string | undefined;
  #bytesPerSecond = Number.POSITIVE_INFINITY;
  #held = false;
  /** What happens when it is held no longer. */
  #later: (() => void)[] = [];

  /** Refuses, until there is an upstream. */
  constructor() {
    this.#port = this.#listen(0);
    this.address = `127.0.0.1:${this.#port}`;
    this.refuse();
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#pairs.size;
  }

  open(upstream: string): void {
    this.#upstream = upstream;
    if (this.#server === undefined) this.#listen(this.#port);
  }

  refuse(): void {
    this.#server?.close();
    this.#server = undefined;
    this.#later = [];
    this.cut();
  }

  cut(): void {
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
    this.#pairs.clear();
    for (const near of this.#waiting) near.destroy();
    this.#waiting.clear();
  }

  /** Nothing gets through, and the end of a connection does not either. */
  hold(held: boolean): void {
    this.#held = held;
    for (const { near, far } of this.#pairs) {
      for (const socket of [near, far]) {
        if (held) socket.pause();
        else socket.resume();
      }
    }
    if (!held) for (const run of this.#later.splice(0)) run();
  }

  /** Of each connection, in each direction. */
  throttle(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond;
  }

  #listen(port: number): number {
    const server = createServer((near) => this.#accept(near));
    server.listen(port); // without a host, which makes it listen at once
    this.#server = server;
    const bound = server.address();
    return bound !== null && typeof bound === "object" ? bound.port : 0;
  }

  #accept(near: Socket): void {
    near.on("error", () => undefined);
    if (this.#held) {
      near.pause();
      this.#waiting.add(near);
      this.#later.push(() => {
        if (this.#waiting.delete(near)) this.#join(near);
      });
    } else this.#join(near);
  }

  #join(near: Socket): void {
    const [host = "", port] = (this.#upstream ?? "").split(":");
    const far = connect({ host, port: Number(port) }).setNoDelay();
    near.setNoDelay();
    const pair = { near, far };
    this.#pairs.add(pair);
    this.#pass(near, far, pair);
    this.#pass(far, near, pair);
    near.resume();
  }

  #pass(from: Socket, to: Socket, pair: Pair): void {
    let dueAt = 0;
    from.on("error", () => undefined);
    from.on("data", (bytes: Buffer) => {
      to.write(bytes);
      const now = performance.now();
      dueAt = Math.max(dueAt, now) + (bytes.length / this.#bytesPerSecond) * 1_000;
      const resume = (): void => {
        if (!this.#held) from.resume();
      };
      if (dueAt - now > 2) {
        from.pause();
        setTimeout(resume, dueAt - now);
      } else if (to.writableNeedDrain) {
        from.pause();
        to.once("drain", resume);
      }
    });
    from.on("close", () => {
      const end = (): void => {
        to.destroy();
        this.#pairs.delete(pair);
      };
      if (this.#held) this.#later.push(end);
      else to.end(end);
    });
  }
}

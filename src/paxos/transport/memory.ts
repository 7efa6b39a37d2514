/** Peers in one process: the same transport on a network of a seed's making. */
import { OracleError } from "../../base/errors.ts";
import { createPrng, type Prng } from "../../base/prng.ts";
import { type PeerTransportOptions, resolvePeerTransportOptions } from "./options.ts";
import { StreamTransport } from "./stream-transport.ts";
import type { PeerClaim, PeerTransport, TransportReceiver } from "./transport.ts";
import { type Accept, type PeerStream, type PeerTimers, realTimers, type StreamEnd, type StreamHandler, type Wire } from "./wire.ts";

export interface MemoryNetworkOptions {
  /** @defaultValue 0 */
  readonly seed?: number | undefined;
  /** How long a frame is under way at most, ms: drawn for each, and never so that one overtakes another of its stream. @defaultValue 0: the next turn of the event loop */
  readonly delayMaxMs?: number | undefined;
  /** How often the connection breaks under a frame, 0 to 1. That is how a network that keeps order loses messages. @defaultValue 0 */
  readonly breakChance?: number | undefined;
  /** @defaultValue the system's */
  readonly timers?: PeerTimers | undefined;
}

export interface MemoryTransportOptions extends PeerTransportOptions {
  /** This process. Its boot is durable. */
  readonly claim: PeerClaim;
  readonly receiver: TransportReceiver;
  /** Any text. */
  readonly address: string;
}

/** Where one process listens. */
interface Place {
  readonly address: string;
  readonly accept: Accept;
  isDead: boolean;
}

/** Connections carry bytes, as they do elsewhere: nodes share no objects. */
export class MemoryNetwork {
  readonly #timers: PeerTimers;
  readonly #prng: Prng;
  readonly #delayMaxMs: number;
  readonly #breakChance: number;
  readonly #places = new Map<string, Place>();
  readonly #connections = new Set<Connection>();
  readonly #held = new Set<string>();

  /** @throws OracleError TSO_INVALID_OPTION */
  constructor({ seed = 0, delayMaxMs = 0, breakChance = 0, timers = realTimers }: MemoryNetworkOptions = {}) {
    const works = delayMaxMs >= 0 && delayMaxMs < Number.POSITIVE_INFINITY && breakChance >= 0 && breakChance <= 1;
    if (!works) throw new OracleError("TSO_INVALID_OPTION", `delayMaxMs ${delayMaxMs} must be from 0, and breakChance ${breakChance} from 0 to 1`);
    this.#timers = timers;
    this.#prng = createPrng(seed);
    this.#delayMaxMs = delayMaxMs;
    this.#breakChance = breakChance;
  }

  /** A transport that is reached at `address`. @throws OracleError TSO_INVALID_OPTION where another is, or an option is out of its range. */
  open({ claim, receiver, address, ...options }: MemoryTransportOptions): PeerTransport {
    if (this.#places.has(address)) throw new OracleError("TSO_INVALID_OPTION", `cannot listen on ${address}: another transport does`);
    const settings = resolvePeerTransportOptions(options);
    const place: Place = { address, accept: (stream) => transport.accept(stream), isDead: false };
    const wire: Wire = { address, dial: (to, _, handler) => this.#dial(place, to, handler), close: () => this.#leave(place) };
    const random = (): number => this.#prng.next();
    const transport = new StreamTransport({ claim, receiver, settings, timers: this.#timers, random, wire });
    this.#places.set(address, place);
    return transport;
  }

  /** The process at `address` dies: nobody listens there, and its connections break. Its transport speaks with nobody from then on; close it all the same. */
  kill(address: string): void {
    const place = this.#places.get(address);
    if (place !== undefined) this.#leave(place);
  }

  /** Breaks the connections between two, once. */
  cut(address: string, other: string): void {
    for (const connection of this.#connections) if (connection.pair === pairOf(address, other)) connection.break();
  }

  /** From now on nothing gets through between two, and nobody is told; or again, what waited first. */
  hold(address: string, other: string, held: boolean): void {
    const pair = pairOf(address, other);
    if (held) this.#held.add(pair);
    else this.#held.delete(pair);
    for (const connection of this.#connections) if (connection.pair === pair) connection.goOn();
  }

  #leave(place: Place): void {
    place.isDead = true;
    if (this.#places.get(place.address) === place) this.#places.delete(place.address);
    for (const connection of this.#connections) if (connection.isOf(place)) connection.break();
  }

  #dial(from: Place, to: string, dialler: StreamHandler): PeerStream {
    const pair = pairOf(from.address, to);
    const connection: Connection = new Connection(pair, from, dialler, {
      timers: this.#timers,
      listener: () => (from.isDead ? undefined : this.#places.get(to)),
      isHeld: () => this.#held.has(pair),
      delayMs: () => (this.#delayMaxMs === 0 ? 0 : this.#prng.next() * this.#delayMaxMs),
      breaks: () => this.#breakChance > 0 && this.#prng.chance(this.#breakChance),
      ended: () => this.#connections.delete(connection),
    });
    this.#connections.add(connection);
    return connection.stream("up");
  }
}

interface ConnectionContext {
  readonly timers: PeerTimers;
  /** Who is there when the first frame arrives. */
  readonly listener: () => Place | undefined;
  readonly isHeld: () => boolean;
  readonly delayMs: () => number;
  readonly breaks: () => boolean;
  readonly ended: () => void;
}

const BROKEN: StreamEnd = { detail: "the connection broke", refused: false, malformed: false };

/** To who was dialled, and back. */
type Direction = "up" | "down";

/** What is under way in one direction, in order, and who gets it. */
interface Pipe {
  handler: StreamHandler | undefined;
  waiting: (() => void)[];
  isMoving: boolean;
}

/** One stream, which ends for both when it ends for one. */
class Connection {
  readonly pair: string;
  readonly #context: ConnectionContext;
  readonly #places: Place[];
  readonly #pipes: { readonly [D in Direction]: Pipe };
  #isOver = false;

  constructor(pair: string, from: Place, dialler: StreamHandler, context: ConnectionContext) {
    this.pair = pair;
    this.#places = [from];
    this.#context = context;
    this.#pipes = { up: { handler: undefined, waiting: [], isMoving: false }, down: { handler: dialler, waiting: [], isMoving: false } };
    this.#put("up", () => this.#arrive(context.listener()));
  }

  isOf(place: Place): boolean {
    return this.#places.includes(place);
  }

  /** As seen from the end whose words go in `direction`. */
  stream(direction: Direction): PeerStream {
    const { timers, breaks } = this.#context;
    return {
      write: (bytes, done) => {
        if (breaks()) timers.soon(() => this.break());
        const copy = new Uint8Array(bytes);
        this.#put(direction, () => {
          this.#pipes[direction].handler?.onFrame(copy);
          timers.soon(done);
        });
      },
      end: () => this.#put(direction, () => this.#end({ detail: "the other side ended the stream", refused: false, malformed: false })),
      destroy: () => timers.soon(() => this.#hangUp(direction)),
    };
  }

  /** Ends it for both, without what is under way. */
  break(): void {
    this.#end(BROKEN);
  }

  goOn(): void {
    this.#move("up");
    this.#move("down");
  }

  /** One end is gone. The other learns it when what was said before has arrived, and not where nothing gets through. */
  #hangUp(direction: Direction): void {
    const own = this.#pipes[direction === "up" ? "down" : "up"];
    const { handler } = own;
    own.handler = undefined;
    own.waiting = [];
    handler?.onEnd(BROKEN);
    this.#put(direction, () => this.#end(BROKEN));
  }

  #arrive(place: Place | undefined): void {
    if (place === undefined) return this.#end({ detail: "nobody listens there", refused: true, malformed: false });
    this.#places.push(place);
    this.#pipes.up.handler = place.accept(this.stream("down"));
  }

  #put(direction: Direction, arrival: () => void): void {
    if (this.#isOver) return;
    this.#pipes[direction].waiting.push(arrival);
    this.#move(direction);
  }

  #move(direction: Direction): void {
    const { timers, isHeld, delayMs } = this.#context;
    const pipe = this.#pipes[direction];
    if (pipe.isMoving || pipe.waiting.length === 0 || isHeld()) return;
    pipe.isMoving = true;
    const arrive = (): void => {
      pipe.isMoving = false;
      if (!isHeld()) pipe.waiting.shift()?.();
      this.#move(direction);
    };
    const delay = delayMs();
    if (delay === 0) timers.soon(arrive);
    else timers.after(delay, arrive);
  }

  #end(end: StreamEnd): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#context.ended();
    for (const pipe of Object.values(this.#pipes)) {
      const { handler } = pipe;
      pipe.waiting = [];
      pipe.handler = undefined;
      if (handler !== undefined) this.#context.timers.soon(() => handler.onEnd(end));
    }
  }
}

function pairOf(address: string, other: string): string {
  return [address, other].sort().join(" ");
}

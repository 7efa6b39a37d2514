/**
 * All lives of three nodes that form a cluster, breadth first, within bounds on ticks and accidents. Everything that was ever said may arrive at any time, any number of times or
 * never: that is loss, duplication, delay and reordering in one. So the net is the union of what the nodes have said, and a state is one local state of each.
 */
import type { NodeId } from "../../src/base/ids.ts";
import { invariant } from "../../src/base/invariant.ts";
import { type Charter, sameCharter } from "../../src/paxos/core/charter.ts";
import { answerForming, Forming, HEARD_TICKS } from "../../src/paxos/core/forming.ts";
import type { FormingInput, FormingOutgoing, FormingPeer } from "../../src/paxos/core/forming-effects.ts";
import type { FormingMessage } from "../../src/paxos/core/forming-messages.ts";
import type { Founding } from "../../src/paxos/core/founding.ts";
import { genesisConfiguration, listed } from "./forming-world.ts";

export interface FormingScope {
  /** Of each process. One is enough to form. */
  readonly ticks: number;
  /** What may happen once, at one of these nodes: the process ends, its write lost or kept, or its disk is wiped with it. The next one is there at once. */
  readonly accident?: { readonly at: readonly number[]; readonly how: readonly ("lost" | "kept" | "wipe")[] } | undefined;
}

export interface FormingExploration {
  readonly states: number;
  readonly transitions: number;
  readonly locals: number;
  /** States in which every node is formed. */
  readonly formed: number;
}

interface Said {
  readonly id: number;
  readonly from: FormingPeer;
  readonly to: NodeId;
  readonly message: FormingMessage;
}

/** A node by itself, with what it ever said and what its disks were ever pledged to. The same object for the same state. */
interface Local {
  readonly id: number;
  readonly node: NodeId;
  readonly disk: { readonly storageId: string; readonly founding: Founding };
  /** What its process has taken since it began, on the disk as it was then; `undefined` for one that had to exit. */
  readonly process: { readonly began: Founding; readonly inputs: readonly FormingInput[] } | undefined;
  readonly writing: Founding | undefined;
  readonly troubled: boolean;
  readonly said: readonly Said[];
  readonly pledges: ReadonlyMap<string, Charter>;
  readonly formed: readonly Charter[];
  readonly ticks: number;
  readonly accidents: number;
}

/** What an input makes of a local state. */
interface Outcome {
  readonly next: Local;
  /** Also what was said before. */
  readonly sent: readonly Said[];
}

type Act = (typeof ACTS)[number];
const ACTS = ["tick", "write", "lost", "kept", "wipe"] as const;
const NODES = [1, 2, 3] as NodeId[];
/** Enough to doubt, and to form afterwards. */
const ROUNDS = HEARD_TICKS + 4;
const LIST = listed(...NODES);

/** @throws InvariantViolation with the way to a state that must not be */
export function exploreForming(scope: FormingScope): FormingExploration {
  return new Explorer(scope).run();
}

class Explorer {
  readonly #scope: FormingScope;
  readonly #locals = new Map<string, Local>();
  readonly #messages = new Map<string, Said>();
  /** By the local state, and by the message or the act. */
  readonly #outcomes: Map<number, Outcome>[] = [];
  /** States from which all comes to something. */
  readonly #good = new Set<number>();

  constructor(scope: FormingScope) {
    this.#scope = scope;
  }

  run(): FormingExploration {
    const start = NODES.map((node) => this.#begin(node));
    const seen = new Set([keyOf(start)]);
    const states: (readonly Local[])[] = [start];
    let [transitions, formed] = [0, 0];
    for (let at = 0; at < states.length; at++) {
      const state = states[at] ?? start;
      if (state.every(({ disk }) => disk.founding.type === "formed")) formed += 1;
      this.#checkHealed(state);
      for (const next of this.#nexts(state)) {
        transitions += 1;
        const key = keyOf(next);
        if (seen.has(key)) continue;
        seen.add(key);
        this.#check(next);
        states.push(next);
      }
    }
    return { states: states.length, transitions, locals: this.#locals.size, formed };
  }

  *#nexts(state: readonly Local[]): Generator<readonly Local[]> {
    const { ticks, accident } = this.#scope;
    const isOver = state.some(({ accidents }) => accidents > 0);
    for (const [index, local] of state.entries()) {
      const after = new Set<Local>([this.#act(local, "write").next]);
      if (local.ticks < ticks) after.add(this.#act(local, "tick").next);
      if (!isOver && accident?.at.includes(local.node)) for (const how of accident.how) after.add(this.#act(local, how).next);
      for (const { said } of state)
        for (const packet of said) if (packet.to === local.node && !isIdle(packet)) after.add(this.#deliver(local, packet).next);
      after.delete(local);
      for (const next of after) yield state.with(index, next);
    }
  }

  /** What holds of all nodes together; what holds of one is checked where it steps. */
  #check(state: readonly Local[]): void {
    const pledges = new Map(state.flatMap((local) => [...local.pledges]));
    const clusters = state.flatMap((local) => local.formed);
    for (const charter of clusters) {
      const all = charter.founders.every(({ storageId }) => {
        const pledge = pledges.get(storageId);
        return pledge !== undefined && sameCharter(pledge, charter);
      });
      invariant(all, "what is formed was pledged by every disk that it names", { state: describe(state) });
      const disks = new Set(charter.founders.map(({ storageId }) => storageId));
      const others = clusters.filter((other) => !sameCharter(other, charter)).flatMap(({ founders }) => founders);
      invariant(!others.some(({ storageId }) => disks.has(storageId)), "two clusters share no disk", { state: describe(state) });
    }
  }

  /** From every state, when nothing goes wrong any more, everyone forms; or, where a disk was wiped, has exited or says why not. */
  #checkHealed(state: readonly Local[]): void {
    const path: number[] = [];
    const wipes = this.#scope.accident?.how.includes("wipe") === true;
    let now = state;
    for (let round = 0; round < ROUNDS && !this.#good.has(keyOf(now)); round++) {
      path.push(keyOf(now));
      now = this.#round(now);
    }
    const isGood = ({ disk, process, troubled }: Local): boolean => disk.founding.type === "formed" || (wipes && (process === undefined || troubled));
    invariant(this.#good.has(keyOf(now)) || now.every(isGood), "a healed cluster comes to something", {
      state: describe(state),
      healed: describe(now),
    });
    for (const key of path) this.#good.add(key);
  }

  /** Everyone ticks, and what comes of it is delivered and written. */
  #round(state: readonly Local[]): readonly Local[] {
    const now = [...state];
    const pending: Said[] = [];
    const change = (at: number, make: (local: Local) => Outcome): void => {
      const before = now[at];
      if (before === undefined) return;
      const { next, sent } = make(before);
      now[at] = next;
      pending.push(...sent);
      if (next.writing !== undefined && next !== before) change(at, (local) => this.#act(local, "write"));
    };
    for (const at of NODES.keys()) change(at, (local) => this.#act(local, "write"));
    for (const at of NODES.keys()) change(at, (local) => this.#act(local, "tick"));
    for (let packet = pending.shift(); packet !== undefined; packet = pending.shift()) {
      const said = packet;
      change(said.to - 1, (local) => this.#deliver(local, said));
    }
    return now;
  }

  #begin(node: NodeId): Local {
    const disk = { storageId: `d${node}`.padEnd(32, "0"), founding: { type: "unformed" } } as const;
    const blank = { writing: undefined, troubled: false, said: [], pledges: new Map(), formed: [], ticks: 0, accidents: 0 };
    return this.#intern({ ...blank, node, disk, process: { began: disk.founding, inputs: [] } });
  }

  #act(local: Local, act: Act): Outcome {
    return this.#once(local, -1 - ACTS.indexOf(act), () => {
      const { disk, writing, process, accidents } = local;
      if (act === "tick") return this.#step({ ...local, ticks: Math.min(local.ticks + 1, this.#scope.ticks) }, { type: "tick" });
      if (act === "write") {
        if (process === undefined || writing === undefined) return [local, []];
        return this.#step({ ...this.#durable(local, writing), writing: undefined }, { type: "written" });
      }
      if (act === "kept" && writing === undefined) return [local, []];
      const kept = act === "kept" && writing !== undefined ? this.#durable(local, writing) : local;
      const found =
        act === "wipe" ? ({ storageId: `${disk.storageId.slice(0, 2)}f`.padEnd(32, "0"), founding: { type: "unformed" } } as const) : kept.disk;
      const next = { ...kept, disk: found, process: { began: found.founding, inputs: [] } };
      return [{ ...next, writing: undefined, troubled: false, ticks: 0, accidents: accidents + 1 }, []];
    });
  }

  #deliver(local: Local, { id, from, message }: Said): Outcome {
    return this.#once(local, id, () => this.#step(local, { type: "message", from, message }));
  }

  #step(local: Local, input: FormingInput): readonly [Local, readonly FormingOutgoing[]] {
    const { node, disk, process } = local;
    if (process === undefined) return [local, []];
    if (disk.founding.type === "formed" && input.type !== "written") {
      const { charter } = disk.founding;
      if (input.type !== "message") return [local, []];
      const answer = answerForming({ charter, configuration: genesisConfiguration(charter) }, input.from, input.message);
      return [local, answer === undefined ? [] : [answer]];
    }
    const forming = this.#rebuild(local);
    const before = stateText(forming);
    const { sends, persist, fatal } = forming.step([input]);
    for (const { message } of sends) checkSaid(disk.founding, message);
    const changed = stateText(forming) !== before;
    const inputs = changed ? [...process.inputs, input] : process.inputs;
    const next = {
      ...local,
      node,
      process: fatal === undefined ? { began: process.began, inputs } : undefined,
      troubled: forming.state.problems.size > 0,
    };
    return [persist === undefined || fatal !== undefined ? next : { ...next, writing: persist }, sends];
  }

  #rebuild({ node, disk: { storageId }, process, accidents }: Local): Forming {
    const began = process?.began ?? { type: "unformed" };
    invariant(began.type !== "formed", "who is formed does not form");
    const newClusterId = (): string => `c${node}${accidents}`.padEnd(32, "0");
    const forming = new Forming({ node, storageId, list: LIST, founding: began, newClusterId });
    for (const input of process?.inputs ?? []) forming.step([input]);
    return forming;
  }

  #durable(local: Local, founding: Founding): Local {
    invariant(founding.type !== "unformed", "a disk goes only forward");
    const { charter } = founding;
    const before = local.pledges.get(local.disk.storageId);
    invariant(before === undefined || sameCharter(before, charter), "a disk never pledges twice");
    const pledges = new Map([...local.pledges, [local.disk.storageId, charter]]);
    const formed = founding.type === "formed" ? [...local.formed, charter] : local.formed;
    return { ...local, disk: { ...local.disk, founding }, pledges, formed };
  }

  /** A node knows nothing of the others: what comes of a local state and an input is found out once. */
  #once(local: Local, key: number, make: () => readonly [Omit<Local, "id">, readonly FormingOutgoing[]]): Outcome {
    const outcomes = this.#outcomes[local.id] ?? new Map<number, Outcome>();
    this.#outcomes[local.id] = outcomes;
    const known = outcomes.get(key);
    if (known !== undefined) return known;
    const [changed, sends] = make();
    const { storageId, founding } = local.disk;
    const clusterId = founding.type === "formed" ? founding.charter.clusterId : undefined;
    const sent = sends.map(({ to, message }) => this.#internSaid({ node: local.node, storageId, clusterId }, to, message));
    const said = [...new Set([...changed.said, ...sent])].toSorted((a, b) => a.id - b.id);
    const outcome = { next: this.#intern({ ...changed, said }), sent };
    outcomes.set(key, outcome);
    return outcome;
  }

  #internSaid(from: FormingPeer, to: NodeId, message: FormingMessage): Said {
    const text = JSON.stringify([from, to, message]);
    const said = this.#messages.get(text) ?? { id: this.#messages.size, from, to, message };
    this.#messages.set(text, said);
    return said;
  }

  #intern(bare: Omit<Local, "id">): Local {
    const { disk, process, writing, said, pledges, formed, ticks, accidents, troubled, node } = bare;
    const inside =
      process === undefined || disk.founding.type === "formed" ? `${process === undefined}` : stateText(this.#rebuild({ ...bare, id: -1 }));
    const past = [said.map(({ id }) => id), [...pledges], formed, ticks, accidents, troubled];
    const text = JSON.stringify([node, disk, inside, writing, past]);
    const local = this.#locals.get(text) ?? { ...bare, id: this.#locals.size };
    invariant(local.id < 0x1_0000, "a state of three nodes has a number");
    this.#locals.set(text, local);
    return local;
  }
}

/** Hellos among those that draw no charter: all that comes of them is a word about lists and disks. */
function isIdle({ from, to, message }: Said): boolean {
  return message.type === "form-hello" && from.node !== 1 && to !== 1;
}

function checkSaid(founding: Founding, message: FormingMessage): void {
  if (message.type === "form-hello") return;
  invariant(founding.type !== "unformed", "a pledge is durable before it is spoken of", { message: message.type });
}

/** Without the words of the problems, which nothing depends on. */
function stateText(forming: Forming): string {
  const { disk, writing, heard, pledged, problems, isOver } = forming.state;
  return JSON.stringify([disk, writing, [...heard].toSorted(([a], [b]) => a - b), [...pledged].toSorted((a, b) => a - b), problems.size > 0, isOver]);
}

/** Of fewer local states than fit 16 bits. */
function keyOf(state: readonly Local[]): number {
  return state.reduce((key, { id }) => key * 0x1_0000 + id, 0);
}

function describe(state: readonly Local[]): string {
  return state
    .map(({ node, disk, process, said }) => {
      const steps = process?.inputs.map((input) =>
        input.type === "message" ? `${input.message.type} of ${input.from.storageId.slice(0, 3)}` : input.type,
      );
      return `${node}: ${disk.founding.type} ${disk.storageId.slice(0, 3)} after ${steps?.join(", ") ?? "its exit"}, having said ${said.length}`;
    })
    .join("; ");
}

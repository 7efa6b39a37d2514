/** The static list of peers that a cluster is formed from: every node of it is started with the same one (rule I7). */
import { kindOf } from "../../base/bytes.ts";
import { OracleError } from "../../base/errors.ts";
import type { NodeId } from "../../base/ids.ts";
import { wholeOption } from "../../base/options.ts";
import { ADDRESS_LENGTH_MAX, type Charter, FOUNDER_ID_MAX } from "./charter.ts";
import { VOTERS_MAX } from "./configuration.ts";
import type { ListedNode } from "./forming-messages.ts";

/** As on a command line, `1=HOST:PORT,2=HOST:PORT`, or as a list. */
export type PeerList = string | readonly { readonly id: number; readonly address: string }[];

/**
 * The list in order of the ids, as `Forming` takes it.
 * @throws OracleError TSO_INVALID_OPTION, naming the value and the limit: `node` is not in it, it is too long, or its ids or addresses are not good or not different.
 */
export function resolvePeerList(peers: PeerList, node: NodeId): readonly ListedNode[] {
  const list = typeof peers === "string" ? parsePeers(peers) : peers;
  if (!Array.isArray(list)) throw invalid(`peers is ${kindOf(list)}, and must be a text, 1=HOST:PORT,2=HOST:PORT, or a list of { id, address }`);
  if (list.length > VOTERS_MAX) throw invalid(`peers has ${list.length} nodes, and a cluster begins with at most ${VOTERS_MAX}`);
  const ordered = list.map(({ id, address }) => ({ id: id as NodeId, address })).toSorted((a, b) => a.id - b.id);
  const addresses = new Map<string, NodeId>();
  for (const [index, { id, address }] of ordered.entries()) {
    wholeOption("the id of a peer", id, { from: 1, through: FOUNDER_ID_MAX });
    if (ordered[index - 1]?.id === id) throw invalid(`peers has node ${id} twice`);
    if (!isAddress(address))
      throw invalid(`the address "${address.slice(0, ADDRESS_LENGTH_MAX)}" of node ${id} is not HOST:PORT, with a port from 1 to 65535`);
    const other = addresses.get(address);
    if (other !== undefined) throw invalid(`nodes ${other} and ${id} have one address, ${address}`);
    addresses.set(address, id);
  }
  if (!ordered.some(({ id }) => id === node)) throw invalid(`peers does not have this node, ${node}: ${listText(ordered)}`);
  return ordered;
}

/** @throws OracleError TSO_INVALID_OPTION for a part that is no ID=HOST:PORT */
function parsePeers(text: string): Exclude<PeerList, string> {
  return text.split(",").map((part) => {
    const [, id, address] = /^\s*(\d{1,10})=(\S+)\s*$/.exec(part) ?? [];
    if (id === undefined || address === undefined) throw invalid(`peers has "${part.slice(0, ADDRESS_LENGTH_MAX)}", which is not ID=HOST:PORT`);
    return { id: Number(id), address };
  });
}

/** Whether both name the same nodes at the same addresses. Both are in order of their ids. */
export function sameList(a: readonly ListedNode[], b: readonly ListedNode[]): boolean {
  return a.length === b.length && a.every(({ id, address }, index) => id === b[index]?.id && address === b[index]?.address);
}

/** The list that a charter was drawn from. */
export function listOf({ founders }: Charter): readonly ListedNode[] {
  return founders.map(({ id, address }) => ({ id, address }));
}

/** As it is written on a command line. */
export function listText(list: readonly ListedNode[]): string {
  return list.map(({ id, address }) => `${id}=${address}`).join(",");
}

/** An IPv6 host stands in brackets. */
function isAddress(address: string): boolean {
  const port = /^(?:\[[^[\]\s]+\]|[^:[\]\s]+):(\d{1,5})$/.exec(address)?.[1];
  return address.length <= ADDRESS_LENGTH_MAX && port !== undefined && Number(port) >= 1 && Number(port) <= 65_535;
}

function invalid(detail: string): OracleError {
  return new OracleError("TSO_INVALID_OPTION", detail);
}

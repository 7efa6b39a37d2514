/** A path of the exploration as text: a line for each step, and what it made of the node. */
import { ballotOf, entriesText, messageText } from "../paxos-text.ts";
import type { Act, Message } from "./local.ts";
import type { Place } from "./places.ts";

export function actText({ local: { node } }: Place, act: Act): string {
  if (act.type === "crash") return `node ${node}: crash, with ${act.batches} of its batches on the disk`;
  return `node ${node}: ${act.type}${act.type === "persist" && act.batches > 1 ? ` ${act.batches} batches` : ""}`;
}

export function deliveryText({ from, boot, to, message }: Message): string {
  return `node ${to}: from ${from}${boot === 1 ? "" : ` (boot ${boot})`}: ${messageText(message)}`;
}

export function placeText({ local: { up, disk } }: Place): string {
  const { image, log } = disk;
  const there = `disk promised ${ballotOf(image.promised)} accepted ${ballotOf(image.accepted)} decided ${image.decidedThrough} ${entriesText(log.entries.slice(1))}`;
  if (up === undefined) return `down; ${there}`;
  const { memory, role, batches } = up;
  const here = `${role.type} promised ${ballotOf(memory.promised)} accepted ${ballotOf(memory.accepted)} decided ${memory.decidedThrough} ${entriesText(up.log.entries.slice(1))}`;
  return batches.length === 0 ? `${here}; all on disk` : `${here}; ${batches.length} to write; ${there}`;
}

/** What nodes that have no cluster yet say to each other, and what one that has answers them (rule I7). Each comes in a session, which says whose process speaks. */
import type { NodeId } from "../../base/ids.ts";
import { type Codec, createCodec, list, optional, record, type Shape, union } from "../../base/shape.ts";
import { addressShape, type Charter, charterShape, randomId } from "./charter.ts";
import { type Configuration, configurationShape, nodeIdShape, VOTERS_MAX } from "./configuration.ts";

/** A line of the static peer list. */
export interface ListedNode {
  readonly id: NodeId;
  /** HOST:PORT of its peer listener. */
  readonly address: string;
}

/** "I belong to no cluster, and this is my list." No gate but the durable start of the process. */
export interface FormHelloMessage {
  readonly type: "form-hello";
  /** In order of the ids. */
  readonly list: readonly ListedNode[];
  /** The disk that speaks for the node that this is said to, if one was heard of late: a hello that names its disk has come from where its own hellos arrive. */
  readonly heard?: string | undefined;
}

/** "I pledged my disk to this; do so too." Gate: the sender's own pledge is durable. */
export interface FormPledgeMessage {
  readonly type: "form-pledge";
  readonly charter: Charter;
}

/** "I am pledged to that one." Gate: the pledge is durable. */
export interface PledgedMessage {
  readonly type: "pledged";
  readonly clusterId: string;
}

/** "I am pledged to another one, and a pledge is never exchanged." Gate: that pledge is durable. */
export interface ConflictMessage {
  readonly type: "conflict";
  /** Of the charter that the sender is pledged to. */
  readonly clusterId: string;
}

/** "The cluster is formed, and this is who takes part now." Gate: the sender's formed state is durable. */
export interface FormedMessage {
  readonly type: "formed";
  readonly charter: Charter;
  readonly configuration: Configuration;
}

export type FormingMessage = FormHelloMessage | FormPledgeMessage | PledgedMessage | ConflictMessage | FormedMessage;

const listedNodes: Shape<readonly ListedNode[]> = list(record<ListedNode>({ id: nodeIdShape, address: addressShape }), VOTERS_MAX);

/** A type's number is its own for ever. */
const message = union<FormingMessage, "type">("type", {
  "form-hello": [1, record({ list: listedNodes, heard: optional(randomId) })],
  "form-pledge": [2, record({ charter: charterShape })],
  pledged: [3, record({ clusterId: randomId })],
  conflict: [4, record({ clusterId: randomId })],
  formed: [5, record({ charter: charterShape, configuration: configurationShape })],
});

/** @throws OracleError TSO_WRONG_FORMAT from both directions, and nothing else. */
export const formingCodec: Codec<FormingMessage> = createCodec("a forming message", 1, message);

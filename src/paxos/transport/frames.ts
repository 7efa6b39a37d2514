/** Frames of a peer stream and their bytes (`proto/tsoracle/paxos/v1/peer.proto`). What a peer may not say in a frame never comes out of here. */
import type { NodeId } from "../../base/ids.ts";
import { invariant } from "../../base/invariant.ts";
import { type Claim, ConnectRequest, ConnectResponse, Fault, type Hello, Lane as WireLane } from "../../gen/tsoracle/paxos/v1/peer.ts";
import type { Lane, PeerClaim, PeerFault } from "./transport.ts";

/** Of the peer protocol. Two nodes that name different ones do not speak with each other. */
export const PEER_PROTOCOL_VERSION = 1;

/** Most bytes of messages in one frame. A longer message goes in several, so that the control of a stream is never further away than this. */
export const FRAME_BYTES = 256 * 1024;
/** Longest frame that anyone takes: besides messages there is what gives each its length, and the names in a hello. */
export const FRAME_BYTES_MAX = FRAME_BYTES + 64 * 1024;
/** What a part costs in its frame at most. */
export const PART_OVERHEAD = 6;

export interface HelloFrame {
  readonly type: "hello";
  readonly version: number;
  readonly claim: PeerClaim;
  readonly toNode: number;
  readonly lane: Lane;
}

export interface MessagesFrame {
  readonly type: "messages";
  readonly parts: readonly Uint8Array[];
  /** The last part goes on in the next frame. */
  readonly unfinished: boolean;
}

export type RequestFrame = HelloFrame | MessagesFrame | { readonly type: "forming"; readonly bytes: Uint8Array } | { readonly type: "bye" };

export interface WelcomeFrame {
  readonly type: "welcome";
  readonly version: number;
  readonly claim: PeerClaim;
}

export type RefusalFault = Exclude<PeerFault, "unreachable">;

export interface RefusalFrame {
  readonly type: "refusal";
  readonly fault: RefusalFault;
  readonly detail: string;
}

export type ResponseFrame = WelcomeFrame | RefusalFrame | { readonly type: "heard"; readonly frames: number } | { readonly type: "bye" };

const LANES: { readonly [L in Lane]: WireLane } = {
  control: WireLane.LANE_CONTROL,
  bulk: WireLane.LANE_BULK,
  transfer: WireLane.LANE_TRANSFER,
};
const FAULTS: { readonly [F in RefusalFault]: Fault } = {
  "wrong-cluster": Fault.FAULT_WRONG_CLUSTER,
  "wrong-node": Fault.FAULT_WRONG_NODE,
  "wrong-version": Fault.FAULT_WRONG_VERSION,
  "older-boot": Fault.FAULT_OLDER_BOOT,
  "duplicate-process": Fault.FAULT_DUPLICATE_PROCESS,
  "too-many-disks": Fault.FAULT_TOO_MANY_DISKS,
  malformed: Fault.FAULT_MALFORMED,
};
/** A refusal's text at most, in characters. */
const DETAIL_MAX = 1_000;

export function encodeRequest(frame: RequestFrame): Buffer {
  return bufferOf(ConnectRequest.encode(requestOf(frame)).finish());
}

export function encodeResponse(frame: ResponseFrame): Buffer {
  return bufferOf(ConnectResponse.encode(responseOf(frame)).finish());
}

/** `undefined` for what is no frame of this protocol. */
export function decodeRequest(bytes: Uint8Array): RequestFrame | undefined {
  const raw = decoded(ConnectRequest, bytes);
  if (raw === undefined || countOf(raw) !== 1) return undefined;
  if (raw.hello !== undefined) return helloFrom(raw.hello);
  if (raw.messages !== undefined) return { type: "messages", parts: raw.messages.parts, unfinished: raw.messages.unfinished };
  if (raw.forming !== undefined) return { type: "forming", bytes: raw.forming };
  return { type: "bye" };
}

/** `undefined` for what is no frame of this protocol. */
export function decodeResponse(bytes: Uint8Array): ResponseFrame | undefined {
  const raw = decoded(ConnectResponse, bytes);
  if (raw === undefined || countOf(raw) !== 1) return undefined;
  if (raw.welcome !== undefined) {
    const claim = claimFrom(raw.welcome.claim);
    return claim && { type: "welcome", version: raw.welcome.version, claim };
  }
  if (raw.refusal !== undefined) {
    const { fault, detail } = raw.refusal;
    const name = nameOf(FAULTS, fault);
    return name && { type: "refusal", fault: name, detail: detail.slice(0, DETAIL_MAX) };
  }
  if (raw.heard !== undefined) return { type: "heard", frames: Number(raw.heard.frames) };
  return { type: "bye" };
}

function requestOf(frame: RequestFrame): ConnectRequest {
  switch (frame.type) {
    case "hello": {
      const { version, claim, toNode, lane } = frame;
      return { hello: { version, claim: claimTo(claim), toNode, lane: LANES[lane] } };
    }
    case "messages":
      return { messages: { parts: frame.parts.map(bufferOf), unfinished: frame.unfinished } };
    case "forming":
      return { forming: bufferOf(frame.bytes) };
    default:
      return { bye: {} };
  }
}

function responseOf(frame: ResponseFrame): ConnectResponse {
  switch (frame.type) {
    case "welcome":
      return { welcome: { version: frame.version, claim: claimTo(frame.claim) } };
    case "refusal":
      return { refusal: { fault: FAULTS[frame.fault], detail: frame.detail } };
    case "heard":
      return { heard: { frames: BigInt(frame.frames) } };
    default:
      return { bye: {} };
  }
}

function helloFrom({ version, claim: raw, toNode, lane: rawLane }: Hello): HelloFrame | undefined {
  const claim = claimFrom(raw);
  const lane = nameOf(LANES, rawLane);
  return claim && lane && { type: "hello", version, claim, toNode, lane };
}

const ID = /^[0-9a-f]{32}$/;

function claimTo({ node, storageId, boot, nonce, clusterId = "" }: PeerClaim): Claim {
  invariant(ID.test(storageId) && (clusterId === "" || ID.test(clusterId)), "ids of disks and clusters are 32 hex digits", { storageId, clusterId });
  return { node, storageId, boot: BigInt(boot), nonce: BigInt(nonce), clusterId };
}

function claimFrom(raw: Claim | undefined): PeerClaim | undefined {
  if (raw === undefined) return undefined;
  const { node, storageId, clusterId } = raw;
  const [boot, nonce] = [Number(raw.boot), Number(raw.nonce)];
  const fits =
    Number.isSafeInteger(boot) && Number.isSafeInteger(nonce) && node >= 1 && ID.test(storageId) && (clusterId === "" || ID.test(clusterId));
  return fits ? { node: node as NodeId, storageId, boot, nonce, clusterId: clusterId === "" ? undefined : clusterId } : undefined;
}

function decoded<T>(reader: { decode(bytes: Uint8Array): T }, bytes: Uint8Array): T | undefined {
  try {
    return reader.decode(bytes);
  } catch {
    return undefined; // the reader throws plain errors of many kinds for bytes that are no message
  }
}

function countOf(frame: object): number {
  return Object.values(frame).filter((value) => value !== undefined).length;
}

function nameOf<Name extends string>(numbers: { readonly [N in Name]: number }, number: number): Name | undefined {
  return (Object.keys(numbers) as Name[]).find((name) => numbers[name] === number);
}

/** The same bytes, as what the generated code and grpc-js take. */
export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A peer that says what it likes, frame by frame, and what a transport tells of it. */
import { Client, type ClientDuplexStream, credentials, Server, ServerCredentials, type ServerDuplexStream, type StatusObject } from "@grpc/grpc-js";
import type { NodeId } from "../../src/base/ids.ts";
import type { FormingMessage } from "../../src/paxos/core/forming-messages.ts";
import type { PaxosMessage } from "../../src/paxos/core/messages.ts";
import {
  decodeResponse,
  encodeRequest,
  type HelloFrame,
  PEER_PROTOCOL_VERSION,
  type RequestFrame,
  type ResponseFrame,
} from "../../src/paxos/transport/frames.ts";
import { connectMethod } from "../../src/paxos/transport/grpc-wire.ts";
import type { Lane, PeerClaim, PeerProblem, TransportReceiver } from "../../src/paxos/transport/transport.ts";

export const CLUSTER = "c1".padEnd(32, "0");

export function claimOf(node: number, boot = 1): PeerClaim {
  return { node: node as NodeId, storageId: `d${node}`.padEnd(32, "0"), boot, nonce: boot, clusterId: CLUSTER };
}

export function helloOf(node: number, toNode: number, lane: Lane = "control"): HelloFrame {
  return { type: "hello", version: PEER_PROTOCOL_VERSION, claim: claimOf(node), toNode, lane };
}

export class RawPeer {
  readonly answers: (ResponseFrame | undefined)[] = [];
  /** How the stream ended. */
  readonly ended: Promise<StatusObject>;
  readonly stream: ClientDuplexStream<Buffer, Buffer>;
  readonly #client: Client;

  constructor(address: string) {
    this.#client = new Client(address, credentials.createInsecure(), { "grpc.max_send_message_length": -1, "grpc.use_local_subchannel_pool": 1 });
    const { path, requestSerialize, responseDeserialize } = connectMethod;
    this.stream = this.#client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    this.stream.on("data", (bytes: Buffer) => this.answers.push(decodeResponse(bytes)));
    this.stream.on("error", () => undefined); // it is told by its status
    this.ended = new Promise((resolve) => this.stream.on("status", resolve));
  }

  say(frame: RequestFrame): void {
    this.sayBytes(encodeRequest(frame));
  }

  sayBytes(bytes: Uint8Array): void {
    this.stream.write(Buffer.from(bytes));
  }

  /** Returns when those bytes have room to leave. */
  async sayInTurn(bytes: Buffer): Promise<void> {
    await new Promise((resolve) => this.stream.write(bytes, resolve));
  }

  close(): void {
    this.stream.cancel();
    this.#client.close();
  }
}

/** A listener that does with a stream what it likes. */
export async function listenRaw(handle: (call: ServerDuplexStream<Buffer, Buffer>) => void): Promise<{ readonly address: string; close(): void }> {
  const server = new Server({ "grpc.max_receive_message_length": -1 });
  server.addService({ connect: connectMethod }, { connect: handle });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  return { address: `127.0.0.1:${port}`, close: () => server.forceShutdown() };
}

export class Told implements TransportReceiver {
  readonly heard: PaxosMessage[] = [];
  readonly formed: FormingMessage[] = [];
  readonly lost: number[] = [];
  readonly blocked: boolean[] = [];
  readonly problems: PeerProblem[] = [];
  /** Called with every message. */
  answer: (message: PaxosMessage) => void = () => undefined;

  onMessage(_: PeerClaim, message: PaxosMessage): void {
    this.heard.push(message);
    this.answer(message);
  }

  onForming(_: PeerClaim, message: FormingMessage): void {
    this.formed.push(message);
  }

  onConnectionLost(_: NodeId, boot: number): void {
    this.lost.push(boot);
  }

  onSendBlocked(_: NodeId, blocked: boolean): void {
    this.blocked.push(blocked);
  }

  onProblem(problem: PeerProblem): void {
    this.problems.push(problem);
  }
}

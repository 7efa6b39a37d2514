/** The same put, as each of the two takes it: 100 bytes under one key. */
import type { Method } from "./raw-caller.ts";

const VALUE = "v".repeat(100);
const ignore = (): number => 0;
/** PutRequest: key, value. */
export const ETCD_PUT: Method = {
  path: "/etcdserverpb.KV/Put",
  request: Buffer.concat([Buffer.of(0x0a, 1), Buffer.from("k"), Buffer.of(0x12, VALUE.length), Buffer.from(VALUE)]),
  decode: ignore,
};
export const MAP_PUT: Method = { path: "/example.Map/Put", request: Buffer.from(JSON.stringify({ key: "k", value: VALUE })), decode: ignore };

export { armFailpoint, type Failure } from "../base/failpoints.ts";
export { createPrng, type Prng } from "../base/prng.ts";
export { DiskCrashed, FaultyDisk, type FaultyDiskOptions, type Operation, type PowerCut, systemError } from "./faulty-disk.ts";

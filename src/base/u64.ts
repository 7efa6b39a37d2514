/** The largest number of 64 bits, 2^64-1: what the wire and the disk can say. */
export const U64_MAX = 0xffff_ffff_ffff_ffffn;

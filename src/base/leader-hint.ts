/** The trailer of a `not leader` answer: a `LeaderHint` message, empty where no leader is known. Its presence, and nothing else, says "not the leader". */
export const LEADER_HINT_TRAILER = "tsoracle-leader-hint-bin";

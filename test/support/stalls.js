// Loaded into the command by `--import`: stops the real code at a failpoint when the test says so, and tells when something stands there.
import { armFailpoint } from "../../dist/base/failpoints.js";

/** @type {Map<string, { disarm: () => void, release: () => void }>} */
const stalls = new Map();

process.on("message", (message) => {
  const [verb, name = ""] = String(message).split(" ");
  if (verb === "stall") stall(name);
  else stalls.get(name)?.release();
  process.send?.(`done ${message}`);
});
process.channel?.unref(); // the command ends as it would without a test

/** @param {string} name */
function stall(name) {
  let release = () => {};
  /** @type {Promise<void>} */
  const released = new Promise((resolve) => {
    release = resolve;
  });
  const disarm = armFailpoint(name, () => {
    process.send?.(`reached ${name}`);
    const pending = setInterval(() => {}, 2 ** 30); // what hangs keeps the process alive
    return released.finally(() => clearInterval(pending));
  });
  stalls.set(name, {
    disarm,
    release: () => {
      disarm();
      stalls.delete(name);
      release();
    },
  });
}

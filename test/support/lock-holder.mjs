/** A process that takes a directory, says so or what it met instead, and keeps it until it is killed or left alone. */
const [how, directory] = process.argv.slice(2);

const take = {
  lock: async () => (await import("../../dist/disk/lock.js")).lockDirectory(directory),
  driver: async () => (await import("../../dist/oracle/drivers/file.js")).fileDriver({ directory, segmentBytes: 4096 }),
};

try {
  await take[how]();
  process.stdout.write("holds\n");
  process.stdin.resume(); // nothing else keeps it alive: not what it holds
} catch (error) {
  process.stdout.write(`${error.code ?? error}\n`);
}

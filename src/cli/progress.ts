/** Long work, told of on stderr: a line that is written over on a terminal, one every few seconds elsewhere. */
const EVERY_MS = 5_000;
const ON_TERMINAL_MS = 200;

export class Progress {
  readonly #what: string;
  readonly #began = performance.now();
  #writtenAt = performance.now();
  #wrote = false;

  constructor(what: string) {
    this.#what = what;
  }

  readonly update = (bytes: number, of: number): void => {
    const { isTTY } = process.stderr;
    const now = performance.now();
    if (now - this.#writtenAt < (isTTY ? ON_TERMINAL_MS : EVERY_MS)) return;
    this.#writtenAt = now;
    this.#wrote = true;
    const line = `${this.#what}: ${mebibytes(bytes)} of ${mebibytes(of)} MiB, ${of === 0 ? 100 : Math.floor((100 * bytes) / of)} %, ${Math.round((now - this.#began) / 1_000)} s`;
    process.stderr.write(isTTY ? `\r${line}\u001b[K` : `${line}\n`);
  };

  end(): void {
    if (this.#wrote && process.stderr.isTTY) process.stderr.write("\n");
  }
}

function mebibytes(bytes: number): string {
  return (bytes / 1024 / 1024).toFixed(1);
}

/** The `tsoracle` command: thin. */
import { Command, CommanderError } from "commander";
import { messageOf } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import { addBench } from "./bench.ts";
import { checkEnvironment, suggestion } from "./config.ts";
import { addDoctor } from "./doctor.ts";
import { EXIT, exitCodeOf, usageError } from "./exit-codes.ts";
import { addInit, addServe } from "./serve.ts";
import { addSnapshots } from "./snapshots.ts";
import { addVerbs } from "./verbs.ts";

const HELP = `
Every option can also come from the environment, as TSORACLE_ and its name in capitals (TSORACLE_STATE_DIR), and those of \`serve\` from a JSON file
(--config). Flags win over the environment, that over the file, that over the defaults.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 not applied, try again freely; 4 the outcome is unknown.`;

/** Runs the command line, and sets the exit code of the process. */
export async function main(args: readonly string[]): Promise<void> {
  const program = createProgram();
  try {
    checkEnvironment(program);
    checkCommand(program, args[0]);
    await program.parseAsync(args, { from: "user" });
  } catch (error) {
    process.exitCode = report(error);
  }
}

function createProgram(): Command {
  const program = new Command("tsoracle")
    .description("Strictly increasing timestamps, gapless sequences and leases.")
    .version(VERSION)
    .addHelpText("after", HELP)
    .showHelpAfterError("(add --help for what there is)")
    .exitOverride();
  addServe(program);
  addInit(program);
  addDoctor(program);
  addSnapshots(program);
  addVerbs(program);
  addBench(program);
  for (const each of allOf(program)) each.exitOverride().showHelpAfterError("(add --help for what there is)");
  return program;
}

/** Bare options are `serve file`; a word that is no command would be taken for one of its arguments. */
function checkCommand(program: Command, word: string | undefined): void {
  const known = ["help", ...program.commands.map((each) => each.name())];
  if (word === undefined || word.startsWith("-") || known.includes(word)) return;
  throw usageError(`unknown command "${word}"${suggestion(word, known)}`);
}

function allOf(command: Command): readonly Command[] {
  return [command, ...command.commands.flatMap((inner) => allOf(inner as Command))];
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage; // it has said what is wrong, or printed the help
  process.stderr.write(`error: ${messageOf(error)}\n`);
  return exitCodeOf(error);
}

/**
 * What a module imports and which names it uses, read from its tokens, so that words in comments and texts do not count: TypeScript 7 has no
 * parser to call. Source that this tokenizer cannot read is an error, never a silent gap.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";

export interface Token {
  /** A template comes in parts, with the tokens of its `${}` between them. */
  readonly type: "word" | "number" | "string" | "template" | "regex" | "punctuator";
  /** Strings and templates without their quotes, escapes as written. Private names with their `#`. */
  readonly text: string;
  readonly line: number;
}

export interface ImportTarget {
  /** `undefined` where it is not a literal: nobody can tell what such an `import()` loads. */
  readonly specifier: string | undefined;
  /** "dynamic" is `import()`, in types too; "re-export" is `export ... from`. */
  readonly how: "static" | "re-export" | "dynamic";
  readonly line: number;
}

export interface Module {
  readonly tokens: readonly Token[];
  /** Type-only imports count: they are arrows as well. */
  readonly imports: readonly ImportTarget[];
  /** The lines of `export *` and `export default`. */
  readonly unnamedExports: readonly number[];
}

export interface UnitRules {
  /** The other units this one may import. */
  readonly imports: readonly string[];
  readonly packages?: readonly string[];
  /** "pure": no clock, no randomness, no input or output of its own. "synchronous": nor does it ever wait. */
  readonly purity?: "pure" | "synchronous";
  /** What a pure unit may import of node all the same. */
  readonly node?: readonly string[];
  /** No `export *`, no `export default`. */
  readonly explicitExports?: boolean;
}

export interface House {
  /** By folder ("paxos/core") or file ("log.ts") under src/; the longest name that fits a file is its unit. */
  readonly units: Readonly<Record<string, UnitRules>>;
  /** Files that may load further units, by `import()` only. */
  readonly lazy: Readonly<Record<string, readonly string[]>>;
}

/** What is wrong with one file of src/, a sentence each. `file` is relative to src/. */
export function violations(file: string, source: string, house: House): string[] {
  const unit = unitOf(file, house);
  const rules = unit === undefined ? undefined : house.units[unit];
  if (unit === undefined || rules === undefined) return [`${file} has no place in the house`];
  const module = readModule(source);
  const found = module.imports.flatMap((target) => {
    const fault = importFault(file, unit, rules, target, house);
    return fault === undefined ? [] : [`line ${target.line}: ${fault}`];
  });
  if (rules.purity !== undefined) found.push(...impureNames(module, rules.purity).map((name) => `${unit} is ${rules.purity}: ${name}`));
  if (rules.explicitExports === true) found.push(...module.unnamedExports.map((line) => `line ${line}: ${unit} exports explicit names only`));
  return found;
}

/** The unit of a file, `undefined` for one that has no place. */
export function unitOf(file: string, house: House): string | undefined {
  const fitting = Object.keys(house.units).filter((name) => file === name || file.startsWith(`${name}/`));
  return fitting.sort((a, b) => b.length - a.length)[0];
}

export function readModule(source: string): Module {
  const tokens = tokenize(source);
  const imports: ImportTarget[] = [];
  const unnamedExports: number[] = [];
  for (const [at, token] of tokens.entries()) {
    if (token.type !== "word" || isProperty(tokens, at)) continue;
    if (token.text === "import" || token.text === "require") imports.push(...importAt(tokens, at));
    if (token.text === "export") {
      if (isStarExport(tokens, at) || tokens[at + 1]?.text === "default") unnamedExports.push(token.line);
      imports.push(...reExportAt(tokens, at));
    }
  }
  return { tokens, imports, unnamedExports };
}

const IMPURE = new Set([
  ...["Date", "performance", "process", "global", "globalThis", "crypto", "fetch", "console", "Buffer"], // bytes are Uint8Array
  ...["setTimeout", "setInterval", "setImmediate", "queueMicrotask"],
]);
const WAITING = new Set(["async", "await", "Promise"]);

/**
 * The impure names a module uses, with their lines. A member (`entry.process`) is no global, so it passes; a declaration of such a name does
 * not: it would hide the real one from the reader and from this check.
 */
export function impureNames(module: Module, purity: "pure" | "synchronous"): string[] {
  const { tokens } = module;
  return tokens.flatMap((token, at) => {
    if (token.type !== "word" || isProperty(tokens, at)) return [];
    const impure =
      IMPURE.has(token.text) || (purity === "synchronous" && WAITING.has(token.text)) || (token.text === "Math" && !isPureMath(tokens, at));
    return impure ? [`line ${token.line}: ${token.text}${token.text === "Math" ? ".random" : ""}`] : [];
  });
}

/** Every TypeScript file below a folder, sorted, relative to it. A folder that does not exist has none. */
export function sourceFiles(folder: URL): string[] {
  if (!existsSync(folder)) return [];
  const entries = readdirSync(folder, { recursive: true, encoding: "utf8" });
  return entries.filter((entry) => entry.endsWith(".ts")).sort();
}

export function readSource(folder: URL, file: string): string {
  return readFileSync(new URL(file, folder), "utf8");
}

function importFault(file: string, unit: string, rules: UnitRules, target: ImportTarget, house: House): string | undefined {
  const { specifier } = target;
  if (specifier === undefined) return "import() of something that is not a literal";
  if (specifier.startsWith("node:")) {
    return rules.purity === undefined || rules.node?.includes(specifier) === true
      ? undefined
      : `${unit} is ${rules.purity}: it must not import ${specifier}`;
  }
  if (!specifier.startsWith(".")) {
    const name = packageOf(specifier);
    return rules.packages?.includes(name) === true ? undefined : `${unit} must not import the package ${name}`;
  }
  const path = posix.join(posix.dirname(file), specifier);
  const to = unitOf(path, house);
  if (to === undefined) return `${specifier} has no place in the house`;
  if (to === unit || rules.imports.includes(to)) return undefined;
  const lazy = house.lazy[file]?.includes(to) === true;
  if (lazy && target.how === "dynamic") return undefined;
  return `${unit} must not import ${to}${lazy ? " but by import()" : ""}`;
}

function packageOf(specifier: string): string {
  return specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
}

function isProperty(tokens: readonly Token[], at: number): boolean {
  const before = tokens[at - 1];
  return before?.type === "punctuator" && (before.text === "." || before.text === "?.");
}

/** `Math.floor` is; `Math.random`, `Math[name]` and a copy of `Math` are not. */
function isPureMath(tokens: readonly Token[], at: number): boolean {
  return isProperty(tokens, at + 2) && tokens[at + 2]?.text !== "random";
}

function isPunctuator(token: Token | undefined, text: string): boolean {
  return token?.type === "punctuator" && token.text === text;
}

function importAt(tokens: readonly Token[], at: number): ImportTarget[] {
  const line = tokens[at]?.line ?? 0;
  const next = tokens[at + 1];
  if (isPunctuator(next, "(")) {
    const argument = tokens[at + 2];
    const isLiteral = (argument?.type === "string" || argument?.type === "template") && [")", ","].includes(tokens[at + 3]?.text ?? "");
    return [{ specifier: isLiteral ? argument.text : undefined, how: "dynamic", line }];
  }
  const isDeclaration =
    tokens[at]?.text === "import" && (next?.type === "word" || next?.type === "string" || isPunctuator(next, "{") || isPunctuator(next, "*"));
  if (!isDeclaration) return []; // `import.meta`, a key called `import`
  // The target is the first string outside the braces: names in there may be strings too.
  let depth = 0;
  for (const token of tokens.slice(at + 1)) {
    if (isPunctuator(token, "{")) depth++;
    if (isPunctuator(token, "}")) depth--;
    if (token.type === "string" && depth === 0) return [{ specifier: token.text, how: "static", line }];
    if (isPunctuator(token, ";")) break;
  }
  throw new Error(`line ${line}: an import without a target`);
}

function isStarExport(tokens: readonly Token[], at: number): boolean {
  const first = tokens[at + 1]?.text === "type" ? at + 2 : at + 1;
  return isPunctuator(tokens[first], "*");
}

function reExportAt(tokens: readonly Token[], at: number): ImportTarget[] {
  const first = tokens[at + 1]?.text === "type" ? at + 2 : at + 1;
  let end = first;
  if (isPunctuator(tokens[first], "{")) end = tokens.findIndex((token, i) => i > first && isPunctuator(token, "}"));
  else if (!isPunctuator(tokens[first], "*")) return [];
  else if (tokens[first + 1]?.text === "as") end = first + 2;
  const target = tokens[end + 2];
  if (tokens[end + 1]?.text !== "from" || target?.type !== "string") return [];
  return [{ specifier: target.text, how: "re-export", line: tokens[at]?.line ?? 0 }];
}

const HASHBANG = /#![^\n]*/y;
const SKIPPED = /(?:\s|\/\/[^\n]*|\/\*[\s\S]*?\*\/)*/y;
const WORD = /#?[\p{ID_Start}$_][\p{ID_Continue}$]*/uy;
const NUMBER = /(?:0[xXbBoO][\da-fA-F_]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?)n?/y;
const STRING = /"(?:[^"\\\n]|\\[\s\S])*"|'(?:[^'\\\n]|\\[\s\S])*'/y;
const TEMPLATE_PART = /(?:[^`\\$]|\\[\s\S]|\$(?!\{))*(?:`|\$\{)/y;
const REGEX = /\/(?:[^/\\[\n]|\\[^\n]|\[(?:[^\]\\\n]|\\[^\n])*\])+\/[a-z]*/y;
const PUNCTUATOR = /\.\.\.|\?\.|=>|\+\+|--|[{}()[\];,<>+\-*/%&|^!~?:=@.]/y;

const BEFORE_EXPRESSION = new Set("await case delete do else extends in instanceof new of return throw typeof void yield".split(" "));
const BEFORE_CONDITION = new Set(["if", "while", "for", "with"]);

/** @throws where it meets something that it cannot read. */
export function tokenize(source: string): Token[] {
  const tokenizer = new Tokenizer(source);
  tokenizer.run();
  return tokenizer.tokens;
}

class Tokenizer {
  readonly tokens: Token[] = [];
  private readonly source: string;
  /** What is open: "(", "if (", "[", "{" or "${". */
  private readonly open: string[] = [];
  private at = 0;
  private line = 1;
  private regexMayFollow = true;

  constructor(source: string) {
    this.source = source;
  }

  run(): void {
    if (this.source.startsWith("#!")) this.take(HASHBANG);
    for (this.take(SKIPPED); this.at < this.source.length; this.take(SKIPPED)) this.next();
    if (this.open.length > 0) throw new Error(`${this.open.join(" ")} without an end`);
  }

  private next(): void {
    const first = this.source.charAt(this.at);
    if (first === "`") {
      this.at++;
      this.templatePart();
    } else if (first === '"' || first === "'") {
      this.emit("string", this.take(STRING).slice(1, -1), false);
    } else if (/\d/.test(first) || (first === "." && /\d/.test(this.source.charAt(this.at + 1)))) {
      this.emit("number", this.take(NUMBER), false);
    } else if (first === "/" && this.regexMayFollow) {
      this.emit("regex", this.take(REGEX), false);
    } else if (/[\p{ID_Start}$_#]/u.test(first)) {
      const word = this.take(WORD);
      this.emit("word", word, BEFORE_EXPRESSION.has(word) && !isProperty(this.tokens, this.tokens.length));
    } else {
      this.punctuator();
    }
  }

  private templatePart(): void {
    const part = this.take(TEMPLATE_PART);
    const goesOn = part.endsWith("${");
    if (goesOn) this.open.push("${");
    this.emit("template", part.slice(0, goesOn ? -2 : -1), goesOn);
  }

  private punctuator(): void {
    const text = this.take(PUNCTUATOR);
    if (text === "(") this.open.push(this.isBeforeCondition() ? "if (" : "(");
    else if (text === "[" || text === "{") this.open.push(text);
    const closed = text === ")" || text === "]" || text === "}" ? this.open.pop() : undefined;
    if (closed === "${") {
      this.templatePart();
      return;
    }
    // What follows a "}" would be a division only behind an object literal or a function expression, and nobody divides those.
    const mayFollow = text === ")" ? closed === "if (" : !["]", "++", "--"].includes(text);
    this.emit("punctuator", text, mayFollow);
  }

  private isBeforeCondition(): boolean {
    const [before, last] = [this.tokens.at(-2), this.tokens.at(-1)];
    return last?.type === "word" && (BEFORE_CONDITION.has(last.text) || (last.text === "await" && before?.text === "for"));
  }

  private take(pattern: RegExp): string {
    pattern.lastIndex = this.at;
    const text = pattern.exec(this.source)?.[0];
    if (text === undefined) throw new Error(`line ${this.line}: cannot read ${JSON.stringify(this.source.slice(this.at, this.at + 20))}`);
    this.at += text.length;
    this.line += text.split("\n").length - 1;
    return text;
  }

  /** The line of a token is the one it ends on. */
  private emit(type: Token["type"], text: string, regexMayFollow: boolean): void {
    this.tokens.push({ type, text, line: this.line });
    this.regexMayFollow = regexMayFollow;
  }
}

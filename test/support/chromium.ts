/** Pages in a headless Chromium of the system. playwright-core drives it, and brings none of its own. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";

/** As much of playwright-core as is used: its own types need the DOM's, which the sources are not checked with. */
interface Playwright {
  readonly chromium: { launch(options: { readonly executablePath: string; readonly args: readonly string[] }): Promise<Browser> };
}

export interface Browser {
  newPage(options: {
    readonly viewport: { readonly width: number; readonly height: number };
    readonly colorScheme: "light" | "dark";
  }): Promise<BrowserPage>;
  close(): Promise<void>;
}

export interface BrowserPage {
  readonly keyboard: {
    press(key: string): Promise<void>;
    type(text: string): Promise<void>;
    down(key: string): Promise<void>;
    up(key: string): Promise<void>;
  };
  readonly mouse: {
    move(x: number, y: number): Promise<void>;
    click(x: number, y: number): Promise<void>;
    wheel(x: number, y: number): Promise<void>;
  };
  goto(url: string): Promise<unknown>;
  close(): Promise<void>;
  /** @param script whose value is sent back. */
  evaluate<Value>(script: string): Promise<Value>;
  screenshot(): Promise<Uint8Array>;
  click(selector: string): Promise<void>;
  textContent(selector: string): Promise<string | null>;
  on(event: "console", listener: (message: { text(): string }) => void): void;
  on(event: "pageerror", listener: (error: Error) => void): void;
  on(event: "request", listener: (request: { url(): string }) => void): void;
}

const require = createRequire(import.meta.url);
const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const FLAGS = [
  ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
  ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
];

export const hasChromium = existsSync(executablePath);

/** With an empty profile, which goes when it is closed. */
export function launchChromium(): Promise<Browser> {
  const { chromium }: Playwright = require("playwright-core");
  return chromium.launch({ executablePath, args: FLAGS });
}

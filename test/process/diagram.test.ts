/** The page of a trace in a real browser. What is looked for in its pictures are colours at places that the page names: no letter of them is read, whatever the machine's fonts. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { slot } from "../../src/base/ids.ts";
import { drawSettings } from "../../src/testing/cluster/settings.ts";
import { simulateCluster } from "../../src/testing/cluster/simulation.ts";
import { type TraceEvent, TraceRecorder } from "../../src/testing/cluster/trace.ts";
import { traceDiagram } from "../../src/testing/diagram/diagram.ts";
import { type Browser, type BrowserPage, hasChromium, launchChromium } from "../support/chromium.ts";
import { type Colour, Picture } from "../support/png.ts";
import { Processes } from "../support/server-process.ts";
import { accepted, BALLOT, batch, HandMadeTrace, heartbeat, node, prepare } from "../support/traces.ts";

const root = new URL("../../", import.meta.url);
const processes = new Processes();
let browser: Browser;
let page: BrowserPage;
/** What no page may cause: errors, words in the console, requests. */
let complaints: string[] = [];

afterEach(() => processes.end());

interface Point {
  readonly x: number;
  readonly y: number;
}

describe.skipIf(!hasChromium)(
  `a diagram in a browser${hasChromium ? "" : " (skipped: there is no /usr/bin/chromium, and CHROMIUM names none)"}`,
  () => {
    beforeAll(async () => {
      browser = await launchChromium();
    });
    afterAll(() => browser.close());
    beforeEach(() => {
      complaints = [];
    });
    afterEach(async () => {
      await page.close();
      expect(complaints).toEqual([]);
    });

    test.each(["light", "dark"] as const)("shows roles, messages, writes, decisions and the violation where they are, in %s", async (scheme) => {
      const { trace, at } = everyKind();
      await open(trace.events, "", scheme);
      const { shows, pointOf, arrowsOf, brightness } = await lookAt();
      if (scheme === "light") expect(brightness).toBeGreaterThan(200);
      else expect(brightness).toBeLessThan(50);
      // A lane has the colour of its role between two events.
      for (const [from, to, role] of [
        [at.follows, at.campaigns, "follower"],
        [at.campaigns, at.leads, "candidate"],
        [at.leads, at.end, "leader"],
      ] as const) {
        const [above, below] = [await pointOf(from), await pointOf(to)];
        for (const share of [0.3, 0.7])
          expect(shows(role, { x: above.x, y: above.y + share * (below.y - above.y) }, 0), `${role} ${share}`).toBe(true);
      }
      const [paused, fenced, down] = [await pointOf(at.paused), await pointOf(at.fenced), await pointOf(at.down)];
      expect(shows("paused", { x: paused.x, y: paused.y + 10 }, 4), "paused").toBe(true);
      expect(shows("fenced", { x: fenced.x, y: fenced.y + 12 }, 4), "fenced").toBe(true);
      expect(shows("leader", { x: down.x, y: down.y + 12 }, 4), "no longer").toBe(false);

      const [arrived] = await arrowsOf(at.sent);
      for (const share of [0.2, 0.5, 0.8]) expect(shows("phase1", along(arrived, share), 1), `an arrow, ${share}`).toBe(true);
      const [lost] = await arrowsOf(at.lost);
      expect(shows("phase2", along(lost, 0.5), 1), "a lost message").toBe(true);
      expect(shows("violation", along(lost, 1), 3), "its cross").toBe(true);
      expect(along(lost, 1).x, "on its way").toBeLessThan(fenced.x - 30);
      expect(shows("phase2", along(lost, 1.4), 1), "and nothing beyond").toBe(false);
      const [cut] = await arrowsOf(at.cut);
      expect(shows("phase2", { ...along(cut, 1), y: along(cut, 1).y + 5 }, 1), "a bar where the link is cut").toBe(true);
      expect(shows("violation", along(cut, 1), 3)).toBe(false);
      expect(along(cut, 1).x, "near its sender").toBeGreaterThan(paused.x + 20);
      const [dead] = await arrowsOf(at.dead);
      expect(shows("violation", along(dead, 1), 3), "a cross where nothing runs").toBe(true);

      const [begun, ended] = [await pointOf(at.begun), await pointOf(at.ended)];
      const beside = { x: begun.x - 10, y: (begun.y + ended.y) / 2 };
      expect(shows("write", beside, 2), "a write").toBe(true);
      expect(shows("write", { ...beside, y: begun.y - 8 }, 2), "not before").toBe(false);
      expect(shows("write", { ...beside, y: ended.y + 8 }, 2), "not after").toBe(false);

      const decided = await pointOf(at.decided);
      expect(shows("ink", { x: decided.x + 9, y: decided.y }, 1), "a decision").toBe(true);
      const violation = await pointOf(at.violation);
      expect(shows("violation", violation, 0), "the violation").toBe(true);
      expect(shows("violation", { x: violation.x - 30, y: violation.y }, 1), "and its line").toBe(true);
    });

    test("opens at the violation, and at the event of a link", async () => {
      const { trace, at } = everyKind();
      await open(trace.events);
      expect(await selected()).toBe(at.violation);
      await expect.poll(address).toBe(`#e=${at.violation}`);
      expect(await page.textContent("#panel h2")).toBe("VIOLATION planted: all is well");
      await page.close();
      await open(trace.events, `#e=${at.lost}`);
      expect(await selected()).toBe(at.lost);
      await page.evaluate(`location.hash = "#e=${at.cut}"`);
      await expect.poll(selected).toBe(at.cut);
      await page.evaluate(`location.hash = "#e=99999"`);
      await expect.poll(address).toBe(`#e=${at.cut}`); // of no event: back to where it was
    });

    test("steps through the events that are shown, and tells all about them", async () => {
      const { trace, at } = everyKind();
      await open(trace.events, `#e=${at.sent}`);
      expect(JSON.parse((await page.textContent("#panel pre")) ?? "")).toMatchObject({ type: "prepare", ballot: "3.0.1" });
      expect(await stateOf("role", 1)).toBe("candidate");
      await page.keyboard.press("m");
      expect(await selected(), "the other end").toBe(at.received);
      await page.keyboard.press("m");
      await page.keyboard.press("ArrowDown");
      expect(await selected(), "the heartbeat between is not shown").toBe(at.lost);
      await expect.poll(address).toBe(`#e=${at.lost}`);
      await page.keyboard.press("ArrowUp");
      expect(await selected()).toBe(at.sent);
      await page.keyboard.press("ArrowLeft");
      expect(await selected(), "the one before it at this node").toBe(at.campaigns);
      await page.keyboard.press("End");
      expect(await selected()).toBe(at.violation);
      await page.click(`#panel tr:has(th:text-is("decided")) td:nth-child(2) button`);
      expect(await selected(), "where that value comes from").toBe(at.decided);
      expect(await page.evaluate("document.querySelector('#panel td.new')?.textContent"), "bold").toBe("5");
      const point = await pointOnPage(at.lost);
      await page.mouse.click(point.x, point.y);
      expect(await selected(), "by a click").toBe(at.lost);
    });

    test("shows heartbeats where they are asked for, and hides nodes, kinds and what lacks a word", async () => {
      const { trace, at } = everyKind();
      await open(trace.events, `#e=${at.violation}`);
      const before = await shown();
      await page.click("details:has(#kinds) summary");
      await page.click(`#kinds label:has-text("heartbeat (")`);
      expect(await shown()).toBe(before + 1);
      await page.click(`#kinds label:has-text("heartbeat (")`);
      await page.click(`#kinds label:has-text("writes (")`);
      expect(await shown()).toBe(before - 2);
      await page.click(`#kinds label:has-text("writes (")`);
      await page.click("details:has(#kinds) summary");
      await page.click("details:has(#lanes) summary");
      await page.click(`#lanes label:has-text("node 2")`);
      expect(await shown()).toBeLessThan(before - 3);
      const arrowsOf = (number: number): Promise<number> => page.evaluate<number>(`diagram.arrowsOf(${number}).length`);
      expect([await arrowsOf(at.sent), await arrowsOf(at.lost)], "what goes to node 2, and to node 3").toEqual([0, 1]);
      await page.click(`#lanes label:has-text("node 2")`);
      expect(await shown()).toBe(before);
      await page.click("details:has(#lanes) summary");
      await page.keyboard.press("/");
      await page.keyboard.type("accepted 77");
      expect(await shown(), "it, and the violation").toBe(2);
      expect(await page.textContent("#count")).toBe(`2 of ${trace.events.length} events`);
    });

    test("zooms with keys, buttons and the wheel, by order and by time", async () => {
      const { trace, at } = everyKind();
      await open(trace.events, `#e=${at.lost}`);
      const apart = async (): Promise<number> => (await pointOf(at.leads)).y - (await pointOf(at.campaigns)).y;
      const first = await apart();
      await page.keyboard.press("+");
      expect(await apart()).toBeCloseTo(first * 1.5);
      await page.click("#farther");
      expect(await apart()).toBeCloseTo(first);
      const place = await pointOnPage(at.lost);
      await page.mouse.move(place.x, place.y);
      await page.keyboard.down("Control");
      await page.mouse.wheel(0, -100);
      await page.keyboard.up("Control");
      await expect.poll(apart).toBeGreaterThan(first * 1.1);
      await page.keyboard.press("0");
      expect(await apart()).toBeCloseTo(first);
      await page.keyboard.press("t");
      // A millisecond of it has the height that it is said to have: nothing else is between them in time.
      const [begun, ended] = [await pointOf(at.begun), await pointOf(at.ended)];
      const [sent, received] = [await pointOf(at.sent), await pointOf(at.received)];
      expect((ended.y - begun.y) / (received.y - sent.y)).toBeCloseTo(3);
    });

    test("copes with a whole run, and says so where it has only the end of it", async () => {
      const recorder = new TraceRecorder({ maxEvents: 30_000 });
      const settings = drawSettings(3, "default");
      simulateCluster({ seed: 3, settings: { ...settings, chaosEvents: 20_000 }, trace: recorder.trace });
      expect(recorder.events).toHaveLength(30_000);
      await open(recorder.events);
      expect(await page.textContent("header p")).toMatch(/^The first \d+ events of this run are not here/);
      await page.click("details:has(#kinds) summary");
      for (const kind of ["heartbeat (", "heartbeat-reply (", "clients (", "applied ("]) await page.click(`#kinds label:has-text("${kind}")`);
      expect(await shown()).toBe(30_000);
      for (const key of ["End", "ArrowUp", "Home", "t", "+", "ArrowDown"]) {
        await page.keyboard.press(key);
        await drawn();
        // A few milliseconds; so much on a machine that has other things to do.
        expect(await page.evaluate<number>("diagram.drawMs"), key).toBeLessThan(1_000);
      }
      await page.keyboard.press("Home");
      await page.evaluate(`{
        globalThis.named = 0;
        const replace = history.replaceState.bind(history);
        history.replaceState = (...how) => (named++, replace(...how));
        for (let step = 0; step < 300; step++) dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown" }));
      }`);
      expect(await page.evaluate("diagram.selected - diagram.data.first"), "a key that is held down").toBe(300);
      await expect.poll(address).toBe(`#e=${await selected()}`);
      expect(await page.evaluate("named"), "browsers refuse an address that changes so often").toBe(1);
    });

    test("is the same page from the sources by tsx, and from what is built", async () => {
      const folder = processes.directory();
      const failure = join(folder, "failure.json");
      const settings = { ...drawSettings(3, "calm"), chaosEvents: 50 };
      writeFileSync(failure, JSON.stringify({ seed: 3, profile: "calm", settings }));
      const replayed = join(folder, "replayed.html");
      const sim = runNode("--import", "tsx", "scripts/sim.ts", "--replay", failure, "--html", replayed);
      expect(sim.stderr).toBe("");
      expect(sim.stdout).toMatch(/events drawn: .*replayed\.html\n$/);
      const built = join(folder, "built.html");
      const script = `
      import { writeFileSync, readFileSync } from "node:fs";
      import { simulateCluster, TraceRecorder, traceDiagram } from ${JSON.stringify(new URL("dist/testing/index.js", root).href)};
      const recorder = new TraceRecorder();
      simulateCluster({ ...JSON.parse(readFileSync(${JSON.stringify(failure)}, "utf8")), trace: recorder.trace });
      writeFileSync(${JSON.stringify(built)}, traceDiagram(recorder.events, { title: "seed 3, profile calm" }));`;
      expect(runNode("--input-type=module", "--eval", script)).toMatchObject({ status: 0, stderr: "" });
      const traceIn = (file: string): string | undefined => /<script id="trace".*?<\/script>/s.exec(readFileSync(file, "utf8"))?.[0];
      expect(traceIn(replayed)).toBe(traceIn(built));
      for (const file of [replayed, built]) {
        await visit(pathToFileURL(file).href);
        await page.keyboard.press("End");
        await page.keyboard.press("t");
        await drawn();
        expect(await selected()).toBeGreaterThan(100);
        if (file === replayed) await page.close();
      }
    });
  },
);

test.each([
  ["--html", "a folder", (folder: string) => folder],
  ["--html", "a file in a folder that is not there", (folder: string) => join(folder, "none", "out.html")],
])("names what %s cannot be written to: %s", (_option, _what, pathIn) => {
  const folder = processes.directory();
  const failure = join(folder, "failure.json");
  writeFileSync(failure, JSON.stringify({ seed: 3, profile: "calm", settings: { ...drawSettings(3, "calm"), chaosEvents: 50 } }));
  const { status, stderr } = runNode("--import", "tsx", "scripts/sim.ts", "--replay", failure, "--html", pathIn(folder));
  expect(stderr).toMatch(new RegExp(`^--html ${pathIn(folder)} cannot be written: E`));
  expect(status).toBe(2);
});

test("names a file that is no failure", () => {
  const folder = processes.directory();
  const { status, stderr } = runNode("--import", "tsx", "scripts/sim.ts", "--replay", folder);
  expect(stderr).toMatch(new RegExp(`^${folder} is no file of a failed run: EISDIR`));
  expect(status).toBe(2);
});

function runNode(...args: readonly string[]) {
  return spawnSync(process.execPath, args, { cwd: fileURLToPath(root), encoding: "utf8" });
}

async function open(events: readonly TraceEvent[], hash = "", scheme: "light" | "dark" = "light"): Promise<void> {
  const file = join(processes.directory(), "trace.html");
  writeFileSync(file, traceDiagram(events, { title: "by hand" }));
  await visit(pathToFileURL(file).href + hash, scheme);
}

async function visit(url: string, colorScheme: "light" | "dark" = "light"): Promise<void> {
  page = await browser.newPage({ viewport: { width: 1200, height: 900 }, colorScheme });
  page.on("console", (message) => complaints.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(url.replace(/#.*/, ""))) complaints.push(`request: ${request.url()}`);
  });
  await page.goto(url);
  await expect.poll(() => page.evaluate("globalThis.diagram?.drawMs ?? 0")).toBeGreaterThan(0);
}

/** Once what was asked for last is on the screen. */
async function drawn(): Promise<void> {
  await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
}

/** The screen, and where on it the page says that things are. */
async function lookAt() {
  await drawn();
  const picture = new Picture(await page.screenshot());
  const corner = await page.evaluate<Point>("({ x: canvas.getBoundingClientRect().left, y: canvas.getBoundingClientRect().top })");
  const colours = await page.evaluate<Record<string, string>>(
    `Object.fromEntries(["ink", "follower", "candidate", "leader", "fenced", "paused", "phase1", "phase2", "write", "violation"]
      .map((name) => [name, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim()]))`,
  );
  return {
    pointOf,
    /** Of the paper, from 0 to 255. */
    brightness: Math.max(...picture.at(corner.x + 3, corner.y + 60)),
    arrowsOf: (number: number) => page.evaluate<readonly { readonly from: Point; readonly to: Point }[]>(`diagram.arrowsOf(${number})`),
    /** Whether that colour is there on the canvas, or so many pixels away at most. */
    shows: (colour: string, { x, y }: Point, within: number): boolean => picture.has(rgb(colours[colour] ?? ""), x + corner.x, y + corner.y, within),
  };
}

function rgb(colour: string): Colour {
  const [red = -1, green = -1, blue = -1] = (colour.match(/[\da-f]{2}/g) ?? []).map((digits) => Number.parseInt(digits, 16));
  return [red, green, blue];
}

function along(arrow: { readonly from: Point; readonly to: Point } | undefined, share: number): Point {
  if (arrow === undefined) throw new Error("there is no arrow");
  return { x: arrow.from.x + share * (arrow.to.x - arrow.from.x), y: arrow.from.y + share * (arrow.to.y - arrow.from.y) };
}

async function pointOf(number: number): Promise<Point> {
  await drawn();
  return page.evaluate<Point>(`diagram.pointOf(${number})`);
}

async function pointOnPage(number: number): Promise<Point> {
  const { x, y } = await pointOf(number);
  const corner = await page.evaluate<Point>("({ x: canvas.getBoundingClientRect().left, y: canvas.getBoundingClientRect().top })");
  return { x: x + corner.x, y: y + corner.y };
}

function address(): Promise<string> {
  return page.evaluate<string>("location.hash");
}

function selected(): Promise<number> {
  return page.evaluate<number>("diagram.selected");
}

function shown(): Promise<number> {
  return page.evaluate<number>("diagram.shown");
}

/** What the panel says of a node. */
function stateOf(field: string, id: number): Promise<string | null> {
  return page.textContent(`#panel tr:has(th:text-is("${field}")) td:nth-child(${id + 1})`);
}

/** Something of each kind, with the numbers of the events that a test asks for. */
function everyKind() {
  const trace = new HandMadeTrace();
  const prepared = { message: 1, body: prepare() };
  trace.is(1, "follower").is(2, "follower").is(3, "follower");
  for (const id of [1, 2, 3]) trace.add(0, id, { type: "start", details: { boot: 1 } });
  const follows = trace.events.length - 2;
  for (let pause = 0; pause < 3; pause++) trace.add(1_000, undefined, { type: "note", what: "nothing" });
  const campaigns = trace.is(1, "candidate").add(1_000, 1, { type: "role", role: "candidate", ballot: BALLOT, reason: "campaign" });
  const sent = trace.add(0, 1, { type: "sent", ...prepared, to: node(2), fate: { type: "arrives", atUs: [5_000] } });
  trace.add(0, 1, { type: "sent", message: 2, to: node(2), body: heartbeat(), fate: { type: "lost" } });
  const lost = trace.add(0, 1, { type: "sent", message: 3, to: node(3), body: accepted(77), fate: { type: "lost" } });
  for (let pause = 0; pause < 3; pause++) trace.add(0, undefined, { type: "note", what: "nothing" });
  const cut = trace.add(0, 3, { type: "sent", message: 4, to: node(1), body: accepted(8), fate: { type: "cut" } });
  const received = trace.add(1_000, 2, { type: "received", ...prepared, from: node(1), arrival: "accepted" });
  const begun = trace.add(0, 1, { type: "write-begun", write: 1, batch: batch(1), endsAtUs: 8_000 });
  for (let pause = 0; pause < 3; pause++) trace.add(0, undefined, { type: "note", what: "nothing" });
  const ended = trace.add(3_000, 1, { type: "write-ended", write: 1, how: "done", durable: true });
  const leads = trace.is(1, "leader").add(0, 1, { type: "role", role: "leader", ballot: BALLOT, reason: "elected" });
  const decided = trace.is(1, "leader", 5).add(0, 1, { type: "decided", after: slot(4), through: slot(5) });
  const paused = trace.is(2, "paused").add(0, 2, { type: "pause" });
  const fenced = trace.is(3, "fenced").add(0, 3, { type: "fenced" });
  for (let pause = 0; pause < 4; pause++) trace.add(1_000, undefined, { type: "note", what: "nothing" });
  const down = trace.is(2, "down").add(0, 2, { type: "crash" });
  const toNobody = { message: 5, body: accepted(9) };
  trace.add(0, 1, { type: "sent", ...toNobody, to: node(2), fate: { type: "arrives", atUs: [13_000] } });
  const dead = trace.add(1_000, 2, { type: "received", ...toNobody, from: node(1), arrival: "dead" });
  const end = trace.add(0, 1, { type: "leadership", leadership: { role: "unknown" } });
  const violation = trace.add(0, 1, { type: "violation", check: "planted", claim: "all is well", details: { node: 1 } });
  return { trace, at: { follows, campaigns, sent, lost, cut, received, begun, ended, leads, decided, paused, fenced, down, dead, end, violation } };
}

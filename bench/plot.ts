/** Lines over time, as SVG. */
export interface Series {
  readonly name: string;
  readonly points: (readonly [x: number, y: number])[];
}

interface Panel {
  readonly label: string;
  readonly series: readonly Series[];
}

const [WIDTH, HEIGHT, LEFT, TOP, GAP] = [860, 230, 60, 34, 46];
const COLOURS = ["#1b6ca8", "#2e8b57", "#7a5195", "#8c6d31", "#d45087", "#f28e2b", "#888888"];

export function linePlot(title: string, panels: readonly Panel[], xLabel: string): string {
  const height = TOP + panels.length * (HEIGHT + GAP) + 60;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${LEFT + WIDTH + 20}" height="${height}" font-family="sans-serif" font-size="12"><title>${title}</title>`,
    `<rect width="100%" height="100%" fill="white"/><text x="${LEFT}" y="14" font-size="13">${title}</text>`,
    ...panels.map((panel, index) => drawPanel(panel, TOP + index * (HEIGHT + GAP))),
    `<text x="${LEFT + WIDTH / 2}" y="${height - 46}" text-anchor="middle">${xLabel}</text>`,
    ...(panels[0]?.series ?? []).map(({ name }, index) => {
      const [x, y] = [LEFT + (index % 5) * 170, height - 24 + Math.floor(index / 5) * 16];
      return `<line x1="${x}" x2="${x + 20}" y1="${y - 4}" y2="${y - 4}" stroke="${COLOURS[index % COLOURS.length]}" stroke-width="2"/><text x="${x + 26}" y="${y}">${name}</text>`;
    }),
    "</svg>",
  ];
  return `${parts.join("\n")}\n`;
}

function drawPanel({ label, series }: Panel, top: number): string {
  const points = series.flatMap((each) => each.points);
  const mostX = Math.max(1, ...points.map(([x]) => x));
  const mostY = ceiling(Math.max(1, ...points.map(([, y]) => y)));
  const at = ([x, y]: readonly [number, number]): string =>
    `${(LEFT + (x / mostX) * WIDTH).toFixed(1)},${(top + HEIGHT - (y / mostY) * HEIGHT).toFixed(1)}`;
  const grid = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const [x, y] = [LEFT + part * WIDTH, top + HEIGHT - part * HEIGHT];
    return [
      `<line x1="${LEFT}" x2="${LEFT + WIDTH}" y1="${y}" y2="${y}" stroke="#ddd"/><text x="${LEFT - 6}" y="${y + 4}" text-anchor="end">${Math.round(part * mostY)}</text>`,
      `<text x="${x}" y="${top + HEIGHT + 16}" text-anchor="middle">${Math.round(part * mostX)}</text>`,
    ].join("");
  });
  const lines = series.map(
    ({ points: own }, index) =>
      `<polyline fill="none" stroke="${COLOURS[index % COLOURS.length]}" stroke-width="1.5" points="${own.map(at).join(" ")}"/>`,
  );
  return [`<text x="${LEFT}" y="${top - 6}">${label}</text>`, ...grid, ...lines].join("\n");
}

/** The next round number. */
function ceiling(value: number): number {
  const step = 10 ** Math.floor(Math.log10(value));
  return Math.ceil(value / step) * step;
}

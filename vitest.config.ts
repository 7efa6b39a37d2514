import { defineConfig } from "vitest/config";

const project = (name: string, extra: object = {}) => ({ test: { name, include: [`test/${name}/**/*.test.ts`], ...extra } });

export default defineConfig({
  test: {
    // One for each core of the smallest machine: left alone it would keep a core for itself.
    maxWorkers: 2,
    projects: [
      // Two files share two cores, on machines that others use as well: here, too, only a hang meets a deadline.
      project("unit", { testTimeout: 60_000 }),
      project("sim", { testTimeout: 60_000 }),
      // Real processes share two cores and a disk: one file at a time, and deadlines that only a hang can meet.
      project("process", { fileParallelism: false, testTimeout: 120_000, hookTimeout: 60_000 }),
      project("examples", { fileParallelism: false, testTimeout: 120_000 }),
    ],
  },
});

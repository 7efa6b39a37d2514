import { defineConfig } from "vitest/config";

const project = (name: string, extra: object = {}) => ({ test: { name, include: [`test/${name}/**/*.test.ts`], ...extra } });

export default defineConfig({
  test: {
    projects: [
      project("unit"),
      project("sim"),
      // Real processes share two cores and a disk: one file at a time, and deadlines that only a hang can meet.
      project("process", { fileParallelism: false, testTimeout: 120_000, hookTimeout: 60_000 }),
      project("examples", { fileParallelism: false, testTimeout: 120_000 }),
    ],
  },
});

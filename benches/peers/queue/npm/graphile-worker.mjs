// With its local queue and both batchers, as its page on performance has them.

import { Logger, makeWorkerUtils, run } from "graphile-worker";

const CHUNK = 5_000;

export async function open(connectionString) {
  // It would print a line for each job.
  const logger = new Logger(() => () => {});
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  const query = (text) => utils.withPgClient((client) => client.query(text));
  const preset = {
    worker: {
      concurrentJobs: 100,
      maxPoolSize: 16,
      pollInterval: 100,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    },
  };

  return {
    async fill(jobs) {
      await query("TRUNCATE graphile_worker._private_jobs");
      for (let at = 0; at < jobs.length; at += CHUNK) {
        const chunk = jobs.slice(at, at + CHUNK);
        await utils.addJobs(chunk.map((payload) => ({ identifier: "noop", payload })));
      }
    },

    async drain(count) {
      let ran = 0;
      let all;
      const ended = new Promise((resolve) => (all = resolve));
      const noop = async () => {
        if (++ran === count) all();
      };
      const options = { connectionString, logger, preset, noHandleSignals: true, crontab: "" };
      const runner = await run({ ...options, taskList: { noop } });
      await ended;
      // It stores the last ends.
      await runner.stop();
      const { rows } = await query("SELECT count(*)::int AS left FROM graphile_worker._private_jobs");
      if (rows[0].left !== 0) throw new Error(`${rows[0].left} jobs are left`);
    },
  };
}

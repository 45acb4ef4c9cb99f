// On a Redis that waits for its disk. A job is counted when its end was stored.

import { Queue, Worker } from "bullmq";

const CHUNK = 5_000;
const CONCURRENCY = 100;

export async function open(url) {
  const { hostname: host, port } = new URL(url);
  const connection = { host, port: Number(port) };
  const queue = new Queue("noop", {
    connection,
    defaultJobOptions: { removeOnComplete: true },
  });

  return {
    async fill(jobs) {
      for (let at = 0; at < jobs.length; at += CHUNK) {
        const chunk = jobs.slice(at, at + CHUNK);
        await queue.addBulk(chunk.map((data) => ({ name: "noop", data })));
      }
    },

    async drain(count) {
      const options = { connection: { ...connection, maxRetriesPerRequest: null } };
      const worker = new Worker("noop", async () => {}, { ...options, concurrency: CONCURRENCY });
      let ended = 0;
      await new Promise((resolve, reject) => {
        worker.on("completed", () => {
          if (++ended === count) resolve();
        });
        worker.on("error", reject);
      });
      await worker.close();
    },
  };
}

// Decisions through Redis by rate-limiter-flexible. Reads how many on each line
// of its input, and answers `done` when they are made.

import { createInterface } from "node:readline";
import { Redis } from "ioredis";
import { RateLimiterRedis } from "rate-limiter-flexible";

const [url, keyCount, taskCount] = process.argv.slice(2);
const keys = Array.from({ length: Number(keyCount) }, (_, n) => `account-${n}`);
const tasks = Number(taskCount);

// Without `enableAutoPipelining`, with which the same work took a fifth longer.
const redis = new Redis(url);
const limiter = new RateLimiterRedis({
  storeClient: redis,
  keyPrefix: "peer",
  points: 1_000_000_000, // more than a run takes of any key
  duration: 60,
});

async function take(task, count) {
  for (let n = task; n < count; n += tasks) {
    await limiter.consume(keys[n % keys.length]); // rejects when it denies
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const count = Number(line);
  await Promise.all(Array.from({ length: tasks }, (_, task) => take(task, count)));
  console.log("done");
}
redis.disconnect();

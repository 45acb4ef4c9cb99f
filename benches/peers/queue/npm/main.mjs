// Jobs that do nothing, on graphile-worker or on BullMQ. Reads `fill <count>` or
// `drain <count>` on each line of its input, or a count for both, and answers `done`
// when it is: after the last end is stored.

import { createInterface } from "node:readline";

const [name, url] = process.argv.slice(2);
const { open } = await import(`./${name}.mjs`);
const side = await open(url);

for await (const line of createInterface({ input: process.stdin })) {
  const words = line.split(" ");
  const count = Number(words.at(-1));
  if (words[0] !== "drain") {
    const text = "x".repeat(80);
    await side.fill(Array.from({ length: count }, (_, number) => ({ number, text })));
  }
  if (words[0] !== "fill") await side.drain(count);
  console.log("done");
}
process.exit(0);

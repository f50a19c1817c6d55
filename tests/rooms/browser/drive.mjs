// Drives one page of Chromium for the tests: each line in is ["method", arguments...] of
// playwright's Page, each line out {"value": ...} or {"error": ...}. The options come as the first
// argument: {"args": [...], "context": {...}}.

import readline from "node:readline";
import { chromium } from "playwright-core";

const options = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: options.args,
});
const context = await browser.newContext(options.context);
const page = await context.newPage();
const said = [];
page.on("console", (message) => said.push(`${message.type()}: ${message.text().slice(0, 120)}`));
page.on("pageerror", (error) => said.push(`pageerror: ${error.message}`));

function answer(reply) {
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

async function perform(method, args) {
  if (method === "console") return said.slice(-10).join("\n");
  const path = method.split(".");
  const name = path.pop();
  const target = path.reduce((object, part) => object[part], page);
  const value = await target[name](...args);
  return ["string", "number", "boolean"].includes(typeof value) ? value : null;
}

answer({ value: "ready" });
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [method, ...args] = JSON.parse(line);
  try {
    answer({ value: await perform(method, args) });
  } catch (error) {
    answer({ error: `${method}(${JSON.stringify(args)}): ${error.message}` });
  }
}
await browser.close();

// What examples/web/turns.js makes of levels; run by test_page.py.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Turns, median } from "../../../examples/web/turns.js";

// Plays [who, milliseconds] pieces, "-" for silence and "both" for both; returns what was told.
function play(...pieces) {
  const told = [];
  const names = ["userBegan", "userEnded", "agentBegan", "agentEnded", "agentSilenced"];
  const on = Object.fromEntries(
    names.map((name) => [
      name,
      (value) => told.push(value === undefined ? name : [name, Number(value.toFixed(2))]),
    ]),
  );
  const turns = new Turns(on);
  let now = 0;
  for (const [who, milliseconds] of pieces) {
    for (const until = now + milliseconds; now < until; now += 20) {
      const levels = ["user", "agent"].map((side) => ([side, "both"].includes(who) ? 0.1 : 0));
      turns.hear(...levels, now);
    }
  }
  return told;
}

test("an answer is timed from the user's last sound to the agent's first", () => {
  assert.deepEqual(play(["user", 1000], ["-", 700], ["agent", 1000], ["-", 600]), [
    "userBegan",
    ["userEnded", 0.98],
    ["agentBegan", 0.72],
    ["agentEnded", 0.98],
  ]);
});

test("an answer that comes before the pause has ended is timed, too", () => {
  assert.deepEqual(play(["user", 1000], ["-", 300], ["agent", 1000], ["-", 600])[1], [
    "agentBegan",
    0.32,
  ]);
});

test("a greeting answers nobody", () => {
  assert.deepEqual(play(["agent", 1000], ["-", 600]), ["agentBegan", ["agentEnded", 0.98]]);
});

test("a barge-in is timed from the user's first sound to the agent's last", () => {
  const told = play(["agent", 1000], ["both", 200], ["user", 800], ["-", 900], ["agent", 500]);
  assert.deepEqual(told, [
    "agentBegan",
    "userBegan",
    ["agentSilenced", 0.18],
    ["agentEnded", 1.18],
    ["userEnded", 0.98],
    ["agentBegan", 0.92],
  ]);
});

test("pauses between words end nothing, and clicks begin nothing", () => {
  assert.deepEqual(play(["user", 60], ["-", 900]), []);
  assert.deepEqual(play(["user", 400], ["-", 400], ["user", 400], ["-", 600]), [
    "userBegan",
    ["userEnded", 1.18],
  ]);
});

test("the median of an even number is between the two", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { answer, card } from "./tool.mjs";

test("it counts words", async () => {
  const said = await answer({ want: "call", tool: card.name, arguments: { text: " one  two three " } });
  assert.deepEqual(said, { text: "3 words", result: { words: 3 } });
});

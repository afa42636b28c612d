import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

process.env.BOOK = join(mkdtempSync(join(tmpdir(), "book-")), "book.jsonl");
const { answer } = await import("./tool.mjs");

const entry = { arguments: { text: "the till was opened" }, write_key: "k1" };

test("a plan writes nothing and says what would be written", async () => {
  const plan = await answer({ ...entry, want: "plan" });
  assert.deepEqual(plan.preview.rows, [["text", "the till was opened"]]);
  assert.deepEqual((await answer({ ...entry, want: "plan" })).state, { entries: 0 });
});

test("the same key twice is one entry", async () => {
  assert.equal((await answer({ ...entry, want: "call" })).text, "entry 1 is in the log book");
  assert.equal((await answer({ ...entry, want: "call" })).text, "entry 1 is in the log book");
  assert.deepEqual((await answer({ ...entry, want: "plan" })).state, { entries: 1 });
});

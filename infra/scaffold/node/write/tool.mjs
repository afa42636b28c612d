// The tool: its card, which the model reads, and what it answers. It writes, so it is planned, a person is asked, and it is
// done once: Milepost gives every effect a key, and the same key twice has one effect.
import { appendFile, readFile } from "node:fs/promises";

const BOOK = process.env.BOOK ?? "book.jsonl";

export const card = {
  name: "__NAME__",
  lane: "bus",
  effect: "write",
  idempotency: "key", // the same write_key twice is one entry: `call` looks for it first
  dry_run: "look", // `plan` is asked before a person is
  description: "Adds an entry to the log book.",
  parameters: {
    type: "object",
    properties: { text: { type: "string", description: "What to write down." } },
    required: ["text"],
    additionalProperties: false,
  },
  owner: "__OWNER__",
};

export async function answer(request) {
  const entries = await read();
  const { text } = request.arguments;
  switch (request.want) {
    case "plan": // what would it do? `state` is what that depends on: when it changes, the approval is void
      return {
        preview: { summary: `entry ${entries.length + 1} of the log book`, rows: [["text", text]] },
        state: { entries: entries.length },
      };
    case "call": {
      const known = entries.find((entry) => entry.key === request.write_key);
      if (!known) await appendFile(BOOK, JSON.stringify({ key: request.write_key, text }) + "\n");
      return { text: `entry ${known ? entries.indexOf(known) + 1 : entries.length + 1} is in the log book` };
    }
    default:
      return { fault: { kind: "unasked", what: `${card.name} does not answer ${request.want}.` } };
  }
}

async function read() {
  try {
    return (await readFile(BOOK, "utf8")).split("\n").filter(Boolean).map((line) => JSON.parse(line));
  } catch (error) {
    if (error.code === "ENOENT") return [];
    throw error;
  }
}

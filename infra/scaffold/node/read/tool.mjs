// The tool: its card, which the model reads, and what it answers.

export const card = {
  name: "__NAME__",
  lane: "bus",
  effect: "read",
  description: "Counts the words of a text.",
  parameters: {
    type: "object",
    properties: { text: { type: "string", description: "The text." } },
    required: ["text"],
    additionalProperties: false,
  },
  owner: "__OWNER__",
};

// request: { want, tool, arguments, tenant, run, user, ... }. Milepost has checked the arguments against the card.
export async function answer(request) {
  const words = request.arguments.text.split(/\s+/).filter(Boolean);
  return { text: `${words.length} words`, result: { words: words.length } };
}

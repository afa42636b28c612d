// How tools are marked: what they change, and whether anybody answers them.
import { html } from "../../vendor/preact.js";
import { say } from "../../core/words.js";
import { Badge } from "../../parts/basic.js";

export const EFFECTS = { read: "good", write: "warn", destructive: "bad" };

export const Effect = ({ of }) => html`<${Badge} kind=${EFFECTS[of]}>${say(`tl.${of}`)}<//>`;
export const Presence = ({ of, always = false }) => (of === "here" && !always ? null : html`<${Badge} kind=${of === "here" ? "good" : "warn"}>${say(`tl.${of}`)}<//>`);

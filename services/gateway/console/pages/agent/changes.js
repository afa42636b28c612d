// What is different between two agents, field by field; of long texts, line by line.
import { html } from "../../vendor/preact.js";
import { say } from "../../core/words.js";
import { Picture } from "./picture.js";

// The lines of two texts side by side: [kind, line] with kind "same", "out" or "in". Longest common subsequence.
export function lines(before, after) {
  const a = before ? before.split("\n") : [], b = after ? after.split("\n") : [];
  const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) for (let j = b.length - 1; j >= 0; j -= 1) table[i][j] = a[i] === b[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
  const found = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) found.push(["same", a[i++]]), (j += 1);
    else if (i < a.length && (j === b.length || table[i + 1][j] >= table[i][j + 1])) found.push(["out", a[i++]]);
    else found.push(["in", b[j++]]);
  }
  return found;
}

const text = (value) => (value === null || value === undefined ? "" : Array.isArray(value) && value.every((each) => typeof each === "string") ? value.join("\n") : typeof value === "object" ? JSON.stringify(value, null, 1) : String(value));

export function FieldChange({ field, before, after }) {
  const label = say(`ag.f.${field}`) === `ag.f.${field}` ? field : say(`ag.f.${field}`);
  const isPicture = field === "picture" && [before, after].some((each) => String(each ?? "").startsWith("data:"));
  return html`<div class="change"><h4>${label}</h4>
    ${isPicture ? html`<div class="row"><${Picture} picture=${before ?? ""} /> → <${Picture} picture=${after ?? ""} /></div>`
      : html`<div class="lines">${lines(text(before), text(after)).map(([kind, line], n) => html`<div key=${n} class=${kind}>${kind === "out" ? html`<del>${line || " "}</del>` : kind === "in" ? html`<ins>${line || " "}</ins>` : line || " "}</div>`)}</div>`}
  </div>`;
}

// One event as a row of a list: its number, when, who, what.
import { html } from "../../vendor/preact.js";
import { duration } from "../../core/format.js";

export const HEIGHT = 30;
const BAD = new Set(["ToolFailed", "StepFailed", "RunFailed", "ToolInDoubt", "ApprovalRefused", "TurnRefused"]);
export const LONG = 1000;

export const kindOf = (line) => (BAD.has(line.type) ? "bad" : line.wait === "person" ? "person" : line.wait ? "wait" : line.type === "Generated" ? "model" : "");

// Rows bear no key and no handlers: a list that scrolls writes other words into the same ones, and hears clicks itself.
export function eventRow(line, start, chosen, indent = 0, note = "") {
  const slow = line.took_ms >= LONG ? (line.wait ? "waited" : "slow") : "";
  return html`<div role="listitem" class=${`event-row ${kindOf(line)} ${chosen ? "chosen" : ""}`} data-n=${line.n}>
    <span class="n num">${line.n ? `#${line.n}` : "✓"}</span>
    <span class="since num faint">${duration(new Date(line.time) - start)}</span>
    <span class=${`took num ${slow}`}>${line.took_ms === undefined ? "" : `+${duration(line.took_ms)}`}</span>
    <span class="role">${line.role}</span>
    <span class="type" style=${`padding-left:${indent * 14}px`}>${line.copied ? `↺ ${line.type}` : line.type}</span>
    <span class="line cut">${note ? `${line.line} ${note}` : line.line}</span>
  </div>`;
}

export const chooses = (select) => (event) => {
  const n = Number(event.target.closest(".event-row")?.dataset.n);
  if (n) select(n);
};

// One event as a row of a list: its number, when, who, what.
import { html } from "../../vendor/preact.js";
import { duration } from "../../core/format.js";

export const HEIGHT = 30;
const BAD = new Set(["ToolFailed", "StepFailed", "RunFailed", "ToolInDoubt", "ApprovalRefused", "TurnRefused"]);
export const LONG = 1000;

export const kindOf = (line) => (BAD.has(line.type) ? "bad" : line.wait === "person" ? "person" : line.wait ? "wait" : line.type === "Generated" ? "model" : "");

export function EventRow({ line, start, chosen, onSelect, indent = 0, note = "" }) {
  const since = new Date(line.time) - start;
  const slow = line.took_ms >= LONG ? (line.wait ? "waited" : "slow") : "";
  return html`<div role="listitem" class=${`event-row ${kindOf(line)} ${chosen ? "chosen" : ""}`} style=${{ height: `${HEIGHT}px` }} onClick=${line.n ? () => onSelect(line.n) : undefined}>
    <span class="n num">${line.n ? html`<a href=${`#${line.n}`} tabindex="-1" onClick=${(event) => event.preventDefault()}>#${line.n}</a>` : "✓"}</span>
    <span class="since num faint">${duration(since)}</span>
    <span class=${`took num ${slow}`}>${line.took_ms === undefined ? "" : `+${duration(line.took_ms)}`}</span>
    <span class="role">${line.role}</span>
    <span class="type" style=${indent ? { paddingLeft: `${indent * 14}px` } : undefined}>${line.copied ? "↺ " : ""}${line.type}</span>
    <span class="line cut">${line.line}${note && html`<span class="faint"> ${note}</span>`}</span>
  </div>`;
}

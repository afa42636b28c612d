// JSON that folds.
import { html, useState } from "../vendor/preact.js";

export function Json({ value, name, open = true }) {
  const [shown, setShown] = useState(open);
  const label = name !== undefined && html`<span class="key">${name}: </span>`;
  if (value === null || typeof value !== "object") {
    return html`<div class="json leaf">${label}<span class=${`value ${typeof value}`}>${typeof value === "string" ? JSON.stringify(value) : String(value)}</span></div>`;
  }
  const entries = Array.isArray(value) ? value.map((each, n) => [n, each]) : Object.entries(value);
  const [left, right] = Array.isArray(value) ? "[]" : "{}";
  if (!entries.length) return html`<div class="json leaf">${label}${left}${right}</div>`;
  return html`<div class="json">
    <button class="fold" aria-expanded=${shown} onClick=${() => setShown(!shown)}>${label}${left}${!shown && html`<span class="count"> ${entries.length} ${right}</span>`}</button>
    ${shown && html`<div class="inner">${entries.map(([key, each]) => html`<${Json} key=${key} name=${key} value=${each} open=${entries.length < 30} />`)}</div><span>${right}</span>`}
  </div>`;
}

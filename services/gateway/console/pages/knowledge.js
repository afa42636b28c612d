import { html } from "../vendor/preact.js";

export default function Knowledge() {
  return html`<div class="page"><h1>Knowledge</h1></div>`;
}

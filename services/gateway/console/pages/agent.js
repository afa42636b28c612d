import { html } from "../vendor/preact.js";

export default function Agent() {
  return html`<div class="page"><h1>Agent</h1></div>`;
}

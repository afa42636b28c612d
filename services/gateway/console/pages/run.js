import { html } from "../vendor/preact.js";

export default function Run() {
  return html`<div class="page"><h1>Run</h1></div>`;
}

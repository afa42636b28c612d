import { html } from "../vendor/preact.js";

export default function Tools() {
  return html`<div class="page"><h1>Tools</h1></div>`;
}

import { html } from "../vendor/preact.js";

export default function System() {
  return html`<div class="page"><h1>System</h1></div>`;
}

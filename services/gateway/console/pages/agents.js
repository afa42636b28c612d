import { html } from "../vendor/preact.js";

export default function Agents() {
  return html`<div class="page"><h1>Agents</h1></div>`;
}

import { html } from "../vendor/preact.js";

export default function Approvals() {
  return html`<div class="page"><h1>Approvals</h1></div>`;
}

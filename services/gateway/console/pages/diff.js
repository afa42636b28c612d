import { html } from "../vendor/preact.js";

export default function Diff() {
  return html`<div class="page"><h1>Diff</h1></div>`;
}

import { html } from "../vendor/preact.js";

export default function Runs() {
  return html`<div class="page"><h1>Runs</h1></div>`;
}

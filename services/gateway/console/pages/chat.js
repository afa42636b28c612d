import { html } from "../vendor/preact.js";

export default function Chat() {
  return html`<div class="page"><h1>Chat</h1></div>`;
}

// Passages that an answer was taken from: chips, each of which opens what stands there.
import { html, useState } from "../../vendor/preact.js";
import { learn, say } from "../../core/words.js";
import { Dialog } from "../../parts/basic.js";

learn({
  "cite: sources": ["Sources", "来源"],
  "cite: page": ["page {n}", "第 {n} 页"],
  "cite: open passage": ["Source {n}: {title}", "来源 {n}：{title}"],
});

export function Citations({ citations }) {
  const [shown, setShown] = useState(null);
  if (!citations.length) return null;
  const one = shown === null ? null : citations[shown];
  return html`<div class="citations row" aria-label=${say("cite: sources")}>
    ${citations.map((each, n) => html`<button key=${n} class="chip" aria-label=${say("cite: open passage", { n: n + 1, title: each.title })} title=${each.heading} onClick=${() => setShown(n)}><span class="num">${n + 1}</span><span class="cut">${each.title}</span></button>`)}
    ${one && html`<${Dialog} title=${one.title} wide onClose=${() => setShown(null)}>
      <p class="soft">${[one.heading, one.page && say("cite: page", { n: one.page }), one.source !== one.title && one.source].filter(Boolean).join(" · ")}</p>
      <blockquote class="passage">${one.text}</blockquote>
    <//>`}
  </div>`;
}

// Markdown of models, tools and documents: whatever it holds, only harmless HTML comes out. Loaded where it is first needed.
import { html, useEffect, useState } from "../vendor/preact.js";

let loading;
const load = () => (loading ??= import("../vendor/markdown.js"));

const ALLOWED = {
  ALLOWED_TAGS: ["a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol", "p", "pre", "s",
    "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["href", "title", "align", "start"],
  ALLOWED_URI_REGEXP: /^(https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};

function safe({ marked, DOMPurify }, text) {
  const clean = DOMPurify.sanitize(marked.parse(text, { gfm: true, breaks: true }), { ...ALLOWED, RETURN_DOM_FRAGMENT: true });
  for (const link of clean.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  const holder = document.createElement("div");
  holder.append(clean);
  return holder.innerHTML;
}

export function Markdown({ text, class: name = "" }) {
  const [parser, setParser] = useState(null);
  useEffect(() => {
    load().then((found) => setParser(() => found));
  }, []);
  if (!parser) return html`<div class=${`markdown plain ${name}`}>${text}</div>`;
  return html`<div class=${`markdown ${name}`} dangerouslySetInnerHTML=${{ __html: safe(parser, text) }}></div>`;
}

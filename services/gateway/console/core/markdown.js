// Markdown of models, tools and documents: whatever it holds, only harmless HTML comes out. Loaded where it is first needed.
import { html, useEffect, useState } from "../vendor/preact.js";

let loading;
const load = () => (loading ??= import("../vendor/markdown.js").then((vendored) => {
  vendored.marked.use({ gfm: true, breaks: true, renderer: { html: asText } });
  return vendored;
}));

const ALLOWED = {
  ALLOWED_TAGS: ["a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol", "p", "pre", "s",
    "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["href", "title", "align", "start"],
  ALLOWED_URI_REGEXP: /^(https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};

const ESCAPED = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const PLAIN = /^<\/?(b|br|code|del|em|hr|i|s|strong|sub|sup) ?\/?>$/i;
// HTML among Markdown stays text, but for tags that have nothing in them; so nothing that the page's policy forbids is even parsed.
const asText = ({ text }) => (PLAIN.test(text.trim()) ? text : text.replace(/[&<>"]/g, (each) => ESCAPED[each]));

function safe({ marked, DOMPurify }, text) {
  const clean = DOMPurify.sanitize(marked.parse(text), { ...ALLOWED, RETURN_DOM_FRAGMENT: true });
  for (const link of clean.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const wide of clean.querySelectorAll("pre, table")) wide.tabIndex = 0; // they scroll, and not only by mouse
  const holder = document.createElement("div");
  holder.append(clean);
  return holder.innerHTML;
}

export function Markdown({ text, class: name = "" }) {
  const [found, setFound] = useState(null);
  useEffect(() => {
    load().then((vendored) => setFound(() => vendored));
  }, []);
  if (!found) return html`<div class=${`markdown plain ${name}`}>${text}</div>`;
  return html`<div class=${`markdown ${name}`} dangerouslySetInnerHTML=${{ __html: safe(found, text) }}></div>`;
}

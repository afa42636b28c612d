// Small parts that every page is made of.
import { html, useEffect, useId, useRef, useState } from "../vendor/preact.js";
import { learn, say } from "../core/words.js";

learn({
  "close": ["Close", "关闭"],
  "loading": ["Loading…", "加载中…"],
  "next": ["Next", "下一步"],
  "try again": ["Try again", "重试"],
  "copy": ["Copy", "复制"],
  "copied": ["Copied", "已复制"],
});

const PATHS = {
  chat: "M4 5h16v11H9l-5 4z", runs: "M4 6h10M4 12h16M4 18h7", approvals: "M5 12l4.500 4.500L19 7", tools: "M14 6a4 4 0 0 1 5 5l-9 9-4-4 9-9z",
  knowledge: "M5 4h11a3 3 0 0 1 3 3v13H8a3 3 0 0 1-3-3z M5 17a3 3 0 0 1 3-3h11", agents: "M12 4a4 4 0 1 1 0 8 4 4 0 0 1 0-8z M4 21a8 8 0 0 1 16 0",
  system: "M4 5h16v6H4zM4 14h16v6H4z M7 8h.01M7 17h.01", moon: "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z", sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.500 1.500M17.500 17.500L19 19M19 5l-1.500 1.500M6.500 17.500L5 19",
  send: "M4 12l16-8-6 16-3-6z", stop: "M6 6h12v12H6z", plus: "M12 5v14M5 12h14", x: "M6 6l12 12M18 6L6 18", search: "M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM16 16l5 5",
  more: "M5 12h.01M12 12h.01M19 12h.01", out: "M10 4H5v16h5M14 8l4 4-4 4M18 12H9", download: "M12 4v11M7 11l5 5 5-5M5 20h14", fork: "M6 4v6a4 4 0 0 0 4 4h4M6 4v16M17 11l3 3-3 3",
  edit: "M4 20l1-5L16 4l4 4L9 19z", again: "M19 8a8 8 0 1 0 1 6M20 4v5h-5", file: "M6 3h8l4 4v14H6zM14 3v5h4", globe: "M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18zM3 12h18M12 3c3 3 3 15 0 18M12 3c-3 3-3 15 0 18", down: "M6 9l6 6 6-6", right: "M9 6l6 6-6 6", link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1", menu: "M4 7h16M4 12h16M4 17h16",
};

export const Icon = ({ name }) => html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name] ?? ""} /></svg>`;

export const Loading = () => html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span>${say("loading")}</p>`;

// What went wrong, why, and the next step. again: tries once more.
export function Trouble({ error, again }) {
  if (!error) return null;
  return html`<div class="trouble" role="alert">
    <p><strong>${error.what ?? String(error.message ?? error)}</strong></p>
    ${error.why && html`<p>${error.why}</p>`}
    ${error.hint && html`<p class="hint">${say("next")}: <code>${error.hint}</code></p>`}
    ${again && html`<button type="button" class="small" onClick=${again}>${say("try again")}</button>`}
  </div>`;
}

// Nothing is here yet, and what to do about it.
export const Empty = ({ title, children }) => html`<div class="empty"><p class="title">${title}</p><div>${children}</div></div>`;

export const Badge = ({ kind = "", children, title }) => html`<span class=${`badge ${kind}`} title=${title}>${children}</span>`;

export function Field({ label, hint, error, children }) {
  const id = useId();
  return html`<div class=${`field ${error ? "wrong" : ""}`}>
    <label for=${id}>${label}</label>
    ${children(id)}
    ${hint && html`<p class="hint">${hint}</p>`}
    ${error && html`<p class="why" role="alert">${error}</p>`}
  </div>`;
}

// A dialog of the browser's own kind: escape closes it, focus stays inside and goes back after.
export function Dialog({ title, onClose, children, wide = false }) {
  const at = useRef(null), id = useId();
  useEffect(() => {
    at.current.showModal();
  }, []);
  return html`<dialog ref=${at} class=${wide ? "wide" : ""} aria-labelledby=${id} onClose=${onClose}
      onClick=${(event) => event.target === at.current && at.current.close()}>
    <header><h2 id=${id}>${title}</h2><button type="button" class="quiet icon-only" aria-label=${say("close")} onClick=${() => at.current.close()}><${Icon} name="x" /></button></header>
    <div class="body">${children}</div>
  </dialog>`;
}

// tabs: [[key, words], …]
export function Tabs({ tabs, chosen, onChoose, label }) {
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = tabs.findIndex(([key]) => key === chosen), next = (at + step + tabs.length) % tabs.length;
    onChoose(tabs[next][0]);
    event.currentTarget.children[next].focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} onKeyDown=${move}>
    ${tabs.map(([key, words]) => html`<button key=${key} type="button" role="tab" aria-selected=${key === chosen} tabindex=${key === chosen ? 0 : -1} onClick=${() => onChoose(key)}>${words}</button>`)}
  </div>`;
}

export function Copy({ text, label }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button type="button" class="quiet small" onClick=${copy}>${done ? say("copied") : (label ?? say("copy"))}</button>`;
}

// A long list of rows of one height, of which only those in sight are made. row: (item, index) => html.
export function Rows({ items, height, row, label, follow = false, class: name = "" }) {
  const at = useRef(null);
  const [window, setWindow] = useState({ first: 0, count: 60 });
  const look = () => {
    const element = at.current;
    if (!element) return;
    const first = Math.max(0, Math.floor(element.scrollTop / height) - 10);
    const count = Math.ceil(element.clientHeight / height) + 20;
    setWindow((before) => (before.first === first && before.count === count ? before : { first, count }));
  };
  useEffect(() => {
    look();
    const seen = new ResizeObserver(look);
    seen.observe(at.current);
    return () => seen.disconnect();
  }, []);
  useEffect(() => {
    if (follow && at.current) at.current.scrollTop = at.current.scrollHeight;
  }, [items.length, follow]);
  const shown = items.slice(window.first, window.first + window.count);
  return html`<div ref=${at} class=${`rows ${name}`} onScroll=${look} tabindex="0" role="list" aria-label=${label}>
    <div class="all" style=${{ height: `${items.length * height}px` }}>
      <div class="shown" style=${{ transform: `translateY(${window.first * height}px)` }}>
        ${shown.map((item, index) => row(item, window.first + index))}
      </div>
    </div>
  </div>`;
}

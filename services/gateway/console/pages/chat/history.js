// The user's conversations, the one that was last active first.
import { html, useEffect, useState } from "../../vendor/preact.js";
import { get, query } from "../../core/api.js";
import { ago, moment } from "../../core/format.js";
import { changed } from "../../core/live.js";
import { useSettled } from "../../core/state.js";
import { learn, say } from "../../core/words.js";
import { Icon, Trouble } from "../../parts/basic.js";

learn({
  "history: conversations": ["Conversations", "对话列表"],
  "history: new": ["New chat", "新对话"],
  "history: older": ["Older ones", "更早的"],
  "history: none": ["No conversations yet.", "还没有对话。"],
  "history: state.waiting": ["waits for a person", "等待人工"],
  "history: state.open": ["running", "进行中"],
  "history: state.failed": ["failed", "失败"],
  "history: hide": ["Hide conversations", "隐藏对话列表"],
});

// Two pages as one: a long conversation may stand on both, and began on the later one.
function joined(first, more) {
  const found = new Map(first.map((each) => [each.id, each]));
  for (const each of more) {
    const known = found.get(each.id);
    found.set(each.id, known ? { ...known, title: each.title, turns: known.turns + each.turns } : each);
  }
  return [...found.values()];
}

export function useHistory() {
  const [state, setState] = useState({ pages: [], next: null, error: null, known: false });
  const load = async () => {
    try {
      const found = await get("/api/conversations");
      setState((before) => ({ pages: [found.conversations, ...before.pages.slice(1)], next: before.pages.length > 1 ? before.next : found, error: null, known: true }));
    } catch (error) {
      setState((before) => ({ ...before, error, known: true }));
    }
  };
  const older = async () => {
    const found = await get(`/api/conversations${query({ before: state.next.before, beyond: state.next.beyond })}`);
    setState((before) => ({ ...before, pages: [...before.pages, found.conversations], next: found }));
  };
  const tick = useSettled(changed.value.at, 700); // the index comes a moment after the log
  useEffect(() => {
    load();
  }, [tick]);
  return { ...state, list: state.pages.reduce(joined, []), more: Boolean(state.next?.before), older, load };
}

const MARKS = { waiting: "warn", open: "info", failed: "bad" };

export function History({ history, current, onNew, onHide }) {
  return html`<nav class="history" aria-label=${say("history: conversations")}>
    <div class="row"><button class="grow" onClick=${onNew}><${Icon} name="plus" />${say("history: new")}</button>
      <button class="quiet icon-only" aria-label=${say("history: hide")} title=${say("history: hide")} onClick=${onHide}><${Icon} name="x" /></button></div>
    <${Trouble} error=${history.error} again=${history.load} />
    ${history.known && !history.error && !history.list.length && html`<p class="faint">${say("history: none")}</p>`}
    <ul>${history.list.map((each) => html`<li key=${each.id}><a href=${`/chat/${each.id}`} aria-current=${each.id === current ? "page" : undefined} title=${`${each.title}\n${moment(each.last)}`}>
      <span class="cut">${each.title}</span>
      <span class="faint meta">${MARKS[each.status] && html`<span class=${`dot ${MARKS[each.status]}`} title=${say(`history: state.${each.status}`)}></span>`}${ago(each.last)} · ${each.agent}</span></a></li>`)}</ul>
    ${history.more && html`<button class="quiet small" onClick=${history.older}>${say("history: older")}</button>`}
  </nav>`;
}

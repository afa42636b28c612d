// Files on their way in: a few at a time, each with how far it is.
import { html, useEffect, useRef, useState } from "../../vendor/preact.js";
import { streamed } from "../../core/api.js";
import { bytes } from "../../core/format.js";
import { say } from "../../core/words.js";
import { Badge, Icon } from "../../parts/basic.js";

const AT_ONCE = 3;
const OVER = new Set(["added", "unchanged", "skipped", "refused"]);
const KIND = { added: "good", unchanged: "good", refused: "bad", skipped: "warn" };

export function useUploads(onAdded) {
  const [items, setItems] = useState([]);
  const state = useRef({ waiting: [], running: 0, next: 0, controls: new Map() }).current;
  const set = (id, values) => setItems((before) => before.map((each) => (each.id === id ? { ...each, ...values } : each)));
  useEffect(() => () => state.controls.forEach((control) => control.abort()), []);

  async function run({ id, collection, file }) {
    const control = new AbortController(), form = new FormData();
    state.controls.set(id, control);
    form.append("file", file);
    try {
      for await (const [name, said] of streamed(`/api/knowledge/${collection}/documents`, form, { signal: control.signal })) {
        set(id, name === "error" ? { state: "refused", why: said.what, hint: said.hint } : { state: said.state, done: said.characters, of: said.of, why: said.why, hint: said.hint, chunks: said.chunks });
        if (said.state === "added") onAdded();
      }
    } catch (error) {
      const why = error.name === "AbortError" ? say("kn.stop") : [error.what ?? error.message, error.why].filter(Boolean).join(" ");
      set(id, { state: error.name === "AbortError" ? "skipped" : "refused", why, hint: error.hint });
    }
    state.controls.delete(id);
    state.running -= 1;
    begin();
  }
  function begin() {
    while (state.running < AT_ONCE && state.waiting.length) {
      state.running += 1;
      run(state.waiting.shift());
    }
  }
  return {
    items,
    add(collection, files) {
      const fresh = files.map((file) => ({ id: (state.next += 1), collection, file, name: file.name, size: file.size, state: "waiting", done: 0, of: 0 }));
      setItems((before) => [...fresh, ...before]);
      state.waiting.push(...fresh);
      begin();
    },
    stop(id) {
      state.waiting = state.waiting.filter((each) => each.id !== id);
      if (state.controls.has(id)) state.controls.get(id).abort();
      else set(id, { state: "skipped", why: say("kn.stop") });
    },
    clear: () => setItems((before) => before.filter((each) => !OVER.has(each.state))),
  };
}

export function Uploads({ uploads }) {
  if (!uploads.items.length) return null;
  return html`<div class="card uploads" aria-live="polite">
    <ul class="stack">${uploads.items.map((each) => html`<li key=${each.id}>
      <div class="row"><span class="cut grow">${each.name}</span><span class="faint">${bytes(each.size)}</span><${Badge} kind=${KIND[each.state] ?? "info"}>${say(`kn.${each.state}`)}<//>
        ${!OVER.has(each.state) && html`<button class="quiet icon-only" aria-label=${`${say("kn.stop")} ${each.name}`} onClick=${() => uploads.stop(each.id)}><${Icon} name="x" /></button>`}</div>
      ${!OVER.has(each.state) && html`<progress max=${each.of || 1} value=${each.state === "adding" ? each.done : undefined} aria-label=${each.name}></progress>`}
      ${each.why && html`<p class=${each.state === "refused" ? "why" : "hint"}>${each.why} ${each.hint && html`<span class="faint">${each.hint}</span>`}</p>`}
    </li>`)}</ul>
    ${uploads.items.some((each) => OVER.has(each.state)) && html`<button class="quiet small" onClick=${uploads.clear}>${say("kn.clear")}</button>`}
  </div>`;
}

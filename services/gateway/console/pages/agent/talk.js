// Building by talking: each turn is a patch of the form that can be undone and applied again.
import { html, useEffect, useRef, useState } from "../../vendor/preact.js";
import { streamed } from "../../core/api.js";
import { say } from "../../core/words.js";
import { Icon, Trouble } from "../../parts/basic.js";
import { FieldChange } from "./changes.js";

const FIELDS = ["title", "description", "instructions", "suggestions", "tools"];
const IN_SPEC = new Set(["instructions", "tools"]);
const of = (draft, field) => (IN_SPEC.has(field) ? draft.spec[field] : draft[field]);

// A draft with these fields as given.
export function patched(draft, values) {
  const own = Object.fromEntries(Object.entries(values).filter(([field]) => !IN_SPEC.has(field)));
  const spec = Object.fromEntries(Object.entries(values).filter(([field]) => IN_SPEC.has(field)));
  return { ...draft, ...own, spec: { ...draft.spec, ...spec } };
}

function Said({ turn, onUndo, onRedo }) {
  const fields = FIELDS.filter((field) => field in (turn.after ?? {}));
  return html`<li class="turn">
    <div class="bubble mine"><span class="hidden">${say("ag.t.you")}: </span>${turn.words}</div>
    <div class="stack reply"><span class="hidden">${say("ag.t.builder")}: </span>
      ${turn.steps.length > 0 && html`<p class="faint steps"><span class="hidden">${say("ag.t.runs")}: </span>${turn.steps.map((each, n) => html`${n ? " · " : ""}<a key=${each.run} href=${`/runs/${each.run}`} target="_blank">${say(`ag.t.${each.what}`)}</a>`)}</p>`}
      ${turn.busy && html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span>${turn.steps.length ? say(`ag.t.${turn.steps.at(-1).what}`) : say("loading")}…</p>`}
      ${turn.said && html`<p>${turn.said}</p>`}
      ${turn.trouble && html`<p class="soft">${turn.trouble}</p>`}
      ${fields.length > 0 && html`<details class=${turn.undone ? "undone" : ""} open=${!turn.undone}><summary>${fields.map((each) => say(`ag.f.${each}`)).join(", ")}${turn.undone ? ` · ${say("ag.t.undone")}` : ""}</summary>
        ${fields.map((each) => html`<${FieldChange} key=${each} field=${each} before=${turn.before[each]} after=${turn.after[each]} />`)}</details>
        <div>${turn.undone ? html`<button type="button" class="small" onClick=${onRedo}>${say("ag.t.redo")}</button>` : html`<button type="button" class="small" onClick=${onUndo}><${Icon} name="again" />${say("ag.t.undo")}</button>`}</div>`}
      <${Trouble} error=${turn.error} />
    </div>
  </li>`;
}

export function Talk({ draft, setDraft, isNew, named, turns, setTurns }) {
  const [words, setWords] = useState("");
  const control = useRef(null), end = useRef(null), latest = useRef(draft);
  latest.current = draft;
  const busy = turns.some((each) => each.busy);
  useEffect(() => end.current?.scrollIntoView({ block: "nearest" }), [turns]);
  useEffect(() => () => control.current?.abort(), []);
  const change = (at, values) => setTurns((all) => all.map((each, n) => (n === at ? { ...each, ...values } : each)));

  const apply = (at, { patch, said, trouble }) => {
    const after = Object.fromEntries(FIELDS.filter((field) => patch[field] !== null).map((field) => [field, patch[field]]));
    const now = latest.current;
    const before = Object.fromEntries(Object.keys(after).map((field) => [field, of(now, field)]));
    const next = patched(now, after);
    if (isNew && patch.name && !named.current) next.name = patch.name;
    if (Object.keys(after).length) setDraft(next);
    change(at, { busy: false, said, trouble, ...(Object.keys(after).length ? { before, after } : {}) });
  };
  const send = async (text) => {
    const at = turns.length;
    setWords("");
    setTurns((all) => [...all, { words: text, steps: [], busy: true }]);
    control.current = new AbortController();
    const steps = [];
    try {
      const asked = { words: text, draft: { ...draft, name: draft.name || "draft" } };
      for await (const [name, said] of streamed("/api/agents/build", asked, { signal: control.current.signal })) {
        if (name === "step") change(at, { steps: [...(steps.push(said), steps)] });
        if (name === "built") apply(at, said);
      }
    } catch (error) {
      change(at, error.name === "AbortError" ? { said: say("ag.t.stopped") } : { error });
    }
    change(at, { busy: false });
  };
  const submit = (event) => {
    event.preventDefault();
    if (words.trim() && !busy) send(words.trim());
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  const set = (at, values, undone) => {
    setDraft(patched(latest.current, values));
    change(at, { undone });
  };
  return html`<section class="talk" aria-label=${say("ag.talk")}>
    <ol class="said">
      <li class="turn"><div class="reply stack"><p>${say("ag.t.hello")}</p>
        ${!turns.length && html`<div class="stack">${["ag.t.example1", "ag.t.example2"].map((each) => html`<button type="button" key=${each} class="chip" onClick=${() => setWords(say(each))}>${say(each)}</button>`)}</div>`}</div></li>
      ${turns.map((turn, at) => html`<${Said} key=${at} turn=${turn} onUndo=${() => set(at, turn.before, true)} onRedo=${() => set(at, turn.after, false)} />`)}
      <li ref=${end} aria-hidden="true"></li>
    </ol>
    <form class="composer" onSubmit=${submit}>
      <textarea rows="2" aria-label=${say("ag.t.placeholder")} placeholder=${say("ag.t.placeholder")} maxlength="4000" value=${words} onInput=${(event) => setWords(event.target.value)} onKeyDown=${keys}></textarea>
      ${busy ? html`<button type="button" class="icon-only" aria-label=${say("ag.t.stop")} onClick=${() => control.current?.abort()}><${Icon} name="stop" /></button>`
        : html`<button class="primary icon-only" aria-label=${say("ag.t.send")} disabled=${!words.trim()}><${Icon} name="send" /></button>`}
    </form>
  </section>`;
}

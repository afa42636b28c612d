// A call on trial: a read is called; of a write it is shown first what it would do, and doing it goes the ordinary way.
import { html, useEffect, useRef, useState } from "../../vendor/preact.js";
import { get, post } from "../../core/api.js";
import { may } from "../../core/session.js";
import { useEvery, useGet } from "../../core/state.js";
import { say } from "../../core/words.js";
import { ApprovalCard } from "../../parts/approval.js";
import { Badge, Loading, Trouble } from "../../parts/basic.js";
import { Json } from "../../parts/json.js";
import { SchemaForm, missing } from "../../parts/schema-form.js";

const OVER = new Set(["done", "failed"]);

function Written({ value, onChange, onWrong }) {
  const [text, setText] = useState(JSON.stringify(value, null, 2)), [wrong, setWrong] = useState(false);
  const write = (event) => {
    setText(event.target.value);
    try {
      const said = JSON.parse(event.target.value);
      const bad = said === null || typeof said !== "object" || Array.isArray(said);
      setWrong(bad);
      onWrong(bad);
      if (!bad) onChange(said);
    } catch {
      setWrong(true);
      onWrong(true);
    }
  };
  return html`<textarea class="mono" rows="10" spellcheck=${false} aria-label=${say("tl.as json")} value=${text} onInput=${write}></textarea>${wrong && html`<p class="why">${say("tl.no json")}</p>`}`;
}

function Preview({ preview, before }) {
  return html`<div class="preview"><p><strong>${preview.summary}</strong></p>
    <table><tbody>${preview.rows.map(([label, text], n) => html`<tr key=${n}><th>${label}</th><td>${text}</td></tr>`)}</tbody></table>
    ${preview.price && !preview.rows.some(([label]) => label === "price") && html`<p>${say("tl.price")}: ${preview.price} ${preview.currency}</p>`}
    ${before && html`<p class="why">${say("tl.done before", { text: before })}</p>`}</div>`;
}

// What the run asks a person, to be answered here by whoever may.
function Asked({ run, id }) {
  const { data, error, again } = useGet("/api/approvals?state=waiting");
  const approval = data?.approvals.find((each) => each.run === run && each.id === id);
  useEvery(1500, () => approval || again()); // the list is some moments behind the run
  if (error) return html`<${Trouble} error=${error} />`;
  return approval ? html`<${ApprovalCard} approval=${approval} />` : html`<a class="button primary" href="/approvals">${say("tl.to approvals")}</a>`;
}

function Outcome({ tried, dry }) {
  const parts = tried.parts.filter((each) => each.json_value !== null && each.json_value !== undefined);
  const title = { working: "tl.working", waiting: "tl.waits", done: dry && tried.preview ? "tl.would" : "tl.done", failed: "tl.failed" }[tried.state];
  const kind = { working: "info", waiting: "warn", done: "good", failed: "bad" }[tried.state];
  const text = tried.state === "failed" ? tried.failure || tried.result : dry && tried.preview ? "" : tried.result;
  return html`<div class="card stack outcome" aria-live="polite">
    <div class="row apart"><${Badge} kind=${kind}>${say(title)}<//><a href=${`/runs/${tried.run}`}>${say("tl.see run")}</a></div>
    ${tried.state === "working" && html`<${Loading} />`}
    ${tried.preview && tried.state !== "waiting" && html`<${Preview} preview=${tried.preview} before=${tried.before} />`}
    ${tried.state === "waiting" && html`<${Asked} run=${tried.run} id=${tried.approval} />`}
    ${text && html`<pre>${text}</pre>`}
    ${parts.map((each, n) => html`<${Json} key=${n} value=${each.json_value} open=${false} />`)}
  </div>`;
}

export function Try({ tool }) {
  const { card } = tool, writes = card.effect !== "read";
  const [values, setValues] = useState({}), [written, setWritten] = useState(false);
  const [invalid, setInvalid] = useState(new Set()), [tried, setTried] = useState(null), [error, setError] = useState(null);
  const current = useRef(null);
  useEffect(() => () => current.current?.abort(), []);
  const lacking = missing(card.parameters, values).length > 0 || invalid.size > 0;
  const valid = (name, ok) => setInvalid((before) => {
    const next = new Set(before);
    if (ok) next.delete(name);
    else next.add(name);
    return next;
  });
  const call = async (dry) => {
    current.current?.abort();
    const control = (current.current = new AbortController()), { signal } = control;
    setError(null);
    try {
      let now = await post(`/api/tools/named/${card.name}/try`, { arguments: values, dry_run: dry }, { signal });
      setTried({ ...now, dry });
      while (!OVER.has(now.state)) {
        const asked = performance.now();
        now = await get(`/api/tools/tries/${now.run}?wait_s=20`, { signal });
        setTried({ ...now, dry });
        if (now.state === "waiting" || performance.now() - asked < 300) await new Promise((then) => setTimeout(then, 1500));
      }
    } catch (failed) {
      if (failed.name !== "AbortError") setError(failed);
    }
  };
  const busy = tried?.state === "working" && !error;
  if (!may("ask")) return html`<p class="soft">${say("tl.no right")}</p>`;
  if (tool.presence !== "here") return html`<p class="why">${say("tl.not here")}</p>`;
  const shown = tried?.dry && tried.state === "done" && tried.preview;
  return html`<div class="stack"><form class="stack" onSubmit=${(event) => { event.preventDefault(); call(writes); }}>
    ${written ? html`<${Written} value=${values} onChange=${setValues} onWrong=${(bad) => valid("", !bad)} />`
      : html`<${SchemaForm} schema=${card.parameters} value=${values} onChange=${(next) => { setValues(next); if (shown) setTried(null); }} onValid=${valid} />`}
    <div class="row"><button class="primary" disabled=${busy || lacking}>${say(writes ? "tl.dry first" : "tl.call")}</button>
      ${shown && html`<button type="button" class="danger" onClick=${() => call(false)} title=${say("tl.do it how")}>${say("tl.do it")}</button>`}
      <button type="button" class="quiet small" onClick=${() => { setWritten(!written); setInvalid(new Set()); }}>${say(written ? "tl.as form" : "tl.as json")}</button></div>
    ${shown && html`<p class="hint">${say("tl.do it how")}</p>`}
  </form>
  <${Trouble} error=${error} />${tried && html`<${Outcome} tried=${tried} dry=${tried.dry} />`}</div>`;
}

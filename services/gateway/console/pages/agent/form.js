// The form of an agent: what people see of it, what the model reads, what it may use, and how far it may go.
import { html, useRef, useState } from "../../vendor/preact.js";
import { session } from "../../core/session.js";
import { useGet } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Field } from "../../parts/basic.js";
import { Picture, squared } from "./picture.js";
import { Rules } from "./rules.js";
import { Tools } from "./tools.js";
import "./words.js";

const EMOJI = ["🤖", "🧭", "🛠️", "☁️", "📦", "🎧", "📚", "✍️", "🧮", "🌍", "🎨", "🧪", "💡", "🔎", "🗓️", "🐉"];
const RECALL = { similar: 0, facts: 8, summary: true };

function Face({ picture, title, onChange, disabled }) {
  const [failed, setFailed] = useState(false);
  const picked = useRef(null);
  const read = async (event) => {
    setFailed(false);
    try {
      if (event.target.files[0]) onChange(await squared(event.target.files[0]));
    } catch {
      setFailed(true);
    }
  };
  return html`<fieldset class="faces" disabled=${disabled}><legend>${say("ag.f.picture")}</legend>
    <div class="row"><${Picture} picture=${picture} title=${title} size=${56} />
      <div class="emoji" role="group" aria-label=${say("ag.f.emoji")}>${EMOJI.map((each) => html`<button type="button" key=${each} class="quiet icon-only" aria-label=${each} aria-pressed=${picture === each} onClick=${() => onChange(each)}>${each}</button>`)}</div>
      <div class="row"><input ref=${picked} class="hidden" type="file" accept="image/*" tabindex="-1" aria-label=${say("ag.f.upload")} onChange=${read} />
        <button type="button" class="small" onClick=${() => picked.current.click()}>${say("ag.f.upload")}</button>
        ${picture && html`<button type="button" class="small quiet" onClick=${() => onChange("")}>${say("ag.f.no picture")}</button>`}</div></div>
    ${failed && html`<p class="why" role="alert">${say("ag.f.bad picture")}</p>`}
  </fieldset>`;
}

function Knowledge({ spec, change }) {
  const { data } = useGet("/api/knowledge");
  const names = [...new Set([...(data?.collections ?? []).map((each) => each.name).filter((each) => !each.startsWith("chat-")), ...spec.collections])];
  const toggle = (name) => change({ collections: spec.collections.includes(name) ? spec.collections.filter((each) => each !== name) : [...spec.collections, name] });
  return html`<fieldset><legend>${say("ag.f.knowledge")}</legend>
    <div class="row apart"><p class="hint grow">${say("ag.f.knowledge hint")}</p>
      <input class="short" type="number" min="0" max="32" aria-label=${say("ag.f.knowledge hint")} value=${spec.knowledge_k} onInput=${(event) => change({ knowledge_k: Number(event.target.value) })} /></div>
    ${names.length ? html`<div class="row picks">${names.map((each) => html`<label key=${each} class="pick"><input type="checkbox" checked=${spec.collections.includes(each)} onChange=${() => toggle(each)} />${each}</label>`)}</div>`
      : html`<p class="soft">${say("ag.f.no knowledge")}</p>`}
  </fieldset>`;
}

const amount = (money) => Object.entries(money ?? {}).map(([currency, most]) => `${currency} ${most}`).join(", ");
const amounts = (text) => Object.fromEntries([...text.matchAll(/([A-Za-z]{3})\s*([\d.]+)/g)].map(([, currency, most]) => [currency.toUpperCase(), Number(most)]));

function Budget({ budget, change }) {
  const [money, setMoney] = useState(amount(budget.money));
  const number = (name, least, most, open = false) => html`<${Field} key=${name} label=${say(`ag.b.${name}`)}>${(id) => html`<input id=${id} type="number" min=${least} max=${most} placeholder=${open ? say("ag.no limit") : ""}
    value=${budget[name] ?? ""} onInput=${(event) => change({ [name]: event.target.value === "" ? (open ? null : least) : Number(event.target.value) })} />`}<//>`;
  return html`<fieldset><legend>${say("ag.f.budget")}</legend><div class="grid">
    ${number("steps", 1, 1000)}${number("calls", 0, 1000)}${number("writes", 0, 1000, true)}${number("tokens", 1, 1e9, true)}${number("deadline_s", 1, 604800)}${number("history_tokens", 0, 32000)}
    <${Field} label=${say("ag.b.money")}>${(id) => html`<input id=${id} value=${money} placeholder=${say("ag.no limit")} onInput=${(event) => { setMoney(event.target.value); change({ money: amounts(event.target.value) }); }} />`}<//>
  </div></fieldset>`;
}

export function Form({ draft, change, isNew, mine }) {
  const spec = draft.spec, models = [...new Set(["default", ...(session.value?.models ?? [])])];
  const changeSpec = (values) => change({ spec: { ...spec, ...values } });
  const recall = { ...RECALL, ...spec.recall };
  return html`<fieldset class="form stack" disabled=${!mine}>
    ${isNew && html`<${Field} label=${say("ag.f.name")} hint=${say("ag.f.name hint")}>${(id) => html`<input id=${id} class="mono" pattern="[A-Za-z0-9_\\-]+" maxlength="64" required value=${draft.name} onInput=${(event) => change({ name: event.target.value.replace(/[^A-Za-z0-9_-]/g, "-") }, "name")} />`}<//>`}
    <${Field} label=${say("ag.f.title")}>${(id) => html`<input id=${id} maxlength="200" value=${draft.title} onInput=${(event) => change({ title: event.target.value }, "title")} />`}<//>
    <${Face} picture=${draft.picture} title=${draft.title} onChange=${(picture) => change({ picture })} disabled=${!mine} />
    <${Field} label=${say("ag.f.description")}>${(id) => html`<textarea id=${id} rows="2" maxlength="2000" value=${draft.description} onInput=${(event) => change({ description: event.target.value })}></textarea>`}<//>
    <${Field} label=${say("ag.f.instructions")} hint=${say("ag.f.instructions hint")}>${(id) => html`<textarea id=${id} rows=${Math.min(20, Math.max(6, spec.instructions.split("\n").length + 2))} maxlength="50000" value=${spec.instructions} onInput=${(event) => changeSpec({ instructions: event.target.value })}></textarea>`}<//>
    <${Field} label=${say("ag.f.suggestions")} hint=${say("ag.f.suggestions hint")}>${(id) => html`<textarea id=${id} rows=${Math.max(3, draft.suggestions.length)} value=${draft.suggestions.join("\n")} onInput=${(event) => change({ suggestions: event.target.value.split("\n").slice(0, 12) })}></textarea>`}<//>
    <${Tools} spec=${spec} change=${changeSpec} mine=${mine} />
    <${Knowledge} spec=${spec} change=${changeSpec} />
    <fieldset><legend>${say("ag.f.model")}</legend><div class="grid">
      <${Field} label=${say("ag.f.model")}>${(id) => html`<input id=${id} list="agent-models" value=${spec.model} onInput=${(event) => changeSpec({ model: event.target.value })} />`}<//>
      <${Field} label=${say("ag.f.temperature")}>${(id) => html`<input id=${id} type="number" min="0" max="2" step="0.1" value=${spec.sampling.temperature} onInput=${(event) => changeSpec({ sampling: { ...spec.sampling, temperature: Number(event.target.value) } })} />`}<//>
      <${Field} label=${say("ag.f.max tokens")}>${(id) => html`<input id=${id} type="number" min="1" max="8192" value=${spec.sampling.max_tokens} onInput=${(event) => changeSpec({ sampling: { ...spec.sampling, max_tokens: Number(event.target.value) || 1 } })} />`}<//>
      <${Field} label=${say("ag.f.fallback")} hint=${say("ag.f.fallback hint")}>${(id) => html`<input id=${id} list="agent-models" value=${(spec.fallback ?? []).join(", ")} onChange=${(event) => changeSpec({ fallback: event.target.value.split(",").map((each) => each.trim()).filter(Boolean) })} />`}<//>
    </div><datalist id="agent-models">${models.map((each) => html`<option key=${each} value=${each} />`)}</datalist></fieldset>
    <${Rules} spec=${spec} change=${changeSpec} />
    <${Budget} budget=${spec.budget} change=${(values) => changeSpec({ budget: { ...spec.budget, ...values } })} />
    <fieldset><legend>${say("ag.f.memory")}</legend><div class="grid">
      ${["facts", "similar"].map((name) => html`<${Field} key=${name} label=${say(`ag.r.${name}`)}>${(id) => html`<input id=${id} type="number" min="0" max=${name === "facts" ? 100 : 32} value=${recall[name]} onInput=${(event) => changeSpec({ recall: { ...recall, [name]: Number(event.target.value) } })} />`}<//>`)}
      <label class="pick"><input type="checkbox" checked=${recall.summary} onChange=${(event) => changeSpec({ recall: { ...recall, summary: event.target.checked } })} />${say("ag.r.summary")}</label>
    </div></fieldset>
  </fieldset>`;
}


// What a search finds: passages with their scores, those that no agent would be shown marked.
import { html, useState } from "../../vendor/preact.js";
import { query } from "../../core/api.js";
import { useGet } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Badge, Empty, Loading, Trouble } from "../../parts/basic.js";
import { Where } from "./document.js";

function Bar({ value, most, label, least }) {
  const percent = (part) => `${Math.max(0, Math.min(100, (part / most) * 100))}%`;
  return html`<div class="score" role="img" aria-label=${`${label} ${value.toFixed(3)}`}><span class="faint">${label}</span>
    <span class="track"><span class="fill" style=${{ width: percent(value) }}></span>${least !== undefined && html`<span class="least" style=${{ left: percent(least) }}></span>`}</span><span class="num">${value.toFixed(3)}</span></div>`;
}

export function Found({ text, collection, all }) {
  const [every, setEvery] = useState(false);
  const { data, error, loading } = useGet(`/api/knowledge/search${query({ text, collections: every ? "" : collection, k: 12 })}`);
  const best = Math.max(...(data?.passages ?? []).map((each) => each.score), 0.0001);
  return html`<div class="stack">
    ${all && html`<label class="row"><input type="checkbox" checked=${every} onChange=${() => setEvery(!every)} />${say("kn.every")}</label>`}
    <${Trouble} error=${error} />
    ${loading && !data && html`<${Loading} />`}
    ${data && !data.passages.length && !loading && html`<${Empty} title=${say("kn.nothing")}>${say("kn.nothing how")}<//>`}
    <ol class="stack">${(data?.passages ?? []).map((each) => html`<li key=${each.document + each.hash} class=${`card found ${each.fits ? "" : "unlike"}`}>
      <div class="row apart"><a class="cut grow" href=${`/knowledge/${collection}${query({ document: each.document, chunk: each.hash })}`}>${each.heading || each.title}</a><${Where} at=${each} /></div>
      <p class="passage">${each.text}</p>
      <div class="scores"><${Bar} value=${each.score} most=${best} label=${say("kn.score")} />
        ${each.similarity !== null && html`<${Bar} value=${each.similarity} most=${1} least=${data.least} label=${say("kn.similarity")} />`}
        ${!each.fits && html`<${Badge} kind="warn">${say("kn.unlike")}<//>`}<span class="faint cut">${each.source}</span></div>
    </li>`)}</ol></div>`;
}

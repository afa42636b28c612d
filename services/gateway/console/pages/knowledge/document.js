// One document: its chunks as retrieval has them, and the runs that used it.
import { html, useEffect, useState } from "../../vendor/preact.js";
import { get, query } from "../../core/api.js";
import { ago, moment, number, short } from "../../core/format.js";
import { route } from "../../core/router.js";
import { may } from "../../core/session.js";
import { useGet } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Badge, Empty, Icon, Loading, Tabs, Trouble } from "../../parts/basic.js";

function useChunks(path) {
  const [state, setState] = useState({ document: null, chunks: [], after: -1, error: null });
  const more = async (after, before) => {
    try {
      const page = await get(`${path}${query({ after, limit: 50 })}`);
      setState({ document: page.document, chunks: [...before, ...page.chunks], after: page.after, error: null });
    } catch (error) {
      setState((last) => ({ ...last, error, after: null }));
    }
  };
  useEffect(() => void more(-1, []), [path]);
  return { ...state, more: () => more(state.after, state.chunks) };
}

export const Where = ({ at }) => html`<span class="faint num">${at.page && html`${say("kn.page", { n: at.page })} · `}${say("kn.characters", { start: number(at.start), end: number(at.end) })}</span>`;

function Chunks({ chunks, chosen }) {
  useEffect(() => document.getElementById(`chunk-${chosen}`)?.scrollIntoView({ block: "center" }), [chunks.length, chosen]);
  return html`<ol class="stack">${chunks.map((each, n) => html`<li key=${n} id=${`chunk-${each.hash}`} class=${`card chunk ${each.hash === chosen ? "chosen" : ""}`}>
    <div class="row apart"><span class="soft cut">${each.heading}</span><${Where} at=${each} /></div><p class="passage">${each.text}</p></li>`)}</ol>`;
}

export function Used({ name }) {
  const { data, error, loading } = useGet(`/api/knowledge/used${query({ name })}`);
  if (error) return html`<${Trouble} error=${error} />`;
  if (loading) return html`<${Loading} />`;
  if (!data.uses.length) return html`<${Empty} title=${say("kn.unused")} />`;
  return html`<div class="table"><table><thead><tr><th>${say("kn.run")}</th><th>${say("kn.how")}</th><th>${say("kn.asked")}</th><th>${say("kn.when")}</th></tr></thead>
    <tbody>${data.uses.map((each, n) => html`<tr key=${n}><td><a class="mono" href=${`/runs/${each.run}`}>${short(each.run)}</a></td><td><${Badge}>${each.how}<//></td>
      <td>${each.task}${each.answer && html`<div class="faint">→ ${each.answer}</div>`}</td><td class="faint" title=${moment(each.time)}>${ago(each.time)}</td></tr>`)}</tbody></table></div>`;
}

export function Document({ collection, id, onRemove }) {
  const { document, chunks, after, error, more } = useChunks(`/api/knowledge/${collection}/documents/${id}/chunks`);
  const [tab, setTab] = useState("chunks"), chosen = route.value.query.chunk;
  if (error) return html`<${Trouble} error=${error} />`;
  if (!document) return html`<${Loading} />`;
  return html`<article class="stack">
    <a href=${`/knowledge/${collection}`}>← ${say("kn.back")}</a>
    <div class="row apart"><h2 class="grow">${document.title}</h2>${may("build") && html`<button class="danger small" onClick=${() => onRemove(document)}><${Icon} name="x" />${say("kn.remove")}</button>`}</div>
    <p class="soft">${document.source} · ${say("kn.n chunks", { n: number(document.chunks) })} · <span title=${moment(document.added)}>${ago(document.added)}</span>
      ${Object.entries(document.metadata).map(([key, value]) => html` <${Badge} key=${key}>${key}: ${value}<//>`)}</p>
    <${Tabs} label=${document.title} tabs=${[["chunks", say("kn.chunks")], ["used", say("kn.used")]]} chosen=${tab} onChoose=${setTab} />
    ${tab === "used" ? html`<${Used} name=${id} />` : html`<${Chunks} chunks=${chunks} chosen=${chosen} />
      ${after !== null && html`<button onClick=${more}>${say("kn.more")}</button>`}`}
  </article>`;
}

// One tool: what it takes, what it changes, who answers it, what it has been, and trying it.
import { html, useState } from "../../vendor/preact.js";
import { ago, duration, number } from "../../core/format.js";
import { useGet } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Copy, Loading, Tabs, Trouble } from "../../parts/basic.js";
import { Json } from "../../parts/json.js";
import { typeOf } from "../../parts/schema-form.js";
import { Used } from "../knowledge/document.js";
import "../knowledge/words.js";
import { Effect, Presence } from "./marks.js";
import { Try } from "./try.js";

function hostOf({ card, presence, seen, queue, failing }) {
  if (presence === "no host") return say("tl.host none", { lane: card.lane });
  if (presence === "away") return say("tl.host away", { lane: card.lane, seen: ago(seen) });
  const failed = failing > 0 ? ` · ${say("tl.host failing", { share: `${Math.round(failing * 100)} %` })}` : "";
  return say("tl.host here", { lane: card.lane, queue: number(queue) }) + failed;
}

function Facts({ tool }) {
  const { card } = tool, writes = card.effect !== "read";
  const rows = [
    ["tl.host", hostOf(tool)],
    writes && ["tl.repeats", say(card.idempotency === "none" ? "tl.idem none" : `tl.${card.idempotency}`)],
    writes && ["tl.dry", say(`tl.dry ${card.dry_run ?? "none"}`)],
    card.undo && ["tl.undo", html`<a class="mono" href=${`/tools/${card.undo}`}>${card.undo}</a>`],
    card.rate_per_min && ["tl.rate", say("tl.per minute", { n: card.rate_per_min })],
    ["tl.timeout", duration(card.timeout_s * 1000)],
    card.owner && ["tl.owner", card.owner],
    card.agents?.length && ["tl.agents", card.agents.join(", ")],
    ["tl.hash", html`${card.version} · <span class="mono">${tool.hash.slice(0, 12)}</span>`],
  ].filter(Boolean);
  return html`<dl class="facts">${rows.map(([key, value]) => html`<div key=${key}><dt>${say(key)}</dt><dd>${value}</dd></div>`)}</dl>`;
}

// Nested properties stand under their own, one step in.
function rowsOf(schema, depth = 0, path = "") {
  const needed = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).flatMap(([name, each]) => {
    const inner = each?.type === "array" ? each.items ?? {} : each ?? {};
    const below = depth < 3 && inner.properties ? rowsOf(inner, depth + 1, `${path}${name}.`) : [];
    return [{ key: path + name, name, depth, schema: each ?? {}, needed: needed.has(name) }, ...below];
  });
}

function Parameters({ schema }) {
  const rows = rowsOf(schema);
  if (!rows.length) return html`<p class="soft">${say("form.none")}</p>`;
  return html`<div class="table" tabindex="0"><table class="parameters"><thead><tr><th>${say("tl.parameters")}</th><th>${say("tl.type")}</th><th>${say("tl.what")}</th></tr></thead>
    <tbody>${rows.map((each) => html`<tr key=${each.key}><td style=${{ paddingLeft: `${10 + each.depth * 16}px` }}><span class="mono">${each.name}</span>${each.needed && html`<div class="faint">${say("tl.needed")}</div>`}</td>
      <td class="mono soft">${typeOf(each.schema)}</td><td>${each.schema.description}${each.schema.default !== undefined && html` <span class="faint">= ${JSON.stringify(each.schema.default)}</span>`}</td></tr>`)}</tbody></table></div>`;
}

function Versions({ versions }) {
  return html`<div class="table" tabindex="0"><table><thead><tr><th>${say("tl.revision")}</th><th>${say("tl.hash")}</th><td></td></tr></thead><tbody>${versions.map((each) => html`<tr key=${each.since}>
    <td class="num">${each.since} – ${each.until ?? say("tl.now")}</td><td>${each.version} · <span class="mono">${each.hash.slice(0, 12)}</span></td><td><${Effect} of=${each.effect} /></td></tr>`)}</tbody></table></div>`;
}

export function Detail({ name }) {
  const { data: tool, error, again } = useGet(`/api/tools/named/${name}`);
  const [tab, setTab] = useState("parameters");
  if (error) return html`<${Trouble} error=${error} again=${again} />`;
  if (!tool) return html`<${Loading} />`;
  const { card } = tool;
  const tabs = ["parameters", "try", "used", "versions", "raw"].map((key) => [key, say(`tl.${key}`)]);
  return html`<article class="stack">
    <a class="back" href="/tools">← ${say("tl.back")}</a>
    <div class="row"><h2 class="mono grow">${card.name}</h2><${Presence} of=${tool.presence} always /><${Effect} of=${card.effect} /></div>
    ${card.title && card.title !== card.name && html`<p><strong>${card.title}</strong></p>`}
    <p class="described">${card.description}</p>
    <${Tabs} label=${card.name} tabs=${tabs} chosen=${tab} onChoose=${setTab} />
    ${tab === "parameters" && html`<${Parameters} schema=${card.parameters} /><${Facts} tool=${tool} />
      ${card.examples.length > 0 && html`<div><h3>${say("tl.examples")}</h3><ul class="examples">${card.examples.map((each) => html`<li key=${each} class="soft">“${each}”</li>`)}</ul></div>`}`}
    ${tab === "try" && html`<${Try} tool=${tool} />`}
    ${tab === "used" && html`<${Used} name=${card.name} />`}
    ${tab === "versions" && html`<${Versions} versions=${tool.versions} />`}
    ${tab === "raw" && html`<div class="card"><${Copy} text=${JSON.stringify(card, null, 1)} /><${Json} value=${card} /></div>`}
  </article>`;
}

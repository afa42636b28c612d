// Bringing tools in: an OpenAPI document, an MCP server's address, or a cloud's product; shown first, then imported.
import { html, useState } from "../../vendor/preact.js";
import { post } from "../../core/api.js";
import { number } from "../../core/format.js";
import { useWork } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Badge, Dialog, Field, Tabs, Trouble } from "../../parts/basic.js";
import { Effect } from "./marks.js";

const EMPTY = { where: "", document: "", name: "", prefix: "", server: "", products: "", credential: "" };

const pair = (text) => {
  const at = text.indexOf("=");
  return at > 0 ? { [text.slice(0, at).trim()]: text.slice(at + 1).trim() } : {};
};

// What the gateway is asked.
function asked(kind, values, seen = "") {
  const { where, document, name, prefix, server } = values;
  if (kind === "openapi") return { kind, where: document.trim() ? "" : where.trim(), document, name, prefix, server, auth: pair(values.credential), seen };
  if (kind === "mcp") return { kind, where: where.trim(), name, prefix, headers: pair(values.credential), seen };
  return { kind, products: values.products.split(",").map((each) => each.trim()).filter(Boolean), seen };
}

function Shown({ found }) {
  return html`<div class="stack">
    <div class="row"><strong>${found.title || found.source}</strong>${Object.entries(found.effects).map(([effect, n]) => html`<span key=${effect} class="row"><${Effect} of=${effect} /><span class="num">${number(n)}</span></span>`)}
      <span class="faint">${say("tl.beside", { new: number(found.new), changed: number(found.changed) })}${found.gone ? ` · ${say("tl.gone", { n: number(found.gone) })}` : ""}</span></div>
    ${found.findings.length > 0 && html`<div class="trouble"><strong>${say("tl.look at this")}</strong><ul>${found.findings.map((each, n) => html`<li key=${n}><span class="mono">${each.tool}</span> ${each.where}: ${each.what} ${each.excerpt && html`<q>${each.excerpt}</q>`}</li>`)}</ul></div>`}
    <div class="table lines"><table><tbody>${found.lines.map((each) => html`<tr key=${each.name}><td class="mono">${each.name}</td><td><${Effect} of=${each.effect} /></td><td>${each.description.split("\n")[0].slice(0, 140)}</td></tr>`)}</tbody></table></div>
    ${found.tools > found.lines.length && html`<p class="faint">${say("tl.first of", { n: found.lines.length })}</p>`}
    ${found.left_out.length > 0 && html`<details><summary>${say("tl.left out")} ${found.left_out.length}</summary><ul>${found.left_out.map(([name, why], n) => html`<li key=${n}><span class="mono">${name}</span> <span class="soft">${why}</span></li>`)}</ul></details>`}
  </div>`;
}

export function Add({ onClose, onAdded }) {
  const [kind, setKind] = useState("openapi"), [values, setValues] = useState(EMPTY), [found, setFound] = useState(null), [done, setDone] = useState(null);
  const [look, looking] = useWork(async () => setFound(await post("/api/tools/import/try", asked(kind, values))));
  const [bring, bringing] = useWork(async () => {
    setDone(await post("/api/tools/import", asked(kind, values, found.digest)));
    onAdded();
  });
  const set = (name) => (event) => {
    setValues((before) => ({ ...before, [name]: event.target.value }));
    setFound(null);
  };
  const choose = (next) => {
    setKind(next);
    setFound(null);
    looking.clear();
    bringing.clear();
  };
  const read = async (event) => {
    const [file] = event.target.files;
    if (file) setValues({ ...values, document: await file.text() });
    setFound(null);
  };
  const input = (name, label, hint, more = {}) => html`<${Field} label=${say(label)} hint=${hint && say(hint)}>${(id) => html`<input id=${id} value=${values[name]} onInput=${set(name)} ...${more} />`}<//>`;
  const ready = kind === "aliyun" ? values.products.trim() : values.where.trim() || (kind === "openapi" && values.document.trim());
  if (done) {
    return html`<${Dialog} title=${say("tl.add")} onClose=${onClose}><p><${Badge} kind="good">${say("tl.imported n", { n: number(done.tools), source: done.source })}<//></p>
      <p class="soft">${say(done.hosted ? "tl.hosted" : "tl.not hosted")}</p>${done.left_out.length > 0 && html`<${Shown} found=${{ ...done, lines: [] }} />`}
      <div class="row"><a class="button primary" href=${`/tools?lane=${done.source}`} onClick=${onClose}>${say("tl.list")}</a></div><//>`;
  }
  return html`<${Dialog} title=${say("tl.add")} onClose=${onClose} wide>
    <${Tabs} label=${say("tl.add")} chosen=${kind} onChoose=${choose} tabs=${[["openapi", "OpenAPI"], ["mcp", "MCP"], ["aliyun", say("tl.products")]]} />
    <form class="stack add" onSubmit=${(event) => { event.preventDefault(); look(); }}>
      ${kind === "openapi" && html`
        <${Field} label=${say("tl.document")}>${(id) => html`<textarea id=${id} class="mono" rows="6" spellcheck=${false} value=${values.document} onInput=${set("document")}></textarea>`}<//>
        <label class="button small from-file">${say("tl.file")}<input class="hidden" type="file" accept=".json,.yaml,.yml" onChange=${read} /></label>
        ${input("where", "tl.or address", "tl.address hint", { type: "url", placeholder: "https://…/openapi.json" })}
        <details><summary>${say("tl.more")}</summary><div class="grid">${input("name", "tl.lane", "tl.lane hint")}${input("prefix", "tl.prefix")}${input("server", "tl.server")}${input("credential", "tl.credential", "tl.credential hint")}</div></details>`}
      ${kind === "mcp" && html`${input("where", "tl.mcp address", "tl.mcp hint", { type: "url", placeholder: "https://…/mcp" })}
        <details><summary>${say("tl.more")}</summary><div class="grid">${input("name", "tl.lane", "tl.lane hint")}${input("prefix", "tl.prefix")}${input("credential", "tl.header", "tl.credential hint")}</div></details>`}
      ${kind === "aliyun" && input("products", "tl.products", "tl.products hint", { placeholder: "ecs" })}
      <${Trouble} error=${looking.error ?? bringing.error} />
      ${found && html`<${Shown} found=${found} />`}
      <div class="row"><button class=${found ? "" : "primary"} disabled=${!ready || looking.busy}>${looking.busy ? say("tl.working") : say("tl.look")}</button>
        ${found && html`<button type="button" class="primary" disabled=${bringing.busy || !found.tools} onClick=${bring}>${bringing.busy ? say("tl.working") : found.tools ? say("tl.import", { n: number(found.tools) }) : say("tl.nothing new")}</button>`}</div>
    </form><//>`;
}

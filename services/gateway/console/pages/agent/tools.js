// Which tools are always offered, chosen by searching the catalogue as an agent does.
import { html, useState } from "../../vendor/preact.js";
import { query } from "../../core/api.js";
import { useGet, useSettled } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Badge, Field, Icon } from "../../parts/basic.js";

const KIND = { read: "", write: "warn", destructive: "bad" };

function Found({ tool, chosen, onAdd }) {
  return html`<li class="row"><div class="grow"><span class="mono">${tool.name}</span> <${Badge} kind=${KIND[tool.effect]}>${tool.effect}<//>
      ${tool.presence && tool.presence !== "here" && html` <${Badge} kind="bad">${say("ag.f.not here")}<//>`}
      <p class="soft cut" title=${tool.description}>${tool.description}</p></div>
    ${chosen ? html`<span class="faint">${say("ag.f.added")}</span>` : html`<button type="button" class="small" onClick=${() => onAdd(tool.name)} aria-label=${`${say("ag.f.add")} ${tool.name}`}>${say("ag.f.add")}</button>`}
  </li>`;
}

export function Tools({ spec, change, mine }) {
  const [text, setText] = useState("");
  const wanted = useSettled(text.trim());
  const { data, error } = useGet(wanted ? `/api/tools/search${query({ text: wanted, k: 8 })}` : null);
  const found = wanted ? (data?.tools ?? []).map((each) => ({ ...each, ...each.card })) : [];
  const add = (name) => change({ tools: [...new Set([...spec.tools, name])] });
  const enter = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (error && /^[\w-]{1,64}$/.test(wanted)) add(wanted); // nobody can search now; a name is a name
  };
  return html`<fieldset><legend>${say("ag.f.tools")}</legend>
    <p class="hint">${say("ag.f.tools hint")}</p>
    ${spec.tools.length ? html`<ul class="row chosen">${spec.tools.map((each) => html`<li key=${each} class="badge"><a href=${`/tools/${each}`} target="_blank">${each}</a>
      ${mine && html`<button type="button" class="quiet icon-only" aria-label=${say("ag.f.remove", { name: each })} onClick=${() => change({ tools: spec.tools.filter((name) => name !== each) })}><${Icon} name="x" /></button>`}</li>`)}</ul>`
      : html`<p class="soft">${say("ag.f.no tools")}</p>`}
    ${mine && html`<div class="search"><${Icon} name="search" /><input type="search" aria-label=${say("ag.f.tool search")} placeholder=${say("ag.f.tool search")} value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${enter} /></div>`}
    ${error && wanted && html`<p class="why" role="alert">${error.what} ${error.why}</p>`}
    ${found.length > 0 && html`<ul class="found">${found.map((each) => html`<${Found} key=${each.name} tool=${each} chosen=${spec.tools.includes(each.name)} onAdd=${add} />`)}</ul>`}
    <${Field} label=${say("ag.f.tool_k")}>${(id) => html`<input id=${id} class="short" type="number" min="0" max="32" value=${spec.tool_k} onInput=${(event) => change({ tool_k: Number(event.target.value) })} />`}<//>
  </fieldset>`;
}

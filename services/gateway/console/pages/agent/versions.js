// What the agent has been: each version with what it changed, and the way back.
import { html, useState } from "../../vendor/preact.js";
import { get, post, remove } from "../../core/api.js";
import { ago, moment } from "../../core/format.js";
import { go } from "../../core/router.js";
import { useGet, useWork } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Badge, Dialog, Empty, Loading, Trouble } from "../../parts/basic.js";
import { FieldChange } from "./changes.js";

function Diff({ name, before, after }) {
  const { data, error, loading } = useGet(`/api/agents/${name}/diff?before=${before}&after=${after}`);
  if (loading) return html`<${Loading} />`;
  return html`<div class="stack"><${Trouble} error=${error} /><p class="faint">${say("ag.v.from to", { a: before, b: after })}</p>
    ${data && !data.changes.length && html`<p class="soft">${say("ag.v.same")}</p>`}
    ${data?.changes.map((each) => html`<${FieldChange} key=${each.field} ...${each} />`)}</div>`;
}

export function Versions({ name, mine, onChanged, onLoad }) {
  const { data, error, loading, again } = useGet(`/api/agents/${name}/versions`);
  const [shown, setShown] = useState(null), [deleting, setDeleting] = useState(false);
  const [act, { busy, error: failed }] = useWork(async (work) => {
    await work();
    again();
    onChanged();
  });
  const [forget, forgetting] = useWork(async () => {
    await remove(`/api/agents/${name}`);
    go("/agents");
  });
  if (loading && !data) return html`<${Loading} />`;
  if (!data?.length) return html`<${Trouble} error=${error} /><${Empty} title=${say("ag.v.none")}><p>${say("ag.v.none hint")}</p><//>`;
  return html`<div class="versions stack"><${Trouble} error=${error ?? failed} again=${again} />
    <ol>${data.map((each, at) => {
      const previous = data[at + 1]?.version, open = shown === each.version;
      return html`<li key=${each.version} class="card">
        <div class="row"><strong class="num">v${each.version}</strong>${each.published && html`<${Badge} kind="good">${say("ag.published")}<//>`}
          <span class="faint grow" title=${moment(each.at)}>${each.by} · ${ago(each.at)}</span></div>
        ${each.note && html`<p>${each.note}</p>`}
        <div class="row"><button class="small" aria-expanded=${open} disabled=${!previous} onClick=${() => setShown(open ? null : each.version)}>${previous ? say("ag.v.compare", { n: previous }) : say("ag.v.first")}</button>
          ${mine && html`<button class="small" disabled=${busy} onClick=${() => act(async () => onLoad(await get(`/api/agents/${name}?version=${each.version}`)))}>${say("ag.v.load")}</button>`}
          ${mine && !each.published && html`<button class="small" disabled=${busy} onClick=${() => act(() => post(`/api/agents/${name}/publish`, { version: each.version }))}>${say("ag.v.publish")}</button>`}</div>
        ${open && previous && html`<${Diff} name=${name} before=${previous} after=${each.version} />`}
      </li>`;
    })}</ol>
    ${mine && html`<div><button class="danger small" onClick=${() => setDeleting(true)}>${say("ag.v.delete")}</button></div>`}
    ${deleting && html`<${Dialog} title=${say("ag.v.delete")} onClose=${() => setDeleting(false)}><p>${say("ag.v.delete why")}</p><${Trouble} error=${forgetting.error} />
      <div class="row"><button class="danger" disabled=${forgetting.busy} onClick=${forget}>${say("ag.v.delete")}</button></div><//>`}
  </div>`;
}

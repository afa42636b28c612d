// What was imported: by lane, with its kind, how many tools, and taking it out again.
import { html, useState } from "../../vendor/preact.js";
import { remove } from "../../core/api.js";
import { ago, moment, number } from "../../core/format.js";
import { may } from "../../core/session.js";
import { useWork } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Badge, Dialog, Empty, Icon, Loading, Trouble } from "../../parts/basic.js";

function Leaving({ source, onClose, onGone }) {
  const [work, { busy, error }] = useWork(async () => {
    await remove(`/api/tools/sources/${source.lane}`);
    onGone();
  });
  return html`<${Dialog} title=${say("tl.remove")} onClose=${onClose}><p>${say("tl.remove?", { lane: source.lane, n: number(source.tools) })}</p><p class="soft">${say("tl.remove why")}</p>
    <${Trouble} error=${error} /><div class="row"><button class="danger" disabled=${busy} onClick=${work}>${busy ? say("tl.working") : say("tl.remove")}</button><button onClick=${onClose}>${say("tl.keep")}</button></div><//>`;
}

export function Sources({ asked, onChanged, onAdd }) {
  const [leaving, setLeaving] = useState(null);
  if (asked.error) return html`<${Trouble} error=${asked.error} again=${asked.again} />`;
  if (!asked.data) return html`<${Loading} />`;
  if (!asked.data.sources.length) {
    return html`<${Empty} title=${say("tl.no sources")}><p>${say("tl.no sources how")}</p>${may("build") ? html`<button class="primary" onClick=${onAdd}>${say("tl.add")}</button>` : html`<code>milepost tools import --help</code>`}<//>`;
  }
  return html`<ul class="stack">${asked.data.sources.map((each) => html`<li key=${each.lane} class="card source">
      <div class="row apart"><strong class="mono">${each.lane}</strong><span class="row"><${Badge} kind="info">${each.kind}<//>${each.shared && html`<${Badge}>${say("tl.shared")}<//>`}</span></div>
      <p>${each.title}</p><p class="faint cut" title=${each.where}>${each.where}</p>
      <div class="row apart"><span class="soft"><a href=${`/tools?lane=${each.lane}`}>${say("tl.count", { n: number(each.tools) })}</a> · ${each.owner} · <span title=${moment(each.since)}>${ago(each.since)}</span>${each.credentials.map((name) => html` <${Badge} key=${name}>${name}<//>`)}</span>
        ${may("build") && !each.shared && html`<button class="quiet small danger" onClick=${() => setLeaving(each)}><${Icon} name="x" />${say("tl.remove")}</button>`}</div></li>`)}</ul>
    ${leaving && html`<${Leaving} source=${leaving} onClose=${() => setLeaving(null)} onGone=${() => { setLeaving(null); onChanged(); }} />`}`;
}

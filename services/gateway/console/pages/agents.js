// All agents: the one that is always there, and those that were built.
import { html, useMemo, useRef, useState } from "../vendor/preact.js";
import { post } from "../core/api.js";
import { ago } from "../core/format.js";
import { go } from "../core/router.js";
import { may } from "../core/session.js";
import { style, useGet, useWork } from "../core/state.js";
import { say } from "../core/words.js";
import { Badge, Dialog, Empty, Field, Icon, Loading, Trouble } from "../parts/basic.js";
import { Picture } from "./agent/picture.js";
import "./agent/words.js";

style("/pages/agent.css");

function Card({ agent }) {
  const title = agent.built_in ? say("ag.assistant") : agent.title || agent.name;
  return html`<li class="card agent-card">
    <a class="over" href=${`/agents/${agent.name}`} aria-label=${`${say("ag.edit")} ${title}`}></a>
    <div class="row head"><${Picture} picture=${agent.picture} title=${title} size=${40} />
      <div class="grow"><h2 class="cut">${title}</h2><p class="faint mono cut">${agent.name}</p></div></div>
    <p class="soft about">${agent.built_in ? say("ag.assistant about") : agent.description}</p>
    <footer class="row apart">
      <span class="row">${agent.built_in ? html`<${Badge}>${say("ag.built in")}<//>`
        : agent.serves ? html`<${Badge} kind="good">${agent.serves === agent.version ? say("ag.published") : say("ag.published v", { n: agent.serves })}<//>`
        : html`<${Badge}>${say("ag.draft")}<//>`}
        ${!agent.built_in && html`<span class="faint num">v${agent.version} · ${ago(agent.at)}</span>`}</span>
      ${agent.serves && may("ask") && html`<a class="button small" href=${`/chat?agent=${agent.name}`}><${Icon} name="chat" />${say("ag.chat")}</a>`}
    </footer>
  </li>`;
}

function Import({ onClose }) {
  const [text, setText] = useState(""), [form, setForm] = useState("yaml");
  const picked = useRef(null);
  const [keep, { busy, error }] = useWork(async () => {
    const agent = await post("/api/agents/import", { text, form });
    go(`/agents/${agent.name}`);
  });
  const read = async (event) => {
    const file = event.target.files[0];
    if (!file) return;
    setText(await file.text());
    setForm(/\.toml$/i.test(file.name) ? "toml" : /\.json$/i.test(file.name) ? "json" : "yaml");
  };
  const submit = (event) => {
    event.preventDefault();
    keep();
  };
  return html`<${Dialog} title=${say("ag.import title")} onClose=${onClose} wide>
    <form class="stack" onSubmit=${submit}>
      <p class="hint">${say("ag.import hint")}</p>
      <div class="row"><input ref=${picked} class="hidden" type="file" accept=".yaml,.yml,.toml,.json" tabindex="-1" aria-label=${say("ag.choose file")} onChange=${read} />
        <button type="button" onClick=${() => picked.current.click()}><${Icon} name="file" />${say("ag.choose file")}</button>
        <select aria-label="YAML, TOML, JSON" value=${form} onChange=${(event) => setForm(event.target.value)}>${["yaml", "toml", "json"].map((each) => html`<option key=${each}>${each}</option>`)}</select></div>
      <${Field} label=${say("ag.or paste")}>${(id) => html`<textarea id=${id} class="mono" rows="14" spellcheck="false" value=${text} onInput=${(event) => setText(event.target.value)}></textarea>`}<//>
      <${Trouble} error=${error} />
      <div class="row"><button class="primary" disabled=${busy || !text.trim()}>${say("ag.import")}</button></div>
    </form>
  <//>`;
}

export default function Agents() {
  const { data, error, loading, again } = useGet("/api/agents");
  const [text, setText] = useState(""), [importing, setImporting] = useState(false);
  const shown = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    return (data ?? []).filter((each) => `${each.name} ${each.title} ${each.description}`.toLowerCase().includes(wanted));
  }, [data, text]);
  const own = (data ?? []).some((each) => !each.built_in);
  return html`<div class="page agents">
    <header><h1>${say("ag.agents")}</h1>
      <div class="row"><a class="button" href="/triggers">${say("ag.triggers")}</a>${may("build") && html`<button onClick=${() => setImporting(true)}><${Icon} name="down" />${say("ag.import")}</button>
        <a class="button primary" href="/agents/new"><${Icon} name="plus" />${say("ag.new")}</a>`}</div></header>
    <${Trouble} error=${error} again=${again} />
    ${loading && !data && html`<${Loading} />`}
    ${(data?.length ?? 0) > 6 && html`<div class="search"><${Icon} name="search" /><input type="search" aria-label=${say("ag.search")} placeholder=${say("ag.search")} value=${text} onInput=${(event) => setText(event.target.value)} /></div>`}
    <ul class="agent-cards">${shown.map((each) => html`<${Card} key=${each.name} agent=${each} />`)}</ul>
    ${data && !shown.length && html`<p class="soft">${say("ag.no match")}</p>`}
    ${data && !own && html`<${Empty} title=${say("ag.none")}><p>${say("ag.none hint")}</p>${may("build") && html`<p><a class="button primary" href="/agents/new"><${Icon} name="plus" />${say("ag.new")}</a></p>`}<//>`}
    ${importing && html`<${Import} onClose=${() => setImporting(false)} />`}
  </div>`;
}

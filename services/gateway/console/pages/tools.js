// Tools: the catalogue by name or as an agent finds it, one tool with a form to try it, and what was imported.
import { html, useEffect, useState } from "../vendor/preact.js";
import { get, query } from "../core/api.js";
import { number } from "../core/format.js";
import { refine, route } from "../core/router.js";
import { may } from "../core/session.js";
import { style, useGet, useSettled } from "../core/state.js";
import { say } from "../core/words.js";
import { Badge, Empty, Icon, Loading, Rows, Tabs, Trouble } from "../parts/basic.js";
import { Add } from "./tools/add.js";
import { Detail } from "./tools/detail.js";
import { EFFECTS, Presence } from "./tools/marks.js";
import { Sources } from "./tools/sources.js";
import "./tools/words.js";

style("/pages/tools.css");

const PAGE = 300;

// The list by name, page by page: more() brings the next one.
function useList(filters, stamp, on) {
  const path = `/api/tools${query({ ...filters, limit: PAGE })}`;
  const [state, setState] = useState({ tools: [], after: "", about: null, error: null });
  const [bringing, setBringing] = useState(false);
  const bring = async (after, before, signal) => {
    setBringing(true);
    try {
      const page = await get(`${path}${after ? `&after=${encodeURIComponent(after)}` : ""}`, { signal });
      setState({ tools: [...before, ...page.tools], after: page.after, about: page.state, refused: page.refused, error: null });
    } catch (error) {
      if (error.name !== "AbortError") setState((last) => ({ ...last, error, after: null }));
    }
    setBringing(false);
  };
  useEffect(() => {
    if (!on) return undefined;
    const control = new AbortController();
    bring("", [], control.signal);
    return () => control.abort();
  }, [path, stamp, on]);
  return { ...state, bringing, more: () => bringing || bring(state.after, state.tools) };
}

function More({ onSeen }) {
  useEffect(() => void onSeen(), []);
  return html`<div role="listitem" class="line"><${Loading} /></div>`;
}

function Line({ tool, chosen, best }) {
  const { q, how, ...others } = route.value.query;
  return html`<div role="listitem"><a class="line" href=${`/tools/${tool.name}${query({ q, how, ...others })}`} aria-current=${tool.name === chosen ? "true" : undefined}>
    <span class="cut mono">${tool.name}</span>
    <span class="row marks">${tool.score !== undefined && html`<span class="faint num">${tool.score.toFixed(3)}</span>`}<${Presence} of=${tool.presence} /><${Badge} kind=${EFFECTS[tool.effect]}>${say(`tl.${tool.effect}`)}<//></span>
    <span class="cut faint">${tool.description}</span>
    ${tool.score !== undefined && html`<span class="bar" aria-hidden="true"><span style=${{ width: `${Math.max(2, (tool.score / best) * 100)}%` }}></span></span>`}
  </a></div>`;
}

function Why({ tool }) {
  const parts = [["from_dense", "tl.meaning"], ["from_lexical", "tl.words"], ["from_name", "tl.name"]];
  return html`<p class="why-parts">${parts.map(([key, words]) => html`<span key=${key}>${say(words)} <span class="num">${(tool.why[key] ?? 0).toFixed(3)}</span></span>`)}
    ${["effect", "health", "queue"].filter((key) => (tool.why[key] ?? 1) !== 1).map((key) => html`<span key=${key}>× ${say(`tl.${key}`)} ${tool.why[key].toFixed(2)}</span>`)}</p>`;
}

function Filters({ query: asked, sources }) {
  const lanes = ["builtin", "memory", ...sources.map((each) => each.lane)];
  const pick = (name, options, words) => html`<select aria-label=${words} value=${asked[name] ?? ""} onChange=${(event) => refine({ [name]: event.target.value })}>
    <option value="">${words}</option>${options.map(([value, label]) => html`<option key=${value} value=${value}>${label}</option>`)}</select>`;
  return html`<div class="filters">
    ${pick("effect", ["read", "write", "destructive"].map((each) => [each, say(`tl.${each}`)]), say("tl.any effect"))}
    ${pick("lane", lanes.map((each) => [each, each]), say("tl.any host"))}
    ${pick("presence", ["here", "away", "no host"].map((each) => [each, say(`tl.${each}`)]), say("tl.any health"))}</div>`;
}

export default function Tools({ tool }) {
  const asked = route.value.query, how = asked.how ?? "name";
  const [text, setText] = useState(asked.q ?? ""), settled = useSettled(text, 300).trim();
  const [adding, setAdding] = useState(false), [stamp, setStamp] = useState(0);
  useEffect(() => refine({ q: settled }), [settled]);
  useEffect(() => {
    if ((asked.q ?? "") !== settled) setText(asked.q ?? ""); // a link led here
  }, [asked.q]);
  const agents = how === "agent", imported = how === "imported";
  const sources = useGet("/api/tools/sources");
  const list = useList({ text: settled, lane: asked.lane, effect: asked.effect, presence: asked.presence }, stamp, how === "name");
  const found = useGet(agents && settled ? `/api/tools/search${query({ text: settled, k: 20 })}` : null);
  const changed = () => {
    setStamp((before) => before + 1);
    sources.again();
  };
  const rows = agents ? (settled ? found.data?.tools ?? [] : []) : list.after ? [...list.tools, { more: true, name: "…" }] : list.tools;
  const best = Math.max(...rows.map((each) => each.score ?? 0), 0.0001), chosen = agents && rows.find((each) => each.name === tool);
  const filtered = settled || asked.lane || asked.effect || asked.presence;
  const nothing = () => {
    if (agents && !settled) return html`<${Empty} title=${say("tl.ask first")}><p>${say("tl.ask how")}</p><//>`;
    if (found.loading && agents) return html`<${Loading} />`;
    if (list.bringing) return html`<${Loading} />`;
    return html`<${Empty} title=${say("tl.none")}>${filtered ? say("tl.none how") : html`<code>milepost doctor</code>`}<//>`;
  };
  return html`<div class=${`page tools ${tool ? "one" : ""}`}>
    <header><h1>${say("nav.tools")}</h1>
      <p class="faint grow">${list.about && say("tl.count", { n: number(list.about.cards) })}${list.about?.unembedded ? ` · ${say("tl.unembedded", { n: number(list.about.unembedded) })}` : ""}</p>
      ${may("build") && html`<button class="primary" onClick=${() => setAdding(true)}><${Icon} name="plus" />${say("tl.add")}</button>`}</header>
    <div class="split">
      <section class="stack list" aria-label=${say("tl.list")}>
        <${Tabs} label=${say("tl.list")} chosen=${how} onChoose=${(key) => refine({ how: key === "name" ? "" : key })}
          tabs=${[["name", say("tl.by name")], ["agent", say("tl.as agent")], ["imported", `${say("tl.imported")}${sources.data?.sources.length ? ` ${sources.data.sources.length}` : ""}`]]} />
        ${imported ? html`<${Sources} asked=${sources} onChanged=${changed} onAdd=${() => setAdding(true)} />` : html`
          <div class="search"><${Icon} name="search" /><input type="search" value=${text} aria-label=${say(agents ? "tl.ask" : "tl.find")} placeholder=${say(agents ? "tl.ask" : "tl.find")} onInput=${(event) => setText(event.target.value)} /></div>
          ${!agents && html`<${Filters} query=${asked} sources=${sources.data?.sources ?? []} />`}
          <${Trouble} error=${agents ? found.error : list.error} />
          ${(list.refused ?? []).map((each) => html`<p key=${each.tool + each.lane} class="hint">${say("tl.refused", { tool: each.tool, lane: each.lane })}: ${each.what} ${each.hint}</p>`)}
          ${chosen && html`<${Why} tool=${chosen} />`}
          ${rows.length ? html`<${Rows} items=${rows} height=${agents ? 58 : 54} class="card flush" label=${say("tl.list")}
            row=${(each) => (each.more ? html`<${More} key=${`more${list.after}`} onSeen=${list.more} />` : html`<${Line} key=${each.name} tool=${each} chosen=${tool} best=${best} />`)} />` : nothing()}`}
      </section>
      <section class="detail" aria-label=${tool ?? say("tl.choose")}>${tool ? html`<${Detail} key=${tool} name=${tool} />` : html`<${Empty} title=${say("tl.choose")}>${say("tl.choose how")}<//>`}</section>
    </div>
    ${adding && html`<${Add} onClose=${() => setAdding(false)} onAdded=${changed} />`}
  </div>`;
}

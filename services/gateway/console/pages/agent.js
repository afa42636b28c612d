// Building one agent: by talking, by form or as YAML, with a preview of what stands there now.
import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { get, put } from "../core/api.js";
import { ago } from "../core/format.js";
import { go } from "../core/router.js";
import { may } from "../core/session.js";
import { style, useGet, useWork } from "../core/state.js";
import { say } from "../core/words.js";
import { Badge, Dialog, Field, Icon, Loading, Tabs, Trouble } from "../parts/basic.js";
import { Evaluation } from "./agent/evaluation.js";
import { Form } from "./agent/form.js";
import { Picture } from "./agent/picture.js";
import { Preview } from "./agent/preview.js";
import { Publish } from "./agent/publish.js";
import { Talk } from "./agent/talk.js";
import { Versions } from "./agent/versions.js";
import { Yaml } from "./agent/yaml.js";
import "./agent/words.js";

style("/pages/agent.css");

const SPEC = { instructions: "", model: "default", tools: [], tool_k: 3, collections: ["default"], knowledge_k: 2, approval: "writes",
  sampling: { temperature: 0, top_p: 1, top_k: 0, seed: 0, max_tokens: 512 }, budget: { steps: 8, calls: 16, deadline_s: 600, approval_s: 3600, history_tokens: 800 } };
const BLANK = { name: "", title: "", description: "", picture: "", suggestions: [], spec: SPEC };
const NARROW = ["talk", "form", "preview", "yaml", "versions", "evaluate", "publish"], WIDE = ["form", "yaml", "versions", "evaluate", "publish"];

const draftOf = ({ name, title, description, picture, suggestions, spec }) => ({ name, title, description, picture, suggestions, spec: { ...spec, name: undefined, version: undefined } });
const same = (a, b) => JSON.stringify(clean(a)) === JSON.stringify(clean(b));
const clean = (draft) => ({ ...draft, suggestions: draft.suggestions.map((each) => each.trim()).filter(Boolean), title: draft.title.trim() });
const sorted = (value) => (value && typeof value === "object" && !Array.isArray(value) ? Object.fromEntries(Object.keys(value).sort().filter((key) => value[key] !== undefined).map((key) => [key, sorted(value[key])])) : value);

const slug = (title) => title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40);

function stored(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

function useNarrow(width) {
  const query = useMemo(() => matchMedia(`(max-width: ${width}px)`), [width]);
  const [narrow, setNarrow] = useState(query.matches);
  useEffect(() => {
    const look = () => setNarrow(query.matches);
    query.addEventListener("change", look);
    return () => query.removeEventListener("change", look);
  }, [query]);
  return narrow;
}

// While there are changes, a link that leads away asks first.
function useGuard(dirty, onLeaving) {
  useEffect(() => {
    if (!dirty) return;
    const unload = (event) => event.preventDefault();
    const click = (event) => {
      const link = event.target.closest?.("a[href]");
      if (!link || link.target || link.origin !== location.origin || event.button || event.metaKey || event.ctrlKey || /^\/(api|v1)\//.test(link.pathname)) return;
      if (link.getAttribute("href").startsWith("#")) return;
      event.preventDefault();
      event.stopPropagation();
      onLeaving(link.pathname + link.search + link.hash);
    };
    addEventListener("beforeunload", unload);
    document.addEventListener("click", click, true);
    return () => {
      removeEventListener("beforeunload", unload);
      document.removeEventListener("click", click, true);
    };
  }, [dirty]);
}

function SaveDialog({ onClose, onSave, busy, error, given, isNew }) {
  const [note, setNote] = useState(""), [name, setName] = useState(given), first = useRef(null);
  useEffect(() => first.current.focus(), []);
  const submit = (event) => {
    event.preventDefault();
    onSave(name, note.trim());
  };
  return html`<${Dialog} title=${say("ag.save title")} onClose=${onClose}><form class="stack" onSubmit=${submit}>
    ${isNew ? html`<${Field} label=${say("ag.f.name")} hint=${say("ag.f.name hint")}>${(id) => html`<input id=${id} class="mono" required maxlength="64" pattern="[A-Za-z0-9_\\-]+" value=${name} onInput=${(event) => setName(event.target.value)} />`}<//>` : html`<p class="mono">${name}</p>`}
    <${Field} label=${say("ag.note")} hint=${say("ag.note hint")}>${(id) => html`<input id=${id} ref=${first} maxlength="500" value=${note} onInput=${(event) => setNote(event.target.value)} />`}<//>
    <${Trouble} error=${error} />
    <div class="row"><button class="primary" disabled=${busy}>${say("ag.save")}</button>${error?.status === 409 && html`<button type="button" onClick=${() => location.reload()}>${say("ag.reload")}</button>`}</div>
  </form><//>`;
}

function Editor({ found, again }) {
  const isNew = !found, base = useMemo(() => (found ? draftOf(found) : BLANK), [found]);
  const key = `agent draft ${found?.name ?? ""}`;
  const [kept] = useState(() => stored(key));
  const [draft, setDraft] = useState(kept?.draft && !same(kept.draft, base) ? kept.draft : base);
  const [restored, setRestored] = useState(() => (draft !== base ? kept.at : null));
  const [turns, setTurns] = useState([]), [evaluation, setEvaluation] = useState(null);
  const [tab, setTab] = useState(isNew ? "talk" : "form"), [saving, setSaving] = useState(false), [said, setSaid] = useState(""), [leaving, setLeaving] = useState(null);
  const narrow = useNarrow(1100), mine = may("build"), named = useRef(!isNew);
  const dirty = mine && JSON.stringify(sorted(clean(draft))) !== JSON.stringify(sorted(clean(base)));
  const { data: versions, again: readVersions } = useGet(isNew ? null : `/api/agents/${found.name}/versions`);
  useEffect(() => {
    if (dirty) localStorage.setItem(key, JSON.stringify({ draft, at: new Date().toISOString() }));
    else localStorage.removeItem(key);
  }, [draft, dirty]);
  useGuard(dirty, setLeaving);
  const change = (values, by) => {
    if (by === "name") named.current = Boolean(values.name);
    const name = by === "title" && isNew && !named.current ? { name: slug(values.title) } : {};
    setDraft((before) => ({ ...before, ...name, ...values }));
  };
  const [save, { busy, error, clear }] = useWork(async (name, note) => {
    const kept = await put(`/api/agents/${name}`, { ...clean(draft), name, note, based_on: isNew ? 0 : found.built_in ? 0 : found.version });
    localStorage.removeItem(key);
    setSaving(false);
    setRestored(null);
    setSaid(say("ag.saved", { n: kept.version }));
    if (isNew) return go(`/agents/${name}`, { replace: true });
    again(kept);
    readVersions();
  });
  const begin = () => {
    clear();
    if (mine && (dirty || isNew)) setSaving(true);
  };
  const latest = useRef(begin);
  latest.current = begin;
  useEffect(() => {
    const keys = (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
        event.preventDefault();
        latest.current();
      }
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, []);
  const refresh = async () => {
    again(await get(`/api/agents/${found.name}`));
    readVersions();
  };
  const shown = narrow || !["talk", "preview"].includes(tab) ? tab : "form";
  const talk = mine && html`<${Talk} draft=${draft} setDraft=${setDraft} isNew=${isNew} named=${named} turns=${turns} setTurns=${setTurns} />`;
  const preview = mine && html`<${Preview} draft=${clean(draft)} />`;
  const middle = {
    form: () => html`<${Form} draft=${draft} change=${change} isNew=${isNew} mine=${mine} />`,
    yaml: () => html`<${Yaml} draft=${clean(draft)} setDraft=${setDraft} mine=${mine} isNew=${isNew} />`,
    versions: () => html`<${Versions} name=${draft.name || "new"} mine=${mine} onChanged=${refresh} onLoad=${(agent) => setDraft(draftOf(agent))} />`,
    evaluate: () => html`<${Evaluation} draft=${clean(draft)} name=${draft.name || "new"} versions=${versions} evaluation=${evaluation} setEvaluation=${setEvaluation} />`,
    publish: () => html`<${Publish} agent=${found} mine=${mine} dirty=${dirty} onChanged=${refresh} />`,
  };
  const tabs = (narrow ? NARROW : WIDE).filter((each) => (mine || !["talk", "preview", "evaluate"].includes(each)) && (!isNew || !["versions", "evaluate", "publish"].includes(each)));
  return html`<div class="page agent-page">
    <header>
      <div class="row grow"><a class="button quiet icon-only back" href="/agents" aria-label=${say("ag.back")} title=${say("ag.back")}><${Icon} name="right" /></a>
        <${Picture} picture=${draft.picture} title=${draft.title || draft.name} /><div class="grow"><h1 class="cut">${draft.title || draft.name || say("ag.unnamed")}</h1>
        <p class="row faint">${!isNew && html`<span class="mono">${found.name}</span>`}
          ${found && !found.built_in && html`<span>v${found.version}</span>`}
          ${found?.built_in ? html`<${Badge}>${say("ag.built in")}<//>` : found?.serves ? html`<${Badge} kind="good">${found.serves === found.version ? say("ag.published") : say("ag.published v", { n: found.serves })}<//>` : !isNew && html`<${Badge}>${say("ag.draft")}<//>`}
          ${dirty && html`<${Badge} kind="warn">${say("ag.unsaved")}<//>`}</p></div></div>
      <div class="row">${said && !dirty && html`<span class="soft" role="status">${said}</span>`}
        ${found?.serves && may("ask") && html`<a class="button" href=${`/chat?agent=${found.name}`}><${Icon} name="chat" />${say("ag.chat")}</a>`}
        ${mine && html`<button class="primary" disabled=${!dirty && !isNew} title="Ctrl+S" onClick=${begin}>${say("ag.save")}</button>`}</div>
    </header>
    ${!mine && html`<p class="hint">${say("ag.only read")}</p>`}
    ${restored && html`<p class="notice row">${say("ag.restored", { when: ago(restored) })}<button class="small" onClick=${() => { setDraft(base); setRestored(null); }}>${say("ag.discard")}</button></p>`}
    ${narrow ? html`<${Tabs} tabs=${tabs.map((each) => [each, say(`ag.${each}`)])} chosen=${tab} onChoose=${setTab} label=${say("ag.parts")} />
        ${/* kept while another one is looked at */ ""}
        <div class="column" hidden=${tab !== "talk"}>${talk}</div><div class="column" hidden=${tab !== "preview"}>${preview}</div>
        ${middle[tab] && html`<div class="column middle">${middle[tab]()}</div>`}`
      : html`<div class=${`columns ${mine ? "" : "alone"}`}>
        ${mine && html`<div class="column panel"><h2>${say("ag.talk")}</h2>${talk}</div>`}
        <div class="column middle panel"><${Tabs} tabs=${tabs.map((each) => [each, say(`ag.${each}`)])} chosen=${shown} onChoose=${setTab} label=${say("ag.parts")} /><div class="scroll" key=${shown}>${middle[shown]()}</div></div>
        ${mine && html`<div class="column panel"><h2>${say("ag.preview")}</h2>${preview}</div>`}
      </div>`}
    ${saving && html`<${SaveDialog} given=${draft.name} isNew=${isNew} onClose=${() => setSaving(false)} onSave=${save} busy=${busy} error=${error} />`}
    ${leaving && html`<${Dialog} title=${say("ag.leave")} onClose=${() => setLeaving(null)}><p>${say("ag.leave why")}</p>
      <div class="row"><button class="primary" onClick=${() => go(leaving)}>${say("ag.leave yes")}</button><button onClick=${() => setLeaving(null)}>${say("ag.stay")}</button></div><//>`}
  </div>`;
}

function Known({ name }) {
  const { data, error, loading, again } = useGet(`/api/agents/${name}`);
  const [newer, setNewer] = useState(null);
  if (error) return html`<div class="page"><${Trouble} error=${error} again=${again} /><p><a href="/agents">${say("ag.back")}</a></p></div>`;
  if (loading && !data) return html`<div class="page"><${Loading} /></div>`;
  return html`<${Editor} found=${newer ?? data} again=${setNewer} />`;
}

export default function Agent({ agent }) {
  return agent === "new" ? html`<${Editor} key="new" found=${null} />` : html`<${Known} key=${agent} name=${agent} />`;
}

// Knowledge: collections, their documents and chunks, uploads with progress, search with scores, and who used what.
import { html, useEffect, useState } from "../vendor/preact.js";
import { get, query, remove } from "../core/api.js";
import { ago, moment, number } from "../core/format.js";
import { go, refine, route } from "../core/router.js";
import { may } from "../core/session.js";
import { style, useGet, useSettled, useWork } from "../core/state.js";
import { say } from "../core/words.js";
import { Dialog, Empty, Icon, Loading, Rows, Trouble } from "../parts/basic.js";
import { Document } from "./knowledge/document.js";
import { Found } from "./knowledge/found.js";
import { Uploads, useUploads } from "./knowledge/uploads.js";
import "./knowledge/words.js";

style("/pages/knowledge.css");

// All documents of a collection, page by page; nobody looks through more than so many.
const MOST = 5000;
async function documentsOf(collection, signal) {
  const found = [];
  for (let after = ""; after !== null && found.length < MOST;) {
    const page = await get(`/api/knowledge/${collection}/documents${query({ after, limit: 500 })}`, { signal });
    found.push(...page.documents);
    after = page.after;
  }
  return found.sort((a, b) => a.title.localeCompare(b.title) || a.source.localeCompare(b.source));
}

function useDocuments(collection, known, stamp) {
  const [state, setState] = useState({ documents: null, error: null });
  useEffect(() => {
    if (!known) return setState({ documents: [], error: null });
    const control = new AbortController();
    documentsOf(collection, control.signal).then(
      (documents) => setState({ documents, error: null }),
      (error) => error.name === "AbortError" || setState((before) => ({ ...before, error })),
    );
    return () => control.abort();
  }, [collection, known, stamp]);
  return state;
}

function Shelves({ collections, chosen, onNew }) {
  return html`<nav class="shelves" aria-label=${say("kn.collections")}>
    <ul>${collections.map((each) => html`<li key=${each.name}><a href=${`/knowledge/${each.name}`} aria-current=${each.name === chosen ? "page" : undefined}>
      <span class="cut">${each.name}</span><span class="faint num">${number(each.documents)}</span></a></li>`)}</ul>
    ${may("ask") && html`<button class="quiet small" onClick=${onNew}><${Icon} name="plus" />${say("kn.new")}</button>`}
  </nav>`;
}

function NewCollection({ onClose }) {
  const [name, setName] = useState("");
  const fits = /^[A-Za-z0-9_-]{1,64}$/.test(name);
  const make = (event) => {
    event.preventDefault();
    go(`/knowledge/${name}`);
    onClose();
  };
  return html`<${Dialog} title=${say("kn.new")} onClose=${onClose}><form class="stack" onSubmit=${make}>
    <label for="kn-name">${say("kn.name")}</label>
    <input id="kn-name" value=${name} autofocus onInput=${(event) => setName(event.target.value)} pattern="[A-Za-z0-9_\\-]{1,64}" />
    <p class="hint">${say("kn.name hint")}</p><button class="primary" disabled=${!fits}>${say("kn.open")}</button>
  </form><//>`;
}

function Documents({ documents, chosen }) {
  const [text, setText] = useState("");
  const words = text.toLowerCase();
  const shown = words ? documents.filter((each) => `${each.title} ${each.source}`.toLowerCase().includes(words)) : documents;
  return html`<div class="stack documents">
    ${documents.length > 8 && html`<input type="search" value=${text} placeholder=${say("kn.filter")} aria-label=${say("kn.filter")} onInput=${(event) => setText(event.target.value)} />`}
    <${Rows} items=${shown} height=${56} label=${say("kn.documents")} class="card flush" row=${(each) => html`<div role="listitem" key=${each.id}><a class="line" href=${`/knowledge/${each.collection}${query({ document: each.id })}`} aria-current=${each.id === chosen ? "true" : undefined}>
      <span class="cut"><strong>${each.title}</strong></span><span class="faint num">${say("kn.n chunks", { n: number(each.chunks) })}</span>
      <span class="cut faint">${each.source}</span><span class="faint" title=${moment(each.added)}>${ago(each.added)}</span></a></div>`} />
  </div>`;
}

function Remove({ document, onClose, onGone }) {
  const [work, { busy, error }] = useWork(async () => {
    await remove(`/api/knowledge/${document.collection}/documents/${document.id}`);
    onGone();
  });
  return html`<${Dialog} title=${say("kn.remove")} onClose=${onClose}><p>${say("kn.remove?", { title: document.title, n: number(document.chunks) })}</p>
    <p class="soft">${say("kn.remove why")}</p><${Trouble} error=${error} />
    <div class="row"><button class="danger" disabled=${busy} onClick=${work}>${say("kn.remove")}</button><button onClick=${onClose}>${say("kn.keep")}</button></div><//>`;
}

export default function Knowledge({ collection }) {
  const { data, error, loading, again } = useGet("/api/knowledge");
  const [stamp, setStamp] = useState(0), [naming, setNaming] = useState(false), [leaving, setLeaving] = useState(null);
  const changed = () => {
    again();
    setStamp((before) => before + 1);
  };
  const uploads = useUploads(changed);
  const [text, setText] = useState(route.value.query.q ?? ""), settled = useSettled(text, 350);
  useEffect(() => refine({ q: settled.trim() }), [settled]);
  const q = route.value.query.q ?? "";
  useEffect(() => {
    if (q !== settled.trim()) setText(q); // a link led here
  }, [q]);
  const collections = data?.collections ?? [], name = collection ?? collections[0]?.name ?? "default";
  const here = collections.find((each) => each.name === name), document = route.value.query.document;
  const { documents, error: trouble } = useDocuments(name, Boolean(here), stamp);
  const shown = here || !collection ? collections : [...collections, { name, documents: 0 }];
  const drop = (event) => {
    event.preventDefault();
    event.currentTarget.classList.remove("over");
    if (may("ask")) uploads.add(name, [...event.dataTransfer.files]);
  };
  const over = (on) => (event) => {
    event.preventDefault();
    event.currentTarget.classList.toggle("over", on && may("ask"));
  };
  const body = () => {
    if (settled.trim()) return html`<${Found} text=${settled.trim()} collection=${name} all=${collections.length > 1} />`;
    if (document) return html`<${Document} key=${document} collection=${name} id=${document} onRemove=${setLeaving} />`;
    return html`<${Trouble} error=${trouble} />
      ${here && html`<p class="faint">${say("kn.about", { documents: number(here.documents), chunks: number(here.chunks), version: here.version })} · ${ago(here.changed)}</p>`}
      ${documents === null ? html`<${Loading} />` : documents.length ? html`<${Documents} documents=${documents} />`
        : !uploads.items.length && html`<${Empty} title=${say("kn.empty")}><p>${say("kn.empty how")}</p><p><code>milepost knowledge add FOLDER${name === "default" ? "" : ` --collection ${name}`}</code></p><//>`}`;
  };
  return html`<div class="page knowledge">
    <header><h1>${say("nav.knowledge")}</h1>
      <div class="search grow"><${Icon} name="search" /><input type="search" value=${text} aria-label=${say("kn.search")} placeholder=${say("kn.search")} onInput=${(event) => setText(event.target.value)} /></div>
      ${may("ask") && html`<label class="button primary"><${Icon} name="plus" />${say("kn.upload")}<input class="hidden" type="file" multiple onChange=${(event) => { uploads.add(name, [...event.target.files]); event.target.value = ""; }} /></label>`}
    </header>
    <${Trouble} error=${error} again=${again} />
    ${loading && !data ? html`<${Loading} />` : html`<div class="split" onDragOver=${over(true)} onDragLeave=${over(false)} onDrop=${drop}>
      <${Shelves} collections=${shown} chosen=${name} onNew=${() => setNaming(true)} />
      <section class="stack grow" aria-label=${name}>
        ${!(document || settled.trim()) && html`<${Uploads} uploads=${uploads} />`}
        ${body()}
        ${may("ask") && !document && !settled.trim() && html`<p class="drop faint">${say("kn.drop", { name })}</p>`}
      </section></div>`}
    ${naming && html`<${NewCollection} onClose=${() => setNaming(false)} />`}
    ${leaving && html`<${Remove} document=${leaving} onClose=${() => setLeaving(null)} onGone=${() => { setLeaving(null); go(`/knowledge/${name}`); changed(); }} />`}
  </div>`;
}

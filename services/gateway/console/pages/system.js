// The stack as it is: processes, services, queues, charts of the last quarter of an hour, models, dead letters, keys, storage.
import { html, useMemo } from "../vendor/preact.js";
import { bytes, duration, number } from "../core/format.js";
import { may } from "../core/session.js";
import { style, useEvery, useGet } from "../core/state.js";
import { say } from "../core/words.js";
import { Badge, Loading, Trouble } from "../parts/basic.js";
import { Charts } from "./system/charts.js";
import { Dead } from "./system/dead.js";
import { Keys } from "./system/keys.js";
import { latest, sample } from "./system/samples.js";
import "./system/words.js";

style("/pages/system.css");

const EVERY_MS = 2500, STORED_MS = 60_000;
const STATES = { ready: "good", starting: "info", restarting: "warn", failing: "bad", dead: "bad" };

function Processes({ processes }) {
  const memory = processes.reduce((sum, each) => sum + each.memory_mb, 0);
  return html`<section class="stack" aria-label=${say("sy.processes")}><div class="row apart"><h2>${say("sy.processes")}</h2><span class="faint num">${number(processes.length)} · ${number(Math.round(memory))} MB</span></div>
    <ul class="processes">${processes.map((each) => html`<li key=${each.name} class="card process"><div class="row apart"><strong class="cut">${each.name}</strong><${Badge} kind=${STATES[each.state] ?? ""}>${say(`sy.${each.state}`)}<//></div>
      <div class="row apart faint num"><span>${number(Math.round(each.memory_mb))} MB</span><span>${each.restarts ? say("sy.restarts", { n: each.restarts }) : `pid ${each.pid}`}</span></div>
      ${each.why && html`<p class="why">${each.why}</p>`}</li>`)}</ul></section>`;
}

const took = (s) => (s === null || s === undefined ? "" : duration(s * 1000));

function Services({ services }) {
  const pace = latest();
  const roles = [...new Set(services.map((each) => `${each.role}/${each.lane}`))].map((key) => {
    const copies = services.filter((each) => `${each.role}/${each.lane}` === key), [{ role, lane }] = copies;
    const sum = (of) => copies.reduce((total, each) => total + (Number(of(each)) || 0), 0);
    return { key, role, lane, copies: copies.length, done: sum((each) => each.told.done), failed: sum((each) => each.told.failed), retried: sum((each) => each.told.retried), working: sum((each) => each.told.working), questions: sum((each) => each.questions), errors: sum((each) => each.errors), ms: Math.max(...copies.map((each) => each.question_ms)), ...pace[key] };
  });
  return html`<section class="stack" aria-label=${say("sy.services")}><h2>${say("sy.services")}</h2><div class="table" tabindex="0"><table class="figures"><thead><tr><th>${say("sy.service")}</th>
      ${["copies", "working", "done", "failed", "retried", "p50", "p95", "questions", "answer"].map((key) => html`<th key=${key} class="num">${say(`sy.${key}`)}</th>`)}</tr></thead>
    <tbody>${roles.map((each) => html`<tr key=${each.key}><td>${each.role}${each.lane !== "main" && html` <span class="faint">${each.lane}</span>`}</td><td>${each.copies}</td><td>${number(each.working)}</td><td>${number(each.done)}</td>
      <td>${each.failed ? html`<${Badge} kind="bad">${number(each.failed)}<//>` : 0}</td><td>${number(each.retried)}</td><td>${took(each.p50)}</td><td>${took(each.p95)}</td>
      <td>${number(each.questions)}${each.errors > 0 && html` <span class="faint">${say("sy.errors", { n: number(each.errors) })}</span>`}</td><td>${each.ms ? duration(each.ms) : ""}</td></tr>`)}</tbody></table></div></section>`;
}

function Queues({ queues }) {
  const commands = queues.filter((each) => each.kind === "commands"), readers = queues.filter((each) => each.kind === "log");
  const busy = Math.max(10, ...queues.map((each) => each.waiting + each.working));
  const row = (each, name) => html`<tr key=${each.kind + each.role + each.lane}><td>${name}</td>
    <td><span class="meter" role="img" aria-label=${`${each.waiting} + ${each.working}`}><span style=${{ width: `${(each.working / busy) * 100}%` }}></span><span class="waits" style=${{ width: `${(each.waiting / busy) * 100}%` }}></span></span></td>
    <td class="num">${number(each.waiting)}</td><td class="num">${number(each.working)}</td></tr>`;
  return html`<section class="stack" aria-label=${say("sy.queues")}><h2>${say("sy.queues")}</h2><div class="table" tabindex="0"><table class="figures"><thead><tr><th>${say("sy.queue")}</th><td></td><th class="num">${say("sy.waiting")}</th><th class="num">${say("sy.working")}</th></tr></thead>
    <tbody>${commands.map((each) => row(each, html`${each.role}${each.lane !== "main" && html` <span class="faint">${each.lane}</span>`}`))}
    ${readers.map((each) => row(each, html`${each.role} <span class="faint">${say("sy.behind", { segment: each.lane })}</span>`))}</tbody></table></div></section>`;
}

function Models({ services, gpus }) {
  const found = services.filter((each) => each.role === "llm").flatMap((each) => Object.entries(each.told.models ?? {}).map(([name, told]) => ({ name, told, id: each.id })));
  const said = services.filter((each) => each.role === "llm").flatMap((each) => Object.entries(each.told.said ?? {}).map(([name, told]) => ({ name, told, id: each.id }))).filter((each) => each.name !== "caller");
  const figure = (label, value) => html`<div class="figure"><span class="faint">${say(label)}</span><strong class="num">${value}</strong></div>`;
  return html`<section class="stack" aria-label=${say("sy.models")}><h2>${say("sy.models")}</h2>
    ${!found.length && html`<p class="soft">${say("sy.no engine")}</p>`}
    ${found.map(({ name, told, id }) => html`<div key=${id + name} class="card"><h3 class="mono">${name}</h3><div class="figures-row">
      ${figure("sy.slots", `${told.running ?? 0} / ${told.slots ?? "?"}`)}${figure("sy.waiting", number(told.waiting ?? 0))}
      ${figure("sy.writes", `${(told.decode_tok_s ?? 0).toFixed(1)} tok/s`)}${figure("sy.reads", `${Math.round(told.prefill_tok_s ?? 0)} tok/s`)}
      ${figure("sy.cache", `${Math.round((told.cached_share ?? 0) * 100)} %`)}${told.drafted > 0 && figure("sy.guessed", `${Math.round((told.accepted / told.drafted) * 100)} %`)}</div></div>`)}
    ${said.map(({ name, told, id }) => html`<div key=${`said${id}${name}`} class="card"><h3 class="mono">${name}</h3><div class="figures-row">
      ${figure("sy.tokens read", number(told.read))}${figure("sy.tokens cached", number(told.cached))}${figure("sy.tokens written", number(told.wrote))}</div></div>`)}
    ${gpus.map((each, n) => html`<div key=${n} class="card"><h3>${each.name}</h3><div class="figures-row">${figure("sy.gpu load", `${each.load} %`)}${figure("sy.gpu memory", `${number(each.memory)} / ${number(each.memory_total)} MiB`)}</div></div>`)}
  </section>`;
}

function Storage({ asked }) {
  const { data, error } = asked;
  if (error) return html`<${Trouble} error=${error} />`;
  if (!data || !data.disk_total) return null;
  const used = data.disk_total - data.disk_free;
  return html`<section class="stack" aria-label=${say("sy.storage")}><h2>${say("sy.storage")}</h2>
    <div class="table" tabindex="0"><table class="figures"><thead><tr><th>${say("sy.stream")}</th><th class="num">${say("sy.messages")}</th><th class="num">${say("sy.size")}</th></tr></thead>
      <tbody>${data.streams.map((each) => html`<tr key=${each.name}><td class="mono">${each.name}</td><td class="num">${number(each.messages)}</td><td class="num">${bytes(each.bytes)}</td></tr>`)}
      ${data.database !== null && html`<tr><td>${say("sy.database")}</td><td></td><td class="num">${bytes(data.database)}</td></tr>`}</tbody></table></div>
    <div><label for="disk" class="soft">${say("sy.disk", { free: bytes(data.disk_free), total: bytes(data.disk_total) })}</label><meter id="disk" class="disk" min="0" max=${data.disk_total} high=${data.disk_total * 0.9} value=${used}></meter></div>
    ${data.notes.map(([name, text, next], n) => html`<p key=${n} class="hint">${name}: ${text}${next && html` · <code>${next}</code>`}</p>`)}</section>`;
}

export default function System() {
  const now = useGet("/api/system"), activity = useGet("/api/system/activity"), storage = useGet("/api/system/storage");
  useEvery(EVERY_MS, now.again);
  useEvery(EVERY_MS * 4, activity.again);
  useEvery(STORED_MS, storage.again);
  const { data } = now;
  const beat = useMemo(() => (data ? sample(data) : 0), [data]);
  if (!data) return html`<div class="page system"><h1>${say("nav.system")}</h1>${now.error ? html`<${Trouble} error=${now.error} again=${now.again} />` : html`<${Loading} />`}</div>`;
  const waiting = data.queues.filter((each) => each.kind === "commands").reduce((sum, each) => sum + each.waiting, 0);
  const sick = data.processes.filter((each) => each.state !== "ready");
  return html`<div class="page system">
    <header><h1>${say("nav.system")}</h1><div class="row">
      ${data.machine && html`<${Badge} kind=${sick.length ? "bad" : "good"}>${sick.length ? say("sy.sick", { names: sick.map((each) => each.name).join(", ") }) : say("sy.well")}<//>
        <${Badge} kind=${waiting > 100 ? "warn" : ""}>${say("sy.n waiting", { n: number(waiting) })}<//>${data.dead > 0 && html`<a href="#dead"><${Badge} kind="warn">${say("sy.n dead", { n: number(data.dead) })}<//></a>`}`}
      <span class="faint">Milepost ${data.version}</span></div></header>
    <${Trouble} error=${now.error} />
    <${Charts} activity=${activity.data} beat=${beat} machine=${data.machine} />
    ${data.machine && html`<${Processes} processes=${data.processes} />`}
    <${Services} services=${data.services} />
    <div class="pair">${data.machine && html`<${Queues} queues=${data.queues} />`}<div class="stack"><${Models} services=${data.services} gpus=${data.gpus} /><${Storage} asked=${storage} /></div></div>
    ${may("manage") && html`<${Dead} count=${data.dead} /><${Keys} />`}
  </div>`;
}

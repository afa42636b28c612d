// One turn: what was asked, and below it what came of it.
import { html, useMemo, useState } from "../../vendor/preact.js";
import { clock, duration, moment, number } from "../../core/format.js";
import { Markdown } from "../../core/markdown.js";
import { learn, say } from "../../core/words.js";
import { Copy, Icon, Trouble } from "../../parts/basic.js";
import { Call } from "./call.js";
import { Citations } from "./citations.js";
import { isOver } from "./talk.js";

learn({
  "turn: you": ["You", "您"],
  "turn: thinking": ["Thinking…", "思考中…"],
  "turn: looking": ["Looking for tools and passages…", "正在查找工具和资料…"],
  "turn: queued": ["Waits for the turn before it.", "等待上一轮结束。"],
  "turn: person": ["Waits for a person.", "等待人工处理。"],
  "turn: model busy": ["The model is busy; tried again in {s} s.", "模型繁忙，{s} 秒后重试。"],
  "turn: cancelled": ["Stopped.", "已停止。"],
  "turn: again": ["Retry", "重试"],
  "turn: edit": ["Edit", "编辑"],
  "turn: edit question": ["Edit the question", "编辑问题"],
  "turn: ask again": ["Ask anew", "重新提问"],
  "turn: branch": ["What follows it stays where it is: the edited question begins a conversation of its own.", "原对话保留不变：编辑后的问题会开始一个新对话。"],
  "turn: cancel": ["Cancel", "取消"],
  "turn: tokens": ["{n} tokens", "{n} 词元"],
  "turn: read and written": ["{read} read, {written} written", "读 {read}，写 {written}"],
  "turn: run": ["View run", "查看运行"],
  "turn: empty answer": ["The answer is empty.", "回答为空。"],
  "turn: copy answer": ["Copy", "复制"],
});

// Parsed again only when it has changed.
function Prose({ text }) {
  return useMemo(() => html`<${Markdown} text=${text} />`, [text]);
}

function Edit({ text, onDone, onCancel }) {
  const [value, setValue] = useState(text);
  const submit = (event) => {
    event.preventDefault();
    if (value.trim()) onDone(value.trim());
  };
  const keys = (event) => {
    if (event.key === "Escape") onCancel();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  return html`<form class="edit stack" onSubmit=${submit}>
    <textarea rows=${Math.min(10, value.split("\n").length + 1)} aria-label=${say("turn: edit question")} value=${value} ref=${(at) => at && !at.dataset.met && ((at.dataset.met = "1"), at.focus())}
      onInput=${(event) => setValue(event.target.value)} onKeyDown=${keys}></textarea>
    <p class="hint">${say("turn: branch")}</p>
    <div class="row"><button class="primary small" disabled=${!value.trim()}>${say("turn: ask again")}</button><button type="button" class="quiet small" onClick=${onCancel}>${say("turn: cancel")}</button></div>
  </form>`;
}

export function Question({ task, began, onEdit }) {
  const [editing, setEditing] = useState(false);
  return html`<div class="mine">
    ${editing ? html`<${Edit} text=${task} onCancel=${() => setEditing(false)} onDone=${(text) => { setEditing(false); onEdit(text); }} />`
      : html`<div class="bubble" title=${began ? moment(began) : undefined}>${task}</div>
        ${onEdit && html`<div class="tools"><button class="quiet small icon-only" title=${say("turn: edit")} aria-label=${say("turn: edit question")} onClick=${() => setEditing(true)}><${Icon} name="edit" /></button></div>`}`}
  </div>`;
}

function state(turn, busy) {
  if (busy) return say("turn: model busy", { s: Math.round(busy) });
  if (turn.status === "queued") return say("turn: queued");
  if (turn.status === "waiting" || [...turn.approvals, ...turn.questions].some((each) => each.state === "waiting")) return say("turn: person");
  return turn.items.length || turn.speaking.length ? say("turn: thinking") : say("turn: looking");
}

function Items({ turn, below }) {
  const renderTurn = (child) => html`<${Items} turn=${child} below=${below} />`;
  return html`${turn.items.map((item) => item.kind === "call" ? html`<${Call} key=${`call ${item.id}`} call=${item} turn=${turn} below=${below} renderTurn=${renderTurn} />`
    : item.text.trim() && html`<${Prose} key=${item.step} text=${item.text} />`)}`;
}

export function Reply({ turn, talk, agent, called, onRetry }) {
  const live = talk.live(turn), over = isOver(turn), busy = talk.busy.get(turn.run);
  const working = turn.items.some((each) => each.kind === "call" && !each.ended);
  const end = turn.ended ? new Date(turn.ended) - new Date(turn.began) : null;
  const tokens = (turn.read ?? 0) + (turn.written ?? 0);
  const spent = tokens ? say("turn: tokens", { n: number(tokens) }) : "";
  return html`<div class="reply" aria-busy=${!over}>
    <p class="whose"><span class="face" aria-hidden="true">${agent.picture?.startsWith("data:") ? html`<img src=${agent.picture} alt="" />` : agent.picture || html`<${Icon} name="agents" />`}</span>${called}</p>
    <div class="body stack">
      <${Items} turn=${turn} below=${talk.turns} />
      ${live.trim() && html`<div class="live"><${Prose} text=${live} /></div>`}
      ${!over && !live.trim() && !(working && !busy) && html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span>${state(turn, busy)}</p>`}
      ${over && turn.status === "completed" && turn.answer === "" && html`<p class="soft">${say("turn: empty answer")}</p>`}
      ${turn.status === "cancelled" && html`<p class="soft">${say("turn: cancelled")}</p>`}
      <${Trouble} error=${turn.failure} />
      <${Citations} citations=${turn.citations} />
    </div>
    <footer class="row">
      ${over && turn.answer && html`<${Copy} text=${turn.answer} label=${say("turn: copy answer")} />`}
      ${over && onRetry && html`<button class="quiet small" onClick=${onRetry}>${say("turn: again")}</button>`}
      <a class="button quiet small" href=${`/runs/${turn.run}`}>${say("turn: run")}</a>
      <span class="faint num meta">${[turn.model && turn.model !== "default" ? turn.model : "", spent, end !== null ? duration(end) : ""].filter(Boolean).map((each, n) => html`<span key=${n} title=${each === spent ? say("turn: read and written", { read: number(turn.read), written: number(turn.written) }) : clock(turn.began)}>${n ? " · " : ""}${each}</span>`)}</span>
    </footer>
  </div>`;
}

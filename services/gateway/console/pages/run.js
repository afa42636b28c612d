// One run: what it was asked and came to, and its events as a timeline, a list, a tree, prompts, a replay and a receipt.
import { html, useCallback, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { get, listen, post, query } from "../core/api.js";
import { ago, duration, moment, money, number, short } from "../core/format.js";
import { bind } from "../core/keyboard.js";
import { changed } from "../core/live.js";
import { go, refine, route } from "../core/router.js";
import { may } from "../core/session.js";
import { style, useWork } from "../core/state.js";
import { language, learn, say } from "../core/words.js";
import { Badge, Copy, Dialog, Icon, Loading, Tabs, Trouble } from "../parts/basic.js";
import { Events } from "./run/events.js";
import { Fork } from "./run/fork.js";
import { Outcome } from "./run/outcome.js";
import { Prompts } from "./run/prompts.js";
import { Receipt, VerifyBadge } from "./run/receipt.js";
import { Replay } from "./run/replay.js";
import { Timeline } from "./run/timeline.js";
import { Tree } from "./run/tree.js";

style("/pages/run.css");

learn({
  "run: runs": ["Runs", "运行"],
  "run: show as": ["Show as", "显示方式"],
  "run: timeline": ["Timeline", "时间线"],
  "run: events": ["Events", "事件"],
  "run: tree": ["Tree", "因果树"],
  "run: prompt": ["Prompt", "提示词"],
  "run: replay": ["Replay", "回放"],
  "run: receipt": ["Receipt", "回执"],
  "run: fork": ["Fork", "分叉"],
  "run: diff": ["Compare…", "比较…"],
  "run: download": ["Download", "下载"],
  "run: cancel": ["Cancel the run", "取消运行"],
  "run: conversation": ["Conversation", "对话"],
  "run: answer": ["Answer", "答案"],
  "run: erased": ["The user of this run was forgotten: its content cannot be read by anybody any more.", "此运行的用户已被遗忘：其内容任何人都无法再读取。"],
  "run: is fork": ["Left run {run} at event {at}", "在第 {at} 个事件处离开运行 {run}"],
  "run: by": ["by {by}", "由 {by} 发起"],
  "run: changed": ["Changed: {what}", "改动：{what}"],
  "run: same": ["nothing", "无"],
  "run: with parent": ["Compare with it", "与其比较"],
  "run: nothing real": ["Nothing of it happened in the world: reads come from the log, writes are only told.", "其中没有任何事情真实发生：读取来自日志，写操作只被描述。"],
  "run: of parent": ["Asked by run", "由此运行发起"],
  "run: children": ["Asked agents", "调用的智能体"],
  "run: forks": ["Forks", "分叉"],
  "run: waits": ["Waits for a person: {what}", "等待人处理：{what}"],
  "run: answer it": ["Open approvals", "打开审批"],
  "run: other": ["The other run: its id, or the first ten characters", "另一个运行：编号或其前十个字符"],
  "run: compare": ["Compare", "比较"],
  "run: pick": ["Or choose a recent one", "或选择最近的运行"],
  "run: tokens": ["{n} tokens", "{n} 词元"],
  "run: cached": ["{n} of them cached", "其中 {n} 来自缓存"],
  "run: steps": ["{n} turns", "{n} 轮"],
  "run: count": ["{n} events", "{n} 个事件"],
  "run: writes": ["writes: {n}", "{n} 次写操作"],
  "run: live": ["live", "实时"],
});

const TABS = ["timeline", "events", "tree", "prompt", "replay", "receipt"];

// The run with its lines; while it is open they come as they happen.
function useRun(run) {
  const [state, setState] = useState({ view: null, error: null });
  const load = useCallback(async () => {
    if (!run) return; // the address is another page's already
    try {
      const view = await get(`/api/runs/${run}${query({ language: language.value })}`);
      setState({ view, error: null });
    } catch (error) {
      setState((before) => ({ ...before, error }));
    }
  }, [run, language.value]);
  useEffect(() => {
    setState({ view: null, error: null });
    load();
  }, [load]);
  const open = state.view && !state.view.ended ? state.view.run : null;
  useEffect(() => {
    if (!open) return;
    let some = [], due = null;
    const flush = () => {
      due = null;
      const fresh = some;
      some = [];
      setState(({ view, error }) => {
        const last = view.events.reduceRight((found, each) => found || each.n, 0);
        const added = fresh.filter((each) => each.n > last);
        return { view: { ...view, events: [...view.events, ...added], count: view.count + added.length }, error };
      });
    };
    const line = (said) => {
      some.push(said);
      due ??= setTimeout(flush, 120);
    };
    const close = listen(`/api/runs/${open}/follow${query({ after: state.view.count, language: language.value })}`, {
      line, end: () => { close(); load(); setTimeout(load, 1500); }, // the receipt comes a moment after the end
    });
    return () => { clearTimeout(due); close(); };
  }, [open, language.value]);
  useEffect(() => changed.subscribe((tick) => {
    if (open && tick.runs.includes(open)) setTimeout(load, 300);
  }), [open, load]);
  return { ...state, load };
}

function Compare({ run, onClose }) {
  const [typed, setTyped] = useState(""), [recent, setRecent] = useState([]);
  useEffect(() => {
    get("/api/runs?limit=12").then((found) => setRecent(found.runs.filter((each) => each.run !== run)), () => {});
  }, []);
  const open = (other) => go(`/runs/diff${query({ a: run, b: other })}`);
  return html`<${Dialog} title=${say("run: diff")} onClose=${onClose}>
    <form class="row" onSubmit=${(event) => { event.preventDefault(); typed.trim() && open(typed.trim()); }}>
      <input class="grow mono" value=${typed} onInput=${(event) => setTyped(event.currentTarget.value)} aria-label=${say("run: other")} placeholder=${say("run: other")} />
      <button class="primary" disabled=${!typed.trim()}>${say("run: compare")}</button></form>
    ${recent.length > 0 && html`<p class="hint">${say("run: pick")}</p>
      <ul class="stack tight">${recent.map((each) => html`<li key=${each.run}><button class="quiet wide" onClick=${() => open(each.run)}><${Outcome} status=${each.status} /><span class="cut">${each.task}</span></button></li>`)}</ul>`}
  <//>`;
}

function Head({ view, onFork, onCompare, load, tab }) {
  const told = view.summary, [cancel, cancelling] = useWork(async () => { await post(`/api/runs/${view.run}/cancel`, { reason: "" }); await load(); });
  const people = view.asking.filter((each) => each.person);
  const spent = told && [
    told.ended ? duration(new Date(told.ended) - new Date(told.started)) : "", say("run: steps", { n: told.steps }), say("run: count", { n: number(view.count) }),
    told.tokens ? say("run: tokens", { n: number(told.tokens) }) + (told.cached ? ` (${say("run: cached", { n: number(told.cached) })})` : "") : "",
    told.writes ? say("run: writes", { n: told.writes }) : "", money(told.money), told.models.join(", "),
  ].filter(Boolean);
  const status = view.erased ? "erased" : people.length ? "waiting" : told?.status ?? "open";
  return html`<header class="run-head">
    <div class="grow stack tight">
      <p class="faint row"><a href="/runs">${say("run: runs")}</a> / <span class="mono">${short(view.run)}</span><${Copy} text=${view.run} />${!view.ended && html`<${Badge} kind="info">${say("run: live")}<//>`}</p>
      <h1 class="task">${told?.task || view.run}</h1>
      <p class="row"><${Outcome} status=${status} /><${VerifyBadge} view=${view} onOpen=${() => tab("receipt")} />
        ${told && html`<span class="faint">${told.agent} · ${told.user} · <time datetime=${told.started} title=${moment(told.started)}>${ago(told.started)}</time>${spent.map((each) => html` <span key=${each} class="whole">· ${each}</span>`)}</span>`}</p>
    </div>
    <div class="row actions">
      ${!view.ended && may("ask") && html`<button class="danger small" disabled=${cancelling.busy} onClick=${cancel}><${Icon} name="stop" />${say("run: cancel")}</button>`}
      <button class="small" onClick=${() => tab("replay")}>${say("run: replay")}</button>
      ${may("ask") && !view.erased && html`<button class="small" onClick=${() => onFork(null)}><${Icon} name="fork" />${say("run: fork")}</button>`}
      <button class="small" onClick=${onCompare}>${say("run: diff")}</button>
      <a class="button small" href=${`/api/runs/${view.run}/export`} download><${Icon} name="download" />${say("run: download")}</a>
      ${told && html`<a class="button small" href=${`/chat/${told.conversation}`}>${say("run: conversation")}</a>`}
    </div>
    <${Trouble} error=${cancelling.error} />
  </header>`;
}

function About({ view }) {
  const { fork, parent, asking, summary: told } = view, people = asking.filter((each) => each.person);
  return html`${view.erased && html`<p class="card">${say("run: erased")}</p>`}
    ${people.length > 0 && html`<p class="card row waits"><strong>${say("run: waits", { what: people.map((each) => each.tool || each.kind).join(", ") })}</strong><a href="/approvals">${say("run: answer it")}</a></p>`}
    ${fork && html`<div class="card stack tight"><p class="row"><${Icon} name="fork" /><a href=${`/runs/${fork.run}#${fork.at}`}>${say("run: is fork", { run: short(fork.run), at: fork.at })}</a>
        ${fork.by && html`<span class="faint">${say("run: by", { by: fork.by })}</span>`}<a href=${`/runs/diff${query({ a: fork.run, b: view.run })}`}>${say("run: with parent")}</a></p>
      <p>${say("run: changed", { what: fork.changed.join("; ") || say("run: same") })}</p><p class="faint">${say("run: nothing real")}</p></div>`}
    ${parent && html`<p class="row faint">${say("run: of parent")} <a class="mono" href=${`/runs/${parent.run}`}>${short(parent.run)}</a></p>`}
    ${view.children.length > 0 && html`<p class="row faint">${say("run: children")} ${view.children.map((each) => html`<a key=${each} class="mono" href=${`/runs/${each}`}>${short(each)}</a>`)}</p>`}
    ${view.forks.length > 0 && html`<p class="row faint">${say("run: forks")} ${view.forks.map((each) => html`<a key=${each.run} class="mono" href=${`/runs/${each.run}`}>${short(each.run)}</a>`)}</p>`}
    ${told?.answer && html`<section class="card answer"><h2 class="faint">${say("run: answer")}</h2><p>${told.answer}</p></section>`}`;
}

export default function Run({ run }) {
  const { view, error, load } = useRun(run);
  const tab = TABS.includes(route.value.query.tab) ? route.value.query.tab : "timeline";
  const selected = Number(route.value.hash) || null;
  const [forking, setForking] = useState(undefined), [comparing, setComparing] = useState(false);
  const choose = (to) => refine({ tab: to === "timeline" ? null : to });
  const select = useCallback((n) => go(`${location.pathname}${location.search}#${n}`, { replace: true }), []);
  const byNumber = useMemo(() => new Map((view?.events ?? []).filter((each) => each.n).map((each) => [each.n, each])), [view]);
  const latest = useRef({});
  latest.current = { selected, view };
  useEffect(() => {
    setForking(undefined);
    setComparing(false);
  }, [run]);
  useEffect(() => {
    const step = (by) => {
      const { selected: at, view: now } = latest.current;
      if (now) select(Math.max(1, Math.min(now.count, (at ?? (by > 0 ? 0 : now.count + 1)) + by)));
    };
    const bound = [
      bind("j", () => say("event: next"), () => step(1)), bind("k", () => say("event: previous"), () => step(-1)),
      bind("f", () => say("run: fork"), () => may("ask") && setForking(latest.current.selected)),
      ...TABS.map((name, at) => bind(String(at + 1), () => say(`run: ${name}`), () => choose(name))),
    ];
    return () => bound.forEach((unbind) => unbind());
  }, []);
  if (error && !view) return html`<div class="page"><p class="faint"><a href="/runs">${say("run: runs")}</a></p><${Trouble} error=${error} again=${load} /></div>`;
  if (!view) return html`<div class="page"><${Loading} /></div>`;
  const shown = { view, selected, select, byNumber, onFork: (n) => setForking(n) };
  return html`<div class="page run-page">
    <${Head} view=${view} load=${load} onFork=${() => setForking(selected)} onCompare=${() => setComparing(true)} tab=${choose} />
    <${About} view=${view} />
    <${Tabs} label=${say("run: show as")} chosen=${tab} onChoose=${choose} tabs=${TABS.map((name) => [name, say(`run: ${name}`)])} />
    ${tab === "timeline" && html`<${Timeline} ...${shown} />`}
    ${tab === "events" && html`<${Events} ...${shown} />`}
    ${tab === "tree" && html`<${Tree} ...${shown} />`}
    ${tab === "prompt" && html`<${Prompts} ...${shown} />`}
    ${tab === "replay" && html`<${Replay} ...${shown} />`}
    ${tab === "receipt" && html`<${Receipt} ...${shown} />`}
    ${forking !== undefined && html`<${Fork} view=${view} at=${forking} onClose=${() => setForking(undefined)} />`}
    ${comparing && html`<${Compare} run=${view.run} onClose=${() => setComparing(false)} />`}
  </div>`;
}

// All runs, newest first: found with the words of `milepost runs ls`, kept up to date, two of them compared.
import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { get, query } from "../core/api.js";
import { ago, duration, moment, money, number, short } from "../core/format.js";
import { bind } from "../core/keyboard.js";
import { changed } from "../core/live.js";
import { go, refine, route } from "../core/router.js";
import { style, useEvery, useSettled } from "../core/state.js";
import { learn, say } from "../core/words.js";
import { Badge, Dialog, Empty, Icon, Loading, Rows, Trouble } from "../parts/basic.js";
import { Outcome } from "./run/outcome.js";
import { withWord, wordsOf } from "./runs/query.js";

style("/pages/runs.css");

learn({
  "runs: title": ["Runs", "运行"],
  "runs: search": ["Search runs", "搜索运行"],
  "runs: hint": ["Words in a task or an answer, or agent:ops status:failed since:7d", "任务或答案中的文字，或 agent:ops status:failed since:7d"],
  "runs: how": ["How to search", "搜索语法"],
  "runs: none": ["No run yet", "还没有运行"],
  "runs: none how": ["Ask something in a chat, or at a terminal:", "在对话中提问，或在终端运行："],
  "runs: no match": ["No run matches", "没有符合条件的运行"],
  "runs: clear": ["Clear the search", "清除搜索"],
  "runs: diff": ["Compare two", "比较两个运行"],
  "runs: picked": ["{n} of 2 chosen", "已选 {n}/2"],
  "runs: pick": ["Choose to compare: {task}", "选择比较：{task}"],
  "runs: next": ["Next run", "下一个运行"],
  "runs: previous": ["Previous run", "上一个运行"],
  "runs: open": ["Open the run", "打开运行"],
  "runs: find": ["Search", "搜索"],
  "runs: choose": ["Choose it to compare", "选中以比较"],
  "runs: all": ["all", "全部"],
  "runs: today": ["today", "今天"],
  "runs: forks": ["forks", "分叉"],
  "runs: fork": ["fork", "分叉"],
  "runs: in run": ["asked by another run", "由另一运行发起"],
  "runs: erased": ["erased", "已抹除"],
  "runs: tokens": ["{n} tokens", "{n} 词元"],
  "runs: loading more": ["Loading more…", "正在加载更多…"],
  "runs: help each": ["Each word NAME:VALUE is a filter; other words are looked for in tasks and answers. Quotes hold words together.", "每个“名称:值”是一个筛选条件；其他文字在任务和答案中查找。引号把几个词连在一起。"],
});

const PAGE = 60, HEIGHT = 58;
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const NARROW = matchMedia("(max-width: 760px)");
const CHIPS = [
  ["status", "open,waiting"], ["status", "waiting"], ["status", "completed"], ["status", "failed"], ["status", "cancelled"], ["since", "today"], ["forks", "yes"],
];
const EXAMPLES = ["status:failed since:7d", "tool:RenewInstance text:续费", "agent:ops user:ann since:yesterday until:12:00", "model:default tokens-over:10000", "cost-over:100 status:completed", "fork-of:202611-4c68e3", "deep:yes \"no such instance\""];

// Runs that match, page after page; what changed is read again in place.
function useRuns(q) {
  const [state, setState] = useState({ runs: [], next: null, error: null, loading: true, more: false });
  const latest = useRef(state), turn = useRef(0);
  latest.current = state;
  const ask = (after, limit = PAGE) => get(`/api/runs${query({ q, zone, after, limit })}`);
  const load = async () => {
    const mine = ++turn.current;
    setState((before) => ({ ...before, loading: true }));
    try {
      const found = await ask(null);
      if (mine === turn.current) setState({ ...found, error: null, loading: false, more: false });
    } catch (error) {
      if (mine === turn.current) setState((before) => ({ ...before, error, loading: false }));
    }
  };
  const more = async () => {
    const { next, more: busy } = latest.current;
    if (!next || busy) return;
    const mine = turn.current;
    setState((before) => ({ ...before, more: true }));
    try {
      const found = await ask(next);
      if (mine === turn.current) setState((before) => ({ ...before, runs: [...before.runs, ...found.runs], next: found.next, more: false }));
    } catch (error) {
      if (mine === turn.current) setState((before) => ({ ...before, error, more: false }));
    }
  };
  const refresh = async () => {
    const mine = turn.current, { runs } = latest.current;
    if (latest.current.loading) return;
    const found = await ask(null, Math.min(500, Math.max(PAGE, runs.length))).catch(() => null);
    if (!found || mine !== turn.current) return;
    setState((before) => {
      const last = found.runs.at(-1);
      const rest = found.next && last ? before.runs.filter((each) => each.started < last.started) : [];
      return { ...before, runs: [...found.runs, ...rest], next: rest.length ? before.next : found.next, error: null };
    });
  };
  useEffect(() => {
    load();
  }, [q]);
  const due = useRef(null);
  useEffect(() => changed.subscribe((tick) => {
    if (!tick.runs.length || due.current) return;
    due.current = setTimeout(() => ((due.current = null), refresh()), 400);
  }), [q]);
  useEffect(() => () => clearTimeout(due.current), []);
  return { ...state, load, fetchMore: more };
}

const lasted = (run) => (run.ended ? duration(new Date(run.ended) - new Date(run.started)) : "");

function Row({ run, at, chosen, picked, onPick, narrow }) {
  const facts = [run.tokens ? say("runs: tokens", { n: number(run.tokens) }) : "", money(run.money), run.tools.join(", ")].filter(Boolean);
  return html`<div class=${`run-row ${chosen ? "chosen" : ""}`} role="listitem" style=${{ height: `${HEIGHT}px` }} data-at=${at}>
    ${!narrow && html`<input type="checkbox" checked=${picked} aria-label=${say("runs: pick", { task: run.task.slice(0, 60) })} onChange=${() => onPick(run.run)} />`}
    <${Outcome} status=${run.status} />
    <a class="what" href=${`/runs/${run.run}`} tabindex=${chosen ? 0 : -1}>
      <span class="task cut">${run.erased ? say("runs: erased") : run.task}</span>
      <span class="faint cut num">${short(run.run)} · ${run.agent} · ${run.user}${facts.length ? ` · ${facts.join(" · ")}` : ""}</span>
    </a>
    <span class="marks">${run.fork_of && html`<${Badge} kind="info">${say("runs: fork")}<//>`}${run.parent && html`<${Badge} title=${say("runs: in run")}>↳<//>`}</span>
    <span class="when num"><time datetime=${run.started} title=${moment(run.started)}>${ago(run.started)}</time><span class="faint">${lasted(run)}</span></span>
  </div>`;
}

function Help({ onClose }) {
  return html`<${Dialog} title=${say("runs: how")} onClose=${onClose}>
    <p>${say("runs: help each")}</p>
    <ul class="stack">${EXAMPLES.map((each) => html`<li key=${each}><button class="quiet small mono" onClick=${() => { refine({ q: each }); onClose(); }}>${each}</button></li>`)}</ul>
    <p class="mono soft">agent user status tool model conversation text since until tokens-over cost-over forks fork-of deep</p>
    <p class="hint"><code>milepost runs ls 'status:failed since:7d'</code></p>
  <//>`;
}

export default function Runs() {
  const q = route.value.query.q ?? "";
  const [typed, setTyped] = useState(q), settled = useSettled(typed, 300);
  const [at, setAt] = useState(0), [picked, setPicked] = useState([]), [help, setHelp] = useState(false), [narrow, setNarrow] = useState(NARROW.matches);
  const { runs, next, error, loading, more, load, fetchMore } = useRuns(q);
  const box = useRef(null), list = useRef(null), latest = useRef({});
  latest.current = { runs, at, next };
  useEffect(() => {
    const turned = () => setNarrow(NARROW.matches);
    NARROW.addEventListener("change", turned);
    return () => NARROW.removeEventListener("change", turned);
  }, []);
  useEffect(() => setTyped(q), [q]);
  useEffect(() => {
    if (settled !== q && settled === typed) refine({ q: settled });
  }, [settled]);
  const [, tell] = useState(0);
  useEvery(15_000, () => tell((n) => n + 1)); // "ago" goes on
  const pick = (run) => setPicked((before) => (before.includes(run) ? before.filter((each) => each !== run) : [...before, run].slice(-2)));
  const walk = (step) => {
    const { runs: all, at: now } = latest.current, to = Math.max(0, Math.min(all.length - 1, now + step));
    setAt(to);
    const rows = list.current?.querySelector(".rows");
    if (!rows) return;
    if (to * HEIGHT < rows.scrollTop) rows.scrollTop = to * HEIGHT;
    else if ((to + 1) * HEIGHT > rows.scrollTop + rows.clientHeight) rows.scrollTop = (to + 1) * HEIGHT - rows.clientHeight;
  };
  useEffect(() => {
    const bound = [
      bind("j", () => say("runs: next"), () => walk(1)), bind("k", () => say("runs: previous"), () => walk(-1)),
      bind("Enter", () => say("runs: open"), (event) => {
        if (event.target.closest?.("a, button")) return event.target.closest("a, button").click();
        const run = latest.current.runs[latest.current.at];
        if (run) go(`/runs/${run.run}`);
      }),
      bind("x", () => say("runs: choose"), () => latest.current.runs[latest.current.at] && pick(latest.current.runs[latest.current.at].run)),
      bind("/", () => say("runs: find"), () => box.current?.focus()),
    ];
    return () => bound.forEach((unbind) => unbind());
  }, []);
  const words = useMemo(() => wordsOf(q), [q]);
  const scrolled = () => {
    const rows = list.current?.querySelector(".rows");
    if (rows && rows.scrollTop + rows.clientHeight > rows.scrollHeight - 600) fetchMore();
  };
  return html`<div class="page runs-page">
    <header><h1>${say("runs: title")}</h1>
      <div class="row">
        ${picked.length > 0 && html`<span class="faint">${say("runs: picked", { n: picked.length })}</span>`}
        ${!narrow && html`<button class="small" disabled=${picked.length < 2} onClick=${() => go(`/runs/diff${query({ a: picked[0], b: picked[1] })}`)}>${say("runs: diff")}</button>`}
      </div>
    </header>
    <div class="row"><div class="search grow"><${Icon} name="search" />
      <input ref=${box} type="search" value=${typed} placeholder=${say("runs: hint")} aria-label=${say("runs: search")} spellcheck="false"
        onInput=${(event) => setTyped(event.currentTarget.value)} onKeyDown=${(event) => event.key === "Enter" && refine({ q: typed })} /></div>
      <button class="icon-only" aria-label=${say("runs: how")} title=${say("runs: how")} onClick=${() => setHelp(true)}>?</button></div>
    <div class="row chips">${CHIPS.map(([name, value]) => {
      const on = words[name] === value;
      const label = name === "status" ? value.split(",").map((each) => say(`outcome: ${each}`)).join(" / ") : say(name === "forks" ? "runs: forks" : `runs: ${value}`);
      return html`<button key=${name + value} class="small" aria-pressed=${on} onClick=${() => refine({ q: withWord(q, name, on ? null : value) })}>${label}</button>`;
    })}</div>
    <${Trouble} error=${error} again=${load} />
    ${loading && !runs.length && !error && html`<${Loading} />`}
    ${!loading && !error && !runs.length && (q
      ? html`<${Empty} title=${say("runs: no match")}><button onClick=${() => refine({ q: "" })}>${say("runs: clear")}</button><//>`
      : html`<${Empty} title=${say("runs: none")}><p>${say("runs: none how")} <code>milepost ask "What time is it?"</code></p><p><a href="/">${say("nav.chat")}</a></p><//>`)}
    ${runs.length > 0 && html`<div class="run-list" ref=${list} onScrollCapture=${scrolled} aria-busy=${loading}>
      <${Rows} items=${runs} height=${HEIGHT} label=${say("runs: title")} row=${(run, index) => html`<${Row} key=${run.run} run=${run} at=${index} narrow=${narrow}
        chosen=${index === at} picked=${picked.includes(run.run)} onPick=${pick} />`} />
      ${more && html`<p class="faint more">${say("runs: loading more")}</p>`}
    </div>`}
    ${help && html`<${Help} onClose=${() => setHelp(false)} />`}
  </div>`;
}

// What waits for a person, over all runs; and what was decided, by whom and when.
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { bind } from "../core/keyboard.js";
import { changed } from "../core/live.js";
import { refine, route } from "../core/router.js";
import { style, useGet, useSettled } from "../core/state.js";
import { learn, say } from "../core/words.js";
import { ago, moment } from "../core/format.js";
import { ApprovalCard, EffectBadge } from "../parts/approval.js";
import { Badge, Empty, Loading, Tabs, Trouble } from "../parts/basic.js";
import { QuestionCard } from "./chat/question.js";

style("/pages/approvals.css");

learn({
  "queue: title": ["Approvals", "审批"],
  "queue: waiting": ["Waiting", "等待中"],
  "queue: decided": ["Decided", "已处理"],
  "queue: which": ["Which approvals", "筛选审批"],
  "queue: empty": ["Nothing waits for you.", "没有等待处理的审批。"],
  "queue: empty how": ["When an agent wants to change something, it plans the change, and the card of it stands here until somebody answers or it expires.",
    "智能体要修改资源时，会先给出计划；审批卡会显示在这里，直到有人处理或过期。"],
  "queue: empty try": ["Try it: ask for a change in chat, such as renewing an instance.", "可以在对话中提出一个修改请求试试，例如续费实例。"],
  "queue: to chat": ["To chat", "去对话"],
  "queue: none decided": ["Nothing was decided yet.", "还没有已处理的审批。"],
  "queue: more": ["Older runs were not looked at.", "更早的运行未列出。"],
  "queue: approve": ["Approve the chosen card", "批准所选卡片"],
  "queue: refuse": ["Refuse the chosen card", "拒绝所选卡片"],
  "queue: next": ["Next card", "下一张卡片"],
  "queue: previous": ["Previous card", "上一张卡片"],
  "queue: keys": ["a approves, r refuses, j and k choose a card.", "按 a 批准，按 r 拒绝，按 j 和 k 选择卡片。"],
  "queue: is.approved": ["approved", "已批准"],
  "queue: is.refused": ["refused", "已拒绝"],
  "queue: is.answered": ["answered", "已回答"],
  "queue: is.declined": ["declined", "未回答"],
  "queue: far.conversation": ["for the conversation", "对本次对话有效"],
  "queue: far.always": ["always", "始终有效"],
});

const KIND = { approved: "good", answered: "good", refused: "bad", declined: "" };
const keyOf = (asked) => `${asked.run} ${asked.id}`;

function Waiting({ data, again }) {
  const cards = [...data.approvals, ...data.questions].sort((a, b) => a.expires.localeCompare(b.expires));
  const at = useRef(null), [steps, setSteps] = useState({}), [done, setDone] = useState(new Set());
  const shown = cards.filter((each) => !done.has(keyOf(each)));
  const chosen = () => document.activeElement?.closest?.("[data-card]") ?? at.current?.querySelector("[data-card]");
  const open = (step) => {
    const card = chosen();
    const asked = shown.find((each) => keyOf(each) === card?.dataset.card);
    if (asked?.may && asked.scopes) setSteps({ ...steps, [keyOf(asked)]: step });
  };
  const move = (by) => {
    const all = [...(at.current?.querySelectorAll("[data-card]") ?? [])];
    const now = all.indexOf(document.activeElement?.closest?.("[data-card]"));
    all[Math.max(0, Math.min(all.length - 1, now + by))]?.focus();
  };
  const latest = useRef(null);
  latest.current = { open, move };
  useEffect(() => {
    const bound = [
      bind("a", () => say("queue: approve"), () => latest.current.open("approve")),
      bind("r", () => say("queue: refuse"), () => latest.current.open("refuse")),
      bind("j", () => say("queue: next"), () => latest.current.move(1)),
      bind("k", () => say("queue: previous"), () => latest.current.move(-1)),
    ];
    return () => bound.forEach((unbind) => unbind());
  }, []);
  const decided = (asked) => {
    setDone(new Set([...done, keyOf(asked)]));
    again();
    setTimeout(() => latest.current.move(0));
  };
  if (!shown.length) return html`<${Empty} title=${say("queue: empty")}><p>${say("queue: empty how")}</p><p>${say("queue: empty try")} <a href="/">${say("queue: to chat")}</a></p><//>`;
  return html`<p class="hint keys">${say("queue: keys")}</p>
    <ul class="queue" ref=${at}>${shown.map((each) => html`<li key=${keyOf(each)} data-card=${keyOf(each)} tabindex="0">
      ${"scopes" in each ? html`<${ApprovalCard} approval=${each} context onDecided=${() => decided(each)} start=${steps[keyOf(each)]} onStep=${(step) => setSteps({ ...steps, [keyOf(each)]: step })} />`
        : html`<${QuestionCard} question=${each} context onAnswered=${() => decided(each)} />`}</li>`)}</ul>
    ${data.more && html`<p class="hint">${say("queue: more")}</p>`}`;
}

function Trail({ data }) {
  const all = [...data.approvals, ...data.questions].sort((a, b) => b.at.localeCompare(a.at));
  if (!all.length) return html`<${Empty} title=${say("queue: none decided")}><p>${say("queue: empty how")}</p><//>`;
  return html`<ul class="trail">${all.map((each) => html`<li key=${keyOf(each)}><details>
    <summary><${Badge} kind=${KIND[each.state]}>${say(`queue: is.${each.state}`)}<//><span class="mono">${each.tool}</span><span class="grow cut soft">${each.preview?.summary ?? each.text ?? each.task}</span>
      <${EffectBadge} effect=${each.effect} /><span class="soft">${each.by}${each.scope && each.scope !== "once" ? ` · ${say(`queue: far.${each.scope}`)}` : ""}</span><time class="faint num" datetime=${each.at} title=${moment(each.at)}>${ago(each.at)}</time></summary>
    ${"scopes" in each ? html`<${ApprovalCard} approval=${each} context />` : html`<${QuestionCard} question=${each} context />`}
  </details></li>`)}</ul>${data.more && html`<p class="hint">${say("queue: more")}</p>`}`;
}

export default function Approvals() {
  const state = route.value.query.state === "decided" ? "decided" : "waiting";
  const { data, error, loading, again } = useGet(`/api/approvals?state=${state}`);
  const tick = changed.value.at, settled = useSettled(tick, 800); // the index comes a moment after the log
  const [of, setOf] = useState(null);
  useEffect(() => {
    again();
  }, [tick, settled]);
  useEffect(() => setOf(data ? state : null), [data]);
  return html`<div class="page">
    <header><h1>${say("queue: title")}</h1></header>
    <${Tabs} label=${say("queue: which")} tabs=${[["waiting", say("queue: waiting")], ["decided", say("queue: decided")]]} chosen=${state} onChoose=${(next) => refine({ state: next === "waiting" ? undefined : next })} />
    <${Trouble} error=${error} again=${again} />
    ${!data || of !== state ? loading && html`<${Loading} />` : state === "waiting" ? html`<${Waiting} data=${data} again=${again} />` : html`<${Trail} data=${data} />`}
  </div>`;
}

// A planned write that waits for a person, or that was decided: what would happen, what is doubtful about it, and the answer.
import { html, useEffect, useState } from "../vendor/preact.js";
import { post } from "../core/api.js";
import { ago, clock, duration, moment, short } from "../core/format.js";
import { style, useWork } from "../core/state.js";
import { language, learn, say } from "../core/words.js";
import { Badge, Field, Icon, Trouble } from "./basic.js";
import { Json } from "./json.js";

style("/pages/approvals.css");

learn({
  "approval: may {tool}?": ["May {tool} do this?", "允许 {tool} 执行吗？"],
  "approval: effect.read": ["reads", "只读"],
  "approval: effect.write": ["changes something", "会修改"],
  "approval: effect.destructive": ["destroys something", "会破坏"],
  "approval: doubt.ungrounded": ["a value nobody named", "有人未提供的值"],
  "approval: doubt.repeated": ["done before", "以前做过"],
  "approval: doubt.destructive": ["destructive", "破坏性操作"],
  "approval: price": ["price", "价格"],
  "approval: arguments": ["arguments", "参数"],
  "approval: no arguments": ["none", "无"],
  "approval: nobody named": ["nobody named this", "没有人提供过该值"],
  "approval: why asked": ["why you are asked", "为什么问您"],
  "approval: before it": ["done before", "以前做过"],
  "approval: before words": ["{times}×, last at {at}: {text}", "{times} 次，最近一次 {at}：{text}"],
  "approval: once more": ["It would be done once more.", "将会再做一次。"],
  "approval: approvers": ["who may", "谁可以批准"],
  "approval: not by": ["not {user}, who asked", "发起人 {user} 除外"],
  "approval: undo": ["taken back by", "可撤销"],
  "approval: asked by": ["{user} asked {agent}", "{user} 问 {agent}"],
  "approval: expires in": ["expires in {left}", "{left} 后过期"],
  "approval: expired": ["expired", "已过期"],
  "approval: in a fork": ["This is a fork: nothing of it happens.", "这是分支运行：什么都不会真的发生。"],
  "approval: approve": ["Approve", "批准"],
  "approval: approve.sure": ["Yes, approve", "确认批准"],
  "approval: scope.once": ["Just this call", "仅此一次"],
  "approval: scope.conversation": ["{tool} in this conversation", "本次对话中的 {tool}"],
  "approval: scope.always": ["Always, with these arguments", "始终允许（相同参数）"],
  "approval: scope": ["Approve for", "批准范围"],
  "approval: refuse": ["Refuse", "拒绝"],
  "approval: refuse.sure": ["Refuse it", "确认拒绝"],
  "approval: note": ["Why not? The agent reads it.", "为什么拒绝？智能体会看到。"],
  "approval: back": ["Back", "返回"],
  "approval: another person": ["Somebody else must answer this.", "需要由其他人审批。"],
  "approval: is.approved": ["approved", "已批准"],
  "approval: is.refused": ["refused", "已拒绝"],
  "approval: is.expired": ["expired", "已过期"],
  "approval: is.withdrawn": ["withdrawn", "已撤回"],
  "approval: is.waiting": ["waiting", "等待中"],
  "approval: is.answered": ["answered", "已回答"],
  "approval: is.declined": ["declined", "未回答"],
  "approval: far.conversation": ["for the conversation", "对本次对话有效"],
  "approval: far.always": ["always with these arguments", "相同参数始终有效"],
  "approval: view run": ["View run", "查看运行"],
});

// What the policy service says of its reasons, in Chinese; a rule's own words stay as they are.
const REASONS = [
  [/^(.+) changes something, and no rule lets it through$/, "$1 会修改资源，且没有规则放行"],
  [/^(.+) destroys something, and no rule lets it through$/, "$1 会破坏资源，且没有规则放行"],
  [/^(.+): nobody named this$/, "$1：没有人提供过该值"],
  [/^rule (.+)$/, "规则 $1"],
  [/^limit (.+): (.+) of (.+) writes are used$/, "限额 $1：写操作已用 $2 次，上限 $3 次"],
  [/^limit (.+): (.+) of (.+) are used, this costs (.+)$/, "限额 $1：已用 $2，上限 $3，此操作需 $4"],
  [/^limit (.+) counts money, and the price is not known$/, "限额 $1 按金额计算，但价格未知"],
];
export function reason(why) {
  if (language.value !== "zh") return why;
  return why.split("; ").map((each) => {
    const found = REASONS.find(([pattern]) => pattern.test(each));
    return found ? each.replace(...found) : each;
  }).join("；");
}

// The time that is left, told anew each second.
export function Left({ until }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const ms = new Date(until) - now;
  if (ms <= 0) return html`<${Badge} kind="bad">${say("approval: expired")}<//>`;
  return html`<span class=${`left num ${ms < 300_000 ? "soon" : ""}`} title=${moment(until)}>${say("approval: expires in", { left: duration(Math.round(ms / 1000) * 1000) })}</span>`;
}

export const EffectBadge = ({ effect }) => effect ? html`<${Badge} kind=${{ write: "warn", destructive: "bad" }[effect] ?? ""}>${say(`approval: effect.${effect}`)}<//>` : null;

function Change({ text }) {
  const [old, arrow, now] = [text.split(" -> ")[0], text.includes(" -> "), text.split(" -> ").slice(1).join(" -> ")];
  return arrow ? html`<span class="faint">${old} → </span><strong class="now">${now}</strong>` : text;
}

const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const unnamed = (name, names) => names.filter((each) => each === name || each.startsWith(`${name}.`) || each.startsWith(`${name}[`));

function Arguments({ approval }) {
  const entries = Object.entries(approval.arguments);
  if (!entries.length) return html`<span class="faint">${say("approval: no arguments")}</span>`;
  return html`<ul class="arguments">${entries.map(([name, value]) => {
    const doubted = unnamed(name, approval.ungrounded);
    const text = plain(value);
    return html`<li key=${name}><span class="mono soft">${name}</span> ${text.length <= 400 ? html`<span class="mono value">${text}</span>` : html`<${Json} value=${value} open=${false} />`}
      ${doubted.length > 0 && html` <${Badge} kind="bad">${doubted.some((each) => each !== name) ? `${doubted.join(", ")}: ` : ""}${say("approval: nobody named")}<//>`}</li>`;
  })}</ul>`;
}

// What was decided, by whom and when: one line.
export function Verdict({ asked }) {
  const kind = { approved: "good", answered: "good", refused: "bad", expired: "warn", withdrawn: "", declined: "" }[asked.state];
  return html`<p class="verdict row"><${Badge} kind=${kind}>${say(`approval: is.${asked.state}`)}<//>
    <span class="soft">${asked.by}${asked.scope && asked.scope !== "once" ? ` · ${say(`approval: far.${asked.scope}`)}` : ""}${asked.reason ? ` · “${asked.reason}”` : ""}</span>
    ${asked.at && html`<time class="faint" datetime=${asked.at} title=${moment(asked.at)}>${ago(asked.at)}</time>`}</p>`;
}

// decide(decision, scope, reason): what the buttons do. start: "approve" or "refuse" opens that step (keys of a page).
function Answer({ approval, onDecided, start, onStep }) {
  const doubtful = approval.doubts.length > 0;
  const [step, setStep] = useState(null);
  const [scope, setScope] = useState("once");
  const [note, setNote] = useState("");
  useEffect(() => {
    if (start) setStep(start);
  }, [start]);
  const go = (next) => {
    setStep(next);
    onStep?.(next);
  };
  const [decide, { busy, error }] = useWork(async (decision, reach) => {
    const decided = await post(`/api/approvals/${approval.run}/${approval.id}`, { decision, scope: reach ?? scope, reason: decision === "refuse" ? note.trim() : "" });
    onDecided?.(decided);
  });
  const submit = (event) => {
    event.preventDefault();
    decide(step === "refuse" ? "refuse" : "approve");
  };
  const first = (element) => element && !element.dataset.met && ((element.dataset.met = "1"), element.focus());
  return html`<div class="answer">
    ${step === null && html`<div class="row">
      <button class="primary" disabled=${busy} onClick=${() => (doubtful ? go("approve") : decide("approve", "once"))}>${say("approval: approve")}</button>
      <button disabled=${busy} onClick=${() => go("refuse")}>${say("approval: refuse")}…</button>
      ${approval.scopes.length > 1 && html`<button class="quiet" disabled=${busy} onClick=${() => go("approve")}>${say("approval: scope")}…</button>`}
    </div>`}
    ${step === "approve" && html`<form class="stack" onSubmit=${submit}>
      ${approval.scopes.length > 1 && html`<fieldset><legend>${say("approval: scope")}</legend>${approval.scopes.map((each) => html`<label key=${each}>
        <input type="radio" name="scope" value=${each} checked=${scope === each} onChange=${() => setScope(each)} /> ${say(`approval: scope.${each}`, { tool: approval.tool })}</label>`)}</fieldset>`}
      <div class="row"><button ref=${first} class=${approval.effect === "destructive" ? "danger" : "primary"} disabled=${busy}>${say("approval: approve.sure")}</button>
        <button type="button" class="quiet" onClick=${() => go(null)}>${say("approval: back")}</button></div>
    </form>`}
    ${step === "refuse" && html`<form class="stack" onSubmit=${submit}>
      <${Field} label=${say("approval: note")}>${(id) => html`<input id=${id} ref=${first} maxlength="2000" value=${note} onInput=${(event) => setNote(event.target.value)} />`}<//>
      <div class="row"><button class="danger" disabled=${busy}>${say("approval: refuse.sure")}</button>
        <button type="button" class="quiet" onClick=${() => go(null)}>${say("approval: back")}</button></div>
    </form>`}
    <${Trouble} error=${error} />
  </div>`;
}

// approval: as GET /api/approvals gives it. context: whether to say whose run it is. children: below it.
export function ApprovalCard({ approval, onDecided, context = false, start, onStep }) {
  const { preview, before, tool, title } = approval;
  const name = title && title !== tool ? `${title} (${tool})` : tool;
  const waits = approval.state === "waiting";
  const doubtful = approval.doubts.length > 0;
  return html`<article class=${`approval card ${waits ? "waits" : ""} ${doubtful ? "doubtful" : ""}`} aria-label=${say("approval: may {tool}?", { tool: name })} data-testid="approval">
    <header class="row apart">
      <div class="row"><h3>${waits ? say("approval: may {tool}?", { tool: name }) : name}</h3><${EffectBadge} effect=${approval.effect} />
        ${approval.doubts.filter((each) => each !== "destructive").map((each) => html`<${Badge} key=${each} kind="bad">${say(`approval: doubt.${each}`)}<//>`)}</div>
      ${waits && html`<${Left} until=${approval.expires} />`}
    </header>
    ${approval.fork && html`<p class="soft">${say("approval: in a fork")}</p>`}
    ${preview && html`<p class="summary">${preview.summary}</p>`}
    <dl>
      ${(preview?.rows ?? []).map(([label, text]) => html`<div key=${label}><dt>${label}</dt><dd><${Change} text=${text} /></dd></div>`)}
      ${preview?.price && !preview.rows.some(([label]) => label === "price") && html`<div><dt>${say("approval: price")}</dt><dd><strong>${preview.price} ${preview.currency ?? ""}</strong></dd></div>`}
      <div><dt>${say("approval: arguments")}</dt><dd><${Arguments} approval=${approval} /></dd></div>
      ${before && html`<div class="bad"><dt>${say("approval: before it")}</dt><dd>${say("approval: before words", { times: before.times, at: moment(before.at), text: before.text })} <a href=${`/runs/${before.run}`}>${short(before.run)}</a> <strong>${say("approval: once more")}</strong></dd></div>`}
      ${approval.why && html`<div><dt>${say("approval: why asked")}</dt><dd>${reason(approval.why)}</dd></div>`}
      ${(approval.approvers.length > 0 || approval.not_by) && html`<div><dt>${say("approval: approvers")}</dt><dd>${[...approval.approvers, ...(approval.not_by ? [say("approval: not by", { user: approval.not_by })] : [])].join(", ")}</dd></div>`}
      ${approval.undo && html`<div><dt>${say("approval: undo")}</dt><dd class="mono">${approval.undo}</dd></div>`}
    </dl>
    ${context && html`<${Context} asked=${approval} />`}
    ${waits ? (approval.may ? html`<${Answer} approval=${approval} onDecided=${onDecided} start=${start} onStep=${onStep} />` : html`<p class="soft">${say("approval: another person")}</p>`)
      : html`<${Verdict} asked=${approval} />`}
  </article>`;
}

// Whose run asks, and what for.
export const Context = ({ asked }) => html`<p class="context faint"><span title=${moment(asked.asked)}>${say("approval: asked by", { user: asked.user, agent: asked.agent })}${asked.asked ? ` · ${clock(asked.asked)}` : ""}</span>
  <span class="cut">“${asked.task}”</span> <a href=${`/runs/${asked.run}`}><${Icon} name="runs" />${say("approval: view run")}</a></p>`;

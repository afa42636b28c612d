// A call of a tool, folded: what it is doing, how long, what it gave; the person's answer stands below it.
import { html, useState } from "../../vendor/preact.js";
import { duration } from "../../core/format.js";
import { useEvery } from "../../core/state.js";
import { learn, say } from "../../core/words.js";
import { EffectBadge, ApprovalCard, Verdict } from "../../parts/approval.js";
import { Badge, Icon } from "../../parts/basic.js";
import { Json } from "../../parts/json.js";
import { Piece, isMedia } from "./media.js";
import { QuestionCard } from "./question.js";

learn({
  "call: checking": ["checking", "检查中"],
  "call: waiting": ["waits for a person", "等待人工"],
  "call: running": ["running", "执行中"],
  "call: done": ["done", "完成"],
  "call: failed": ["failed", "失败"],
  "call: not_done": ["not done", "未执行"],
  "call: in_doubt": ["in doubt", "结果不明"],
  "call: stopped": ["stopped", "已停止"],
  "call: repeated": ["done before: this is its receipt", "以前已做过，这是回执"],
  "call: arguments": ["Arguments", "参数"],
  "call: result": ["Result", "结果"],
  "call: as data": ["As data", "数据"],
  "call: cut": ["More of it stands in the run.", "完整内容见运行记录。"],
  "call: asks agent": ["asks an agent", "询问智能体"],
  "call: its run": ["Its run", "它的运行"],
});

const KIND = { done: "good", failed: "bad", not_done: "warn", in_doubt: "bad", waiting: "warn", running: "info", checking: "info", stopped: "" };

function Timer({ since }) {
  const [now, setNow] = useState(Date.now());
  useEvery(500, () => setNow(Date.now()));
  return now - new Date(since) < 1000 ? null : html`<span class="faint num">${duration(Math.round((now - new Date(since)) / 1000) * 1000)}</span>`;
}

export function Call({ call, turn, below, renderTurn }) {
  const busy = ["checking", "running"].includes(call.state);
  const approvals = turn.approvals.filter((each) => each.call === call.id);
  const questions = turn.questions.filter((each) => each.call === call.id);
  const open = [...approvals, ...questions].filter((each) => each.state === "waiting");
  const decided = [...approvals, ...questions].filter((each) => each.state !== "waiting");
  const media = call.pieces.filter((each) => isMedia(each) || each.kind === "table");
  const data = call.pieces.filter((each) => !media.includes(each) && each.content !== null);
  const child = call.run && below.get(call.run);
  return html`<div class="call">
    <details open=${call.state === "failed" || call.state === "in_doubt"}>
      <summary><span class=${`dot ${KIND[call.state]}`} aria-hidden="true">${busy ? html`<span class="spinner"></span>` : null}</span>
        <span class="name mono">${call.tool}</span>${call.title && call.title !== call.tool && html`<span class="faint cut title">${call.title}</span>`}
        <span class="grow"></span>
        ${call.effect !== "read" && !open.length && html`<${EffectBadge} effect=${call.effect} />`}
        <${Badge} kind=${KIND[call.state]}>${say(`call: ${call.state}`)}<//>
        ${call.ended ? html`<span class="faint num">${duration(new Date(call.ended) - new Date(call.began))}</span>` : busy && html`<${Timer} since=${call.began} />`}
        <${Icon} name="down" />
      </summary>
      <div class="inside">
        <h4>${say("call: arguments")}</h4><${Json} value=${call.arguments} />
        ${call.failure && html`<p class="wrong"><strong>${call.failure.what}</strong> ${call.failure.why}</p>`}
        ${call.result && !call.failure && html`<h4>${say("call: result")}</h4>${call.repeated && html`<p class="soft">${say("call: repeated")}</p>`}<pre class="result">${call.result}</pre>`}
        ${call.cut && html`<p class="faint">${say("call: cut")}</p>`}
        ${data.map((each, n) => html`<div key=${n}><h4>${say("call: as data")}</h4><${Json} value=${each.content} open=${false} /></div>`)}
        ${decided.map((each) => html`<${Verdict} key=${each.id} asked=${each} />`)}
        ${call.run && html`<a href=${`/runs/${call.run}`}>${say("call: its run")}</a>`}
      </div>
    </details>
    ${child && !call.ended && html`<div class="child">${renderTurn(child)}</div>`}
    ${media.map((each, n) => html`<${Piece} key=${n} piece=${each} tool=${call.title || call.tool} />`)}
    ${open.map((each) => ("text" in each ? html`<${QuestionCard} key=${each.id} question=${each} />` : html`<${ApprovalCard} key=${each.id} approval=${each} />`))}
  </div>`;
}

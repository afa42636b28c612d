// Two runs side by side: steps aligned by what they say, differences marked, and what each of them took and did.
import { html, useMemo, useState } from "../vendor/preact.js";
import { query } from "../core/api.js";
import { duration, money, number, short } from "../core/format.js";
import { route } from "../core/router.js";
import { style, useGet } from "../core/state.js";
import { language, learn, say } from "../core/words.js";
import { Badge, Empty, Loading, Trouble } from "../parts/basic.js";
import { Outcome } from "./run/outcome.js";

style("/pages/run.css");
style("/pages/diff.css");

learn({
  "diff: title": ["Two runs compared", "比较两个运行"],
  "diff: which": ["Choose two runs in the list, or open a run and press Compare.", "在列表中选择两个运行，或打开一个运行并点击“比较”。"],
  "diff: no runs": ["Two runs are needed", "需要两个运行"],
  "diff: same all": ["Both runs say the same.", "两个运行内容相同。"],
  "diff: ids": ["Ids, moments and references are not compared.", "不比较编号、时间和引用。"],
  "diff: swap": ["Swap", "交换"],
  "diff: all": ["Show what is the same", "显示相同部分"],
  "diff: same": ["same", "相同"],
  "diff: moved": ["moved", "移动"],
  "diff: changed": ["changed", "改动"],
  "diff: removed": ["only here", "仅左侧"],
  "diff: added": ["only here", "仅右侧"],
  "diff: n same": ["{n} steps are the same", "{n} 步相同"],
  "diff: fork": ["The {side} run left the other at event {at}. Changed: {what}", "{side}侧运行在事件 {at} 处离开另一个运行。改动：{what}"],
  "diff: a": ["left", "左"],
  "diff: b": ["right", "右"],
  "diff: unchanged": ["nothing", "无"],
  "diff: totals": ["In all", "合计"],
  "diff: effects": ["Writes", "写操作"],
  "diff: effect.same": ["the same in both", "两者相同"],
  "diff: effect.result": ["another result", "结果不同"],
  "diff: effect.arguments": ["other arguments", "参数不同"],
  "diff: effect.only a": ["only left", "仅左侧"],
  "diff: effect.only b": ["only right", "仅右侧"],
  "diff: no effects": ["Neither of them wrote anything.", "两者都没有写操作。"],
  "diff: outcome": ["outcome", "结局"],
  "diff: events": ["events", "事件"],
  "diff: turns": ["turns", "轮次"],
  "diff: calls": ["calls", "调用"],
  "diff: tokens_in": ["tokens read", "读取词元"],
  "diff: tokens_cached": ["of them cached", "其中缓存"],
  "diff: tokens_out": ["tokens written", "生成词元"],
  "diff: model_ms": ["model time", "模型用时"],
  "diff: waited_s": ["waited for people", "等待人"],
  "diff: wall_s": ["whole time", "总用时"],
  "diff: writes": ["writes", "写操作"],
  "diff: money": ["money", "费用"],
  "diff: more": ["{n} more differences", "另有 {n} 处不同"],
  "diff: cut": ["shortened", "已截断"],
  "diff: answer": ["Answer", "答案"],
});

const SHOWN = { model_ms: duration, waited_s: (s) => duration(s * 1000), wall_s: (s) => (s === null ? "" : duration(s * 1000)), money: (amounts) => money(amounts) || "0" };
const TOTALS = ["events", "turns", "calls", "tokens_in", "tokens_cached", "tokens_out", "model_ms", "waited_s", "wall_s", "writes", "money"];

function Change({ change }) {
  const { path, how, old, new: fresh, words, cut } = change;
  return html`<div class=${`change ${how}`}><p class="path mono faint">${path.replace(/^\//, "") || "/"} ${cut && html`<${Badge}>${say("diff: cut")}<//>`}</p>
    ${words ? html`<div class="pair"><pre class="text">${words.filter(([sign]) => sign !== "+").map(([sign, text], at) => (sign === "-" ? html`<del key=${at}>${text}</del>` : text))}</pre>
        <pre class="text">${words.filter(([sign]) => sign !== "-").map(([sign, text], at) => (sign === "+" ? html`<ins key=${at}>${text}</ins>` : text))}</pre></div>`
    : html`<div class="pair">${how === "added" ? html`<span></span>` : html`<pre class="text"><del>${old}</del></pre>`}${how === "removed" ? html`<span></span>` : html`<pre class="text"><ins>${fresh}</ins></pre>`}</div>`}
  </div>`;
}

function Step({ step, run, how }) {
  if (!step) return html`<div class="step none"></div>`;
  return html`<div class=${`step ${how}`}><p><a class="num" href=${`/runs/${run}?tab=events#${step.n}`}>#${step.n}</a> <strong>${step.type}</strong></p><p class="wrap soft">${step.line}</p></div>`;
}

function Steps({ data, all }) {
  const rows = useMemo(() => {
    const found = [];
    for (const [at, pair] of data.steps.entries()) {
      if (all || (pair.how !== "same" && pair.how !== "moved")) found.push({ pair, at });
      else if (found.at(-1)?.count) found.at(-1).count += 1;
      else found.push({ count: 1, at });
    }
    return found;
  }, [data, all]);
  const shown = rows.slice(0, 2000);
  return html`<ol class="steps">${shown.map(({ pair, at, count }) => (count
    ? html`<li key=${at} class="skipped faint">${say("diff: n same", { n: number(count) })}</li>`
    : html`<li key=${at} class=${`aligned ${pair.how}`}><span class="how"><${Badge} kind=${{ changed: "warn", removed: "bad", added: "good" }[pair.how] ?? ""}>${{ changed: "≠", removed: "−", added: "+", moved: "↕", same: "=" }[pair.how]} ${say(`diff: ${pair.how}`)}<//></span>
        <div class="pair"><${Step} step=${pair.a} run=${data.a.run} how=${pair.how} /><${Step} step=${pair.b} run=${data.b.run} how=${pair.how} /></div>
        ${pair.changes.map((each, n) => html`<${Change} key=${n} change=${each} />`)}${pair.more > 0 && html`<p class="faint">${say("diff: more", { n: pair.more })}</p>`}</li>`))}
    ${rows.length > shown.length && html`<li class="skipped faint">… ${number(rows.length - shown.length)}</li>`}</ol>`;
}

const Side = ({ side }) => html`<div class="card stack tight"><p class="row"><a class="mono" href=${`/runs/${side.run}`}>${short(side.run)}</a><${Outcome} status=${side.outcome} /><span class="faint">${side.agent}</span></p>
  <p class="wrap"><strong>${side.task}</strong></p>${side.answer && html`<p class="wrap answer">${side.answer}</p>`}</div>`;

function Totals({ a, b }) {
  const shown = (name, totals) => (SHOWN[name] ?? number)(totals[name]);
  return html`<div class="table" tabindex="0"><table><thead><tr><th>${say("diff: totals")}</th><th>${short(a.run)}</th><th>${short(b.run)}</th><td></td></tr></thead><tbody>
    ${TOTALS.map((name) => {
      const [left, right] = [a.totals[name], b.totals[name]], plain = typeof left === "number" && typeof right === "number";
      const by = plain && left !== right ? `${right > left ? "+" : "−"}${(SHOWN[name] ?? number)(Math.abs(right - left))}` : "";
      return html`<tr key=${name} class=${JSON.stringify(left) === JSON.stringify(right) ? "faint" : ""}><td>${say(`diff: ${name}`)}</td><td class="num">${shown(name, a.totals)}</td><td class="num">${shown(name, b.totals)}</td><td class="num">${by}</td></tr>`;
    })}</tbody></table></div>`;
}

const Write = ({ write }) => (write ? html`<div><p><strong>${write.tool}</strong> <${Badge}>${write.state}<//></p><p class="mono wrap small">${write.arguments}</p>${write.result && html`<p class="wrap soft">${write.result.slice(0, 400)}</p>`}</div>` : html`<div></div>`);

export default function DiffPage() {
  const { a, b } = route.value.query, [all, setAll] = useState(false);
  const { data, error, loading, again } = useGet(a && b ? `/api/diff${query({ a, b, language: language.value })}` : null);
  if (!a || !b) return html`<div class="page"><header><h1>${say("diff: title")}</h1></header><${Empty} title=${say("diff: no runs")}><p>${say("diff: which")}</p><p><a href="/runs">${say("nav.runs")}</a></p><//></div>`;
  return html`<div class="page run-page diff-page"><header><h1>${say("diff: title")}</h1><div class="row">
      <label class="row"><input type="checkbox" checked=${all} onChange=${() => setAll(!all)} />${say("diff: all")}</label><a class="button small" href=${`/runs/diff${query({ a: b, b: a })}`}>${say("diff: swap")}</a></div></header>
    <${Trouble} error=${error} again=${again} />${loading && !data && html`<${Loading} />`}
    ${data && !error && html`<div class="pair"><${Side} side=${data.a} /><${Side} side=${data.b} /></div>
      ${data.fork && html`<p class="card">${say("diff: fork", { side: say(`diff: ${data.fork.which}`), at: data.fork.at, what: data.fork.changed.join("; ") || say("diff: unchanged") })}</p>`}
      <p class="row">${Object.entries(data.counts).filter(([, n]) => n).map(([how, n]) => html`<${Badge} key=${how} kind=${{ changed: "warn", removed: "bad", added: "good" }[how] ?? ""}>${number(n)} ${how === "removed" ? say("diff: effect.only a") : how === "added" ? say("diff: effect.only b") : say(`diff: ${how}`)}<//>`)}<span class="hint">${data.same ? say("diff: same all") : ""} ${say("diff: ids")}</span></p>
      <${Steps} data=${data} all=${all} />
      <section class="stack"><h2>${say("diff: effects")}</h2>${data.effects.length ? html`<ul class="stack">${data.effects.map((each, at) => html`<li key=${at} class="card stack tight"><p><${Badge} kind=${each.how === "same" ? "good" : "warn"}>${say(`diff: effect.${each.how}`)}<//></p><div class="pair"><${Write} write=${each.a} /><${Write} write=${each.b} /></div></li>`)}</ul>` : html`<p class="faint">${say("diff: no effects")}</p>`}</section>
      <${Totals} a=${data.a} b=${data.b} />`}
  </div>`;
}

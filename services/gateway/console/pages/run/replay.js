// The run again, step by step, with what it had come to beside each step; and whether every decision would be the same today.
import { html, useEffect, useRef, useState } from "../../vendor/preact.js";
import { post, query } from "../../core/api.js";
import { money, number } from "../../core/format.js";
import { useGet, useSettled, useWork } from "../../core/state.js";
import { language, learn, say } from "../../core/words.js";
import { Badge, Loading, Trouble } from "../../parts/basic.js";

learn({
  "replay: step": ["Event {n} of {all}", "第 {n} / {all} 个事件"],
  "replay: at": ["Step through the events", "逐步浏览事件"],
  "replay: play": ["Play", "播放"],
  "replay: pause": ["Pause", "暂停"],
  "replay: check": ["Check every decision", "检查每个决定"],
  "replay: what": ["Makes every decision again from the log alone and compares it with what was recorded. Models and tools are not asked again.", "仅凭日志重新作出每个决定并与记录比较；不会再次询问模型或调用工具。"],
  "replay: same": ["Every decision is the same: {decisions} of them, {answered} with an answer in the log.", "每个决定都相同：共 {decisions} 个，其中 {answered} 个在日志中有答复。"],
  "replay: differs": ["Differs at event {n} ({type}): {why}", "在第 {n} 个事件（{type}）处不同：{why}"],
  "replay: decider": ["decided by version {began} then, {today} now", "当时由版本 {began} 决定，现在为 {today}"],
  "replay: field": ["Field", "字段"],
  "replay: log": ["In the log", "日志中"],
  "replay: now": ["Now", "现在"],
  "replay: made": ["Made by", "来源"],
  "replay: code": ["decided by {code}", "由 {code} 决定"],
  "replay: note.open": ["the log ends before the run does", "日志在运行结束之前中断"],
  "replay: note.clock": ["a clock went back by {detail} s at event {event}", "第 {event} 个事件处时钟倒退了 {detail} 秒"],
  "replay: note.second": ["event {event} answers what was answered before", "第 {event} 个事件答复了已有答复的内容"],
  "replay: phase": ["phase", "阶段"],
  "replay: used": ["used", "已用"],
  "replay: used line": ["{steps} of {most} turns · {calls} calls · {tokens} tokens · {writes} writes", "{steps}/{most} 轮 · {calls} 次调用 · {tokens} 词元 · {writes} 次写"],
  "replay: open": ["Asked, not answered yet", "已提出、尚未答复"],
  "replay: nothing": ["nothing", "无"],
  "replay: answered": ["answered at #{n}", "于 #{n} 答复"],
  "replay: never": ["not answered", "未答复"],
  "replay: fresh": ["decided here", "在此决定"],
  "replay: said": ["Said so far ({n})", "至此的消息（{n}）"],
  "replay: offered": ["Tools offered", "提供的工具"],
  "replay: found": ["Passages found", "找到的段落"],
  "replay: earlier": ["Earlier turns", "先前轮次"],
  "replay: known": ["Known of the user", "关于用户的已知信息"],
});

function Verdict({ found }) {
  if (!found) return null;
  const wrong = found.divergence;
  return html`<div class="stack tight" role="status">
    ${wrong ? html`<p class="row"><${Badge} kind="bad">✕<//>${say("replay: differs", { n: wrong.event, type: wrong.type, why: wrong.why })}</p>
      <p class="faint">${say("replay: decider", { began: wrong.began, today: wrong.today })}${wrong.code && ` · ${say("replay: code", { code: wrong.code })}`}</p>
      ${wrong.fields.length > 0 && html`<div class="table"><table><thead><tr>${["field", "log", "now", "made"].map((each) => html`<th key=${each}>${say(`replay: ${each}`)}</th>`)}</tr></thead>
        <tbody>${wrong.fields.slice(0, 12).map((each) => html`<tr key=${each.path}><td class="mono">${each.path}</td><td class="mono wrap">${JSON.stringify(each.log)?.slice(0, 300)}</td><td class="mono wrap">${JSON.stringify(each.now)?.slice(0, 300)}</td><td class="mono">${each.made_by}</td></tr>`)}</tbody></table></div>`}`
    : html`<p class="row"><${Badge} kind="good">✓<//>${say("replay: same", { decisions: number(found.decisions), answered: number(found.answered) })}</p>`}
    ${found.notes.map((each) => html`<p class="faint" key=${each.kind}>${say(`replay: note.${each.kind}`, each)}</p>`)}
  </div>`;
}

const List = ({ title, children }) => html`<section class="stack tight"><h3>${title}</h3>${children}</section>`;

function State({ data }) {
  const { used } = data;
  return html`<div class="stack state">
    <p class="row"><${Badge} kind="info">${data.phase}<//><span>${data.outcome}</span><span class="faint num">${say("replay: used line", { steps: used.steps, most: used.most_steps ?? "?", calls: used.calls, tokens: number(used.tokens), writes: used.writes })}${money(used.money) && ` · ${money(used.money)}`}</span></p>
    <${List} title=${say("replay: open")}>${data.outstanding.length ? html`<ul class="stack tight">${data.outstanding.map((each) => html`<li key=${each.id} class="row"><${Badge}>${each.role}<//><strong>${each.kind}</strong><span class="mono wrap">${each.line}</span>${each.fresh && html`<${Badge} kind="good">${say("replay: fresh")}<//>`}<span class="faint">${each.answered ? say("replay: answered", { n: each.answered }) : say("replay: never")}</span></li>`)}</ul>` : html`<p class="faint">${say("replay: nothing")}</p>`}<//>
    ${data.tools.length > 0 && html`<${List} title=${say("replay: offered")}><p class="mono wrap">${data.tools.join(", ")}</p><//>`}
    ${data.history.length > 0 && html`<${List} title=${say("replay: earlier")}>${data.history.map((each) => html`<p key=${each.run} class="wrap"><strong>${each.task}</strong> ${each.answer}</p>`)}<//>`}
    ${data.facts.length > 0 && html`<${List} title=${say("replay: known")}>${data.facts.map((each) => html`<p key=${each.key}><strong>${each.key}</strong> ${each.text}</p>`)}<//>`}
    ${data.passages.length > 0 && html`<${List} title=${say("replay: found")}>${data.passages.map((each) => html`<details key=${each.hash}><summary>${each.title} ${each.heading}</summary><p class="wrap">${each.text}</p></details>`)}<//>`}
    <${List} title=${say("replay: said", { n: data.said })}>${data.messages.map((each, at) => html`<div key=${data.said - data.messages.length + at} class=${`told ${each.role}`}><span class="who"><strong>${each.role}</strong> ${each.name}</span><pre class="text">${[each.text, ...each.calls.map((call) => `→ ${call}`)].filter(Boolean).join("\n")}</pre></div>`)}<//>
  </div>`;
}

export function Replay({ view, selected, select, byNumber }) {
  const at = Math.max(1, Math.min(view.count, selected ?? 1)), line = byNumber.get(at);
  const [playing, setPlaying] = useState(false), asked = useSettled(at, 60), latest = useRef(at);
  latest.current = at;
  const { data, error } = useGet(view.erased ? null : `/api/runs/${view.run}/at/${asked}${query({ language: language.value })}`);
  const [check, checking] = useWork(async () => post(`/api/runs/${view.run}/replay`)), [verdict, setVerdict] = useState(null);
  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(() => (latest.current < view.count ? select(latest.current + 1) : setPlaying(false)), 700);
    return () => clearInterval(timer);
  }, [playing, view.count]);
  const step = (to) => { setPlaying(false); select(Math.max(1, Math.min(view.count, to))); };
  return html`<div class="stack">
    <div class="card stack tight"><div class="row"><button disabled=${checking.busy} onClick=${async () => setVerdict(await check())}>${say("replay: check")}</button><span class="hint grow">${say("replay: what")}</span></div>
      ${checking.busy && html`<${Loading} />`}<${Trouble} error=${checking.error} /><${Verdict} found=${verdict} /></div>
    <div class="card stack tight player"><div class="row">
        <button class="icon-only" aria-label="#1" onClick=${() => step(1)}>|◀</button><button class="icon-only" aria-label=${say("event: previous")} onClick=${() => step(at - 1)}>◀</button>
        <button class="primary" onClick=${() => { if (!playing && at >= view.count) select(1); setPlaying(!playing); }}>${say(playing ? "replay: pause" : "replay: play")}</button>
        <button class="icon-only" aria-label=${say("event: next")} onClick=${() => step(at + 1)}>▶</button>
        <input class="grow" type="range" min="1" max=${view.count} value=${at} aria-label=${say("replay: at")} onInput=${(event) => step(Number(event.currentTarget.value))} />
        <span class="num">${say("replay: step", { n: number(at), all: number(view.count) })}</span></div>
      ${line && html`<p class="wrap"><strong>${line.type}</strong> <span class="faint">${line.role}</span> ${line.line}</p>`}</div>
    <${Trouble} error=${error} />${data ? html`<div class="card"><${State} data=${data} /></div>` : !error && html`<${Loading} />`}
  </div>`;
}

// What a model was shown at one of its turns: every message and tool with its share of the prompt, and what was left out.
import { html, useMemo, useState } from "../../vendor/preact.js";
import { duration, number } from "../../core/format.js";
import { useGet } from "../../core/state.js";
import { learn, say } from "../../core/words.js";
import { Badge, Copy, Empty, Loading, Trouble } from "../../parts/basic.js";
import { Json } from "../../parts/json.js";

learn({
  "prompt: turn": ["Turn of the model", "模型的轮次"],
  "prompt: none": ["No model was asked in this run", "此运行没有询问过模型"],
  "prompt: none how": ["It ended before, or has not come so far yet.", "它在此之前已结束，或尚未进行到这一步。"],
  "prompt: same": ["as it was asked", "与当时相同"],
  "prompt: same how": ["The prompt was made again from the log; its hash is the one that was recorded.", "提示词由日志重新生成，其哈希与记录一致。"],
  "prompt: differs": ["not as it was asked", "与当时不同"],
  "prompt: tokens": ["{n} tokens read, {cached} of them cached, {out} written", "读取 {n} 词元（{cached} 来自缓存），生成 {out}"],
  "prompt: estimated": ["Counts of messages and tools are estimates: the tokens that the model counted, shared out by characters.", "各消息与工具的数值为估计：模型统计的总词元按字符数分摊。"],
  "prompt: uncounted": ["The model counted no tokens; bars show characters.", "模型没有统计词元；条形表示字符数。"],
  "prompt: cut": ["Did not fit, and was left out: {what}", "放不下而省略：{what}"],
  "prompt: tools": ["Tools offered ({n})", "提供的工具（{n}）"],
  "prompt: messages": ["Messages ({n})", "消息（{n}）"],
  "prompt: offers": ["offers {names}", "提供 {names}"],
  "prompt: reply": ["What it said", "模型的回复"],
  "prompt: waiting": ["It has not answered yet.", "尚未回复。"],
  "prompt: took": ["first token after {first}, all of it after {all}", "首个词元 {first}，全部 {all}"],
  "prompt: settings": ["How it was to speak", "生成设置"],
  "prompt: whole": ["Show all", "显示全部"],
  "prompt: less": ["Show less", "收起"],
});

const LONG = 900;

function Text({ text }) {
  const [whole, setWhole] = useState(false), long = text.length > LONG;
  return html`<pre class="text">${long && !whole ? `${text.slice(0, LONG)}…` : text}</pre>${long && html`<button class="quiet small" onClick=${() => setWhole(!whole)}>${say(whole ? "prompt: less" : "prompt: whole")}</button>`}`;
}

const Bar = ({ share, words }) => html`<span class="share" title=${words}><i style=${{ width: `${Math.max(1, share * 100)}%` }}></i><span class="num">${words}</span></span>`;

function Shown({ data }) {
  const size = (each) => each.tokens ?? each.characters;
  const most = Math.max(1, ...data.messages.map(size), ...data.tools.map(size)), counted = data.usage?.prompt_tokens > 0;
  const bar = (each) => html`<${Bar} share=${size(each) / most} words=${each.tokens === null ? number(each.characters) : `≈ ${number(each.tokens)}`} />`;
  return html`<div class="stack">
    <p class="row">${data.same ? html`<${Badge} kind="good" title=${say("prompt: same how")}>✓ ${say("prompt: same")}<//>` : html`<${Badge} kind="bad">${say("prompt: differs")}<//>`}
      <span class="mono">${data.model}</span>${data.usage && html`<span class="num">${say("prompt: tokens", { n: number(data.usage.prompt_tokens), cached: number(data.usage.cached_tokens), out: number(data.usage.completion_tokens) })}</span>`}
      ${data.total_ms > 0 && html`<span class="faint">${say("prompt: took", { first: duration(data.first_token_ms), all: duration(data.total_ms) })}</span>`}</p>
    <p class="hint">${say(counted ? "prompt: estimated" : "prompt: uncounted")}</p>
    ${data.left_out.length > 0 && html`<p class="card waits">${say("prompt: cut", { what: data.left_out.join(", ") })}</p>`}
    ${data.tools.length > 0 && html`<details class="card" open=${data.tools.length < 4}><summary>${say("prompt: tools", { n: data.tools.length })}</summary>
      <ul class="stack tight">${data.tools.map((each) => html`<li key=${each.card.name} class="told"><span class="who mono">${each.card.name}</span>${bar(each)}<span class="soft wrap">${each.card.description}</span></li>`)}</ul></details>`}
    <section class="stack tight"><h2>${say("prompt: messages", { n: data.messages.length })}</h2>
      ${data.messages.map((each, at) => html`<article key=${at} class=${`told card ${each.role}`}><span class="who"><strong>${each.role}</strong> ${each.name && html`<span class="mono">${each.name}</span>`} ${each.part && html`<${Badge}>${each.part}<//>`}</span>${bar(each)}
        ${each.text && html`<${Text} text=${each.text} />`}${each.calls.map((call) => html`<pre class="text call" key=${call}>→ ${call}</pre>`)}
        ${each.offers.length > 0 && html`<p class="faint">${say("prompt: offers", { names: each.offers.join(", ") })}</p>`}</article>`)}</section>
    <section class="card stack tight"><h2>${say("prompt: reply")}</h2>${data.n === null ? html`<p class="faint">${say("prompt: waiting")}</p>` : html`${data.reply && html`<${Text} text=${data.reply} />`}${data.calls.map((call) => html`<pre class="text call" key=${call}>→ ${call}</pre>`)}`}</section>
    <details class="card"><summary>${say("prompt: settings")}</summary><${Json} value=${{ sampling: data.sampling, manner: data.manner }} /><${Copy} text=${JSON.stringify(data, null, 2)} label="JSON" /></details>
  </div>`;
}

export function Prompts({ view, selected, select }) {
  const turns = useMemo(() => view.events.filter((each) => each.type === "Generated").map((each) => each.n), [view.events]);
  const wanted = selected && turns.includes(selected) ? selected : [...turns].reverse().find((n) => selected && n <= selected) ?? turns[0];
  const { data, error, loading, again } = useGet(wanted && !view.erased ? `/api/runs/${view.run}/events/${wanted}/prompt` : null);
  if (!turns.length || view.erased) return html`<${Empty} title=${say("prompt: none")}>${say("prompt: none how")}<//>`;
  const at = turns.indexOf(wanted);
  return html`<div class="stack"><div class="row"><label class="row">${say("prompt: turn")} <select class="narrow" value=${wanted} onChange=${(event) => select(Number(event.currentTarget.value))}>${turns.map((n, turn) => html`<option key=${n} value=${n}>${turn + 1} · #${n}</option>`)}</select></label>
      <button class="small" disabled=${at <= 0} onClick=${() => select(turns[at - 1])}>←</button><button class="small" disabled=${at >= turns.length - 1} onClick=${() => select(turns[at + 1])}>→</button></div>
    <${Trouble} error=${error} again=${again} />${loading && (!data || data.n !== wanted) ? html`<${Loading} />` : data && !error && html`<${Shown} key=${wanted} data=${data} />`}</div>`;
}

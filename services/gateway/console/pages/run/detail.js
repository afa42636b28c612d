// One event in full, beside whatever lists it.
import { html, useState } from "../../vendor/preact.js";
import { query } from "../../core/api.js";
import { bytes, clock, duration, moment } from "../../core/format.js";
import { may } from "../../core/session.js";
import { useGet } from "../../core/state.js";
import { language, learn, say } from "../../core/words.js";
import { Badge, Copy, Icon, Loading, Trouble } from "../../parts/basic.js";
import { Json } from "../../parts/json.js";

learn({
  "event: none": ["Choose an event to see all of it.", "选择一个事件以查看全部内容。"],
  "event: when": ["when", "时间"],
  "event: who": ["who", "来源"],
  "event: causes": ["caused by", "起因"],
  "event: effects": ["led to", "引发"],
  "event: took": ["took", "用时"],
  "event: stored": ["stored", "存储"],
  "event: slot": ["slot", "位置"],
  "event: leaf": ["leaf", "叶哈希"],
  "event: sealed": ["stored sealed", "加密存储"],
  "event: clear": ["stored in the clear", "明文存储"],
  "event: gone": ["Its content was erased.", "内容已被抹除。"],
  "event: link": ["Copy link", "复制链接"],
  "event: json": ["Copy JSON", "复制 JSON"],
  "event: fork": ["Fork here", "从此处分叉"],
  "event: prompt": ["Prompt", "提示词"],
  "event: state": ["State after it", "其后状态"],
  "event: copied": ["from the log of the run that it left", "取自它所离开的运行的日志"],
  "event: changed": ["changed in the fork", "在分叉中被改动"],
  "event: more": ["How it is stored", "存储细节"],
  "event: next": ["Next event", "下一个事件"],
  "event: previous": ["Previous event", "上一个事件"],
});

const Link = ({ n, select }) => html`<a class="num" href=${`#${n}`} onClick=${(event) => { event.preventDefault(); event.stopPropagation(); select(n); }}>#${n}</a>`;

export function Detail({ view, selected, select, byNumber, onFork }) {
  const line = byNumber.get(selected);
  const { data, error, loading, again } = useGet(line ? `/api/runs/${view.run}/events/${selected}${query({ language: language.value })}` : null);
  const [more, setMore] = useState(false);
  if (!line) return html`<aside class="detail card faint">${say("event: none")}</aside>`;
  const fresh = data && data.n === selected ? data : null;
  return html`<aside class="detail card stack" aria-label=${`#${selected} ${line.type}`}>
    <div class="row apart"><h2><span class="num">#${selected}</span> ${line.type}</h2>
      <div class="row"><button class="quiet icon-only" aria-label=${say("event: previous")} disabled=${selected <= 1} onClick=${() => select(selected - 1)}>↑</button>
        <button class="quiet icon-only" aria-label=${say("event: next")} disabled=${selected >= view.count} onClick=${() => select(selected + 1)}>↓</button></div></div>
    <p class="wrap">${line.line}</p>
    ${line.copied && html`<p><${Badge} kind="info">↺ ${say(line.changed ? "event: changed" : "event: copied")}<//></p>`}
    <dl class="facts"><div><dt>${say("event: when")}</dt><dd><time title=${moment(line.time)}>${clock(line.time)}</time></dd></div>
      ${line.took_ms !== undefined && html`<div><dt>${say("event: took")}</dt><dd>${duration(line.took_ms)}</dd></div>`}
      <div><dt>${say("event: who")}</dt><dd>${line.role} ${fresh && html`<span class="faint wrap">${fresh.source}</span>`}</dd></div>
      ${fresh && fresh.causes.length > 0 && html`<div><dt>${say("event: causes")}</dt><dd class="row">${fresh.causes.map((each) => (each.n ? html`<${Link} key=${each.id} n=${each.n} select=${select} />` : html`<span key=${each.id} class="mono">? ${each.id.slice(0, 8)}</span>`))}</dd></div>`}
      ${fresh && fresh.effects.length > 0 && html`<div><dt>${say("event: effects")}</dt><dd class="row">${fresh.effects.slice(0, 40).map((n) => html`<${Link} key=${n} n=${n} select=${select} />`)}</dd></div>`}
    </dl>
    <div class="row"><${Copy} text=${`${location.origin}/runs/${view.run}#${selected}`} label=${say("event: link")} />
      ${fresh?.data && html`<${Copy} text=${JSON.stringify(fresh.data, null, 2)} label=${say("event: json")} />`}
      ${line.type === "Generated" && html`<a class="button quiet small" href=${`/runs/${view.run}?tab=prompt#${selected}`}>${say("event: prompt")}</a>`}
      <a class="button quiet small" href=${`/runs/${view.run}?tab=replay#${selected}`}>${say("event: state")}</a>
      ${may("ask") && !view.erased && html`<button class="quiet small" onClick=${() => onFork(selected)}><${Icon} name="fork" />${say("event: fork")}</button>`}</div>
    <${Trouble} error=${error} again=${again} />
    ${loading && !fresh && html`<${Loading} />`}
    ${fresh && (fresh.erased ? html`<p class="faint">${say("event: gone")}</p>` : html`<div class="body"><${Json} value=${fresh.data} /></div>`)}
    ${fresh && html`<div><button class="quiet small" aria-expanded=${more} onClick=${() => setMore(!more)}>${say("event: more")}</button>
      ${more && html`<dl class="facts mono small"><div><dt>id</dt><dd>${fresh.id}</dd></div><div><dt>${say("event: slot")}</dt><dd>${fresh.slot}</dd></div>
        <div><dt>${say("event: stored")}</dt><dd>${bytes(fresh.bytes)} · ${say(fresh.sealed ? "event: sealed" : "event: clear")}</dd></div>
        <div><dt>sha256</dt><dd>${fresh.sha256}</dd></div><div><dt>${say("event: leaf")}</dt><dd>${fresh.leaf}</dd></div></dl>`}</div>`}
  </aside>`;
}

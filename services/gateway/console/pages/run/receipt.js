// What proves the run: its receipt, who signed it, what was verified and what that does not say.
import { html } from "../../vendor/preact.js";
import { moment, number, short } from "../../core/format.js";
import { useGet } from "../../core/state.js";
import { language, learn, say } from "../../core/words.js";
import { Badge, Copy, Loading, Trouble } from "../../parts/basic.js";

learn({
  "receipt: proved": ["proved", "已证实"],
  "receipt: unproved": ["not proved", "未证实"],
  "receipt: tampered": ["tampered with", "已被篡改"],
  "receipt: unsealed": ["no receipt yet", "尚无回执"],
  "receipt: sealed": ["receipt {n}", "回执 {n}"],
  "receipt: proved how": ["All {n} events are what the recorder signed when the run ended, and nothing is missing.", "全部 {n} 个事件与运行结束时记录器所签一致，无一缺失。"],
  "receipt: unproved how": ["Nothing was changed as far as one can tell, but nobody who is trusted says so for all of it.", "看不出改动，但没有受信任者为全部内容作证。"],
  "receipt: tampered how": ["Something is not what was signed. Do not rely on this run.", "有内容与所签不符，请勿依赖此运行。"],
  "receipt: decisions": ["Every answer was also held against what was decided.", "每个答复也已与所作的决定核对。"],
  "receipt: bytes only": ["Only the bytes were checked: the content cannot be read here.", "仅检查了字节：此处无法读取内容。"],
  "receipt: not": ["What this does not prove", "未能证明的内容"],
  "receipt: not 1": ["that what models, tools and people said is true: only that they said it, and that nobody changed it since", "模型、工具和人所说为真：只证明他们说过，且此后无人改动"],
  "receipt: not 2": ["anything against whoever holds the recorder's private key: keep a checkpoint of the chain elsewhere", "无法防范持有记录器私钥的人：请在别处保存链的检查点"],
  "receipt: not 3": ["that these are the right keys: this page trusts those of this machine; compare them with ones you got another way", "密钥本身正确：本页信任本机的密钥；请与从其他途径得到的密钥比对"],
  "receipt: root": ["Merkle root", "默克尔根"],
  "receipt: chain": ["number in the chain", "链中编号"],
  "receipt: previous": ["receipt before it", "前一份回执"],
  "receipt: key": ["signed with", "签名密钥"],
  "receipt: at": ["signed at", "签名时间"],
  "receipt: events": ["counts", "计入"],
  "receipt: outcome": ["outcome", "结局"],
  "receipt: part": ["Receipt, part {n}", "回执，第 {n} 部分"],
  "receipt: unanswered": ["Commands without an answer", "没有答复的命令"],
  "receipt: offline": ["Verify it yourself, without this machine", "离线自行验证"],
  "receipt: offline how": ["Download the run, take the public keys from somebody you trust, and run:", "下载运行，从可信的人处取得公钥，然后执行："],
  "receipt: findings": ["What was found", "发现"],
  "receipt: event": ["event {n}", "事件 {n}"],
  "receipt: keys": ["Trusted keys", "受信任的密钥"],
  "receipt: again": ["Verify again", "重新验证"],
  "receipt: absent": ["{n} payloads are not at hand.", "缺少 {n} 个附件。"],
});

const LOOK = { proved: "good", unproved: "warn", tampered: "bad" };

export function VerifyBadge({ view, onOpen }) {
  const { data } = useGet(view.ended && view.count <= 2000 ? `/api/runs/${view.run}/verify?n=${view.summary?.receipt ?? 0}` : null);
  const number_ = view.summary?.receipt;
  if (!view.ended) return null;
  const words = data ? say(`receipt: ${data.verdict}`) : number_ ? say("receipt: sealed", { n: number_ }) : say("receipt: unsealed");
  return html`<button class=${`badge as-button ${data ? LOOK[data.verdict] : ""}`} onClick=${onOpen}>${data?.verdict === "proved" ? "✓ " : ""}${words}</button>`;
}

export function Receipt({ view, select }) {
  const { data, error, loading, again } = useGet(`/api/runs/${view.run}/verify`);
  if (error) return html`<${Trouble} error=${error} again=${again} />`;
  if (!data) return html`<${Loading} />`;
  const keys = data.keys.map((each) => `--key ${each.key}=${each.public}`).join(" ");
  const command = `milepost verify ${view.run}.jsonl ${keys}`.trim();
  return html`<div class="stack">
    <section class="card stack tight"><p class="row"><${Badge} kind=${LOOK[data.verdict]}>${say(`receipt: ${data.verdict}`)}<//><button class="small" disabled=${loading} onClick=${again}>${say("receipt: again")}</button></p>
      <p>${say(`receipt: ${data.verdict} how`, { n: number(data.events) })} ${say(data.content ? "receipt: decisions" : "receipt: bytes only")}</p>
      ${data.absent.length > 0 && html`<p>${say("receipt: absent", { n: data.absent.length })}</p>`}
      ${data.findings.length > 0 && html`<h3>${say("receipt: findings")}</h3><ul class="stack tight">${data.findings.map((each, at) => html`<li key=${at} class="row"><${Badge} kind=${each.wrong ? "bad" : "warn"}>${each.kind}<//>${each.event && html`<a href=${`#${each.event}`} onClick=${(event) => { event.preventDefault(); select(each.event); }}>${say("receipt: event", { n: each.event })}</a>`}<span class="wrap">${each[language.value]}</span></li>`)}</ul>`}</section>
    ${data.receipts.map((each) => html`<section class="card stack tight" key=${each.part}><h2>${say("receipt: part", { n: each.part })}</h2><dl class="facts mono small">
      <div><dt>${say("receipt: chain")}</dt><dd>${each.number} · ${each.tenant}</dd></div><div><dt>${say("receipt: root")}</dt><dd>${each.root}</dd></div>
      <div><dt>${say("receipt: events")}</dt><dd>${each.size}</dd></div><div><dt>${say("receipt: outcome")}</dt><dd>${each.outcome}</dd></div>
      <div><dt>${say("receipt: key")}</dt><dd>${each.key} (Ed25519)</dd></div><div><dt>${say("receipt: at")}</dt><dd>${moment(each.sealed)}</dd></div>
      ${each.previous && html`<div><dt>${say("receipt: previous")}</dt><dd>${each.previous}</dd></div>`}
      ${each.unanswered.length > 0 && html`<div><dt>${say("receipt: unanswered")}</dt><dd>${each.unanswered.map((one) => one.kind).join(", ")}</dd></div>`}</dl></section>`)}
    <section class="card stack tight"><h2>${say("receipt: not")}</h2><ul class="bullets">${[1, 2, 3].map((n) => html`<li key=${n}>${say(`receipt: not ${n}`)}</li>`)}</ul></section>
    <section class="card stack tight"><h2>${say("receipt: offline")}</h2><p>${say("receipt: offline how")}</p>
      <div class="row"><pre class="grow text">${command}</pre><${Copy} text=${command} /></div>
      <p class="row"><a class="button small" href=${`/api/runs/${view.run}/export`} download>${short(view.run)}.jsonl</a></p>
      ${data.keys.length > 0 && html`<h3>${say("receipt: keys")}</h3>${data.keys.map((each) => html`<p class="mono wrap small" key=${each.key}>${each.key}=${each.public}</p>`)}`}</section>
  </div>`;
}

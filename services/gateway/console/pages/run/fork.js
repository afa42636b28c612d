// Leaving a run at one of its events with something changed. Nothing of it happens in the world.
import { html, useEffect, useState } from "../../vendor/preact.js";
import { post } from "../../core/api.js";
import { go } from "../../core/router.js";
import { useGet, useWork } from "../../core/state.js";
import { learn, say } from "../../core/words.js";
import { Dialog, Field, Loading, Trouble } from "../../parts/basic.js";

learn({
  "fork: title": ["Fork the run", "分叉运行"],
  "fork: what": ["A new run takes everything up to the event from the log, then goes on by itself with what you change.", "新的运行先从日志取得此事件之前的一切，然后带着你的改动继续。"],
  "fork: safe": ["Nothing happens in the world: a call that the log holds is answered from it, other reads are not made unless you allow them, and no write is ever made.", "不会有任何真实操作：日志中有的调用由日志答复，其他读取除非允许否则不执行，写操作绝不执行。"],
  "fork: at": ["Leave it after event", "在此事件之后离开"],
  "fork: near": ["Nothing was decided at event {n}; the nearest place is event {at}.", "事件 {n} 没有作出决定；最近的位置是事件 {at}。"],
  "fork: model": ["Model", "模型"],
  "fork: instructions": ["Instructions", "指令"],
  "fork: instructions hint": ["Empty: the usual ones", "留空为默认指令"],
  "fork: answer": ["Change what an event said", "改动某个事件的内容"],
  "fork: none": ["Nothing", "不改动"],
  "fork: decision": ["Decision", "决定"],
  "fork: approve": ["Approve", "批准"],
  "fork: refuse": ["Refuse", "拒绝"],
  "fork: why": ["Why", "原因"],
  "fork: content": ["It says instead (JSON)", "改为（JSON）"],
  "fork: bad json": ["This is no JSON: {why}", "不是 JSON：{why}"],
  "fork: live": ["Let tools that only read be called", "允许调用只读工具"],
  "fork: simulate": ["Tell writes as if they had been done", "把写操作当作已完成"],
  "fork: go": ["Fork", "分叉"],
  "fork: cli": ["At a terminal", "在终端"],
});

const APPROVALS = new Set(["ApprovalGranted", "ApprovalRefused"]);

function Form({ told, wanted, onDone }) {
  const [model, setModel] = useState(told.agent.model), [instructions, setInstructions] = useState(told.agent.instructions);
  const [answer, setAnswer] = useState(() => (told.answers.some((each) => each.n === wanted) ? String(wanted) : ""));
  const picked = told.answers.find((each) => String(each.n) === answer), approval = picked && APPROVALS.has(picked.type);
  const [verdict, setVerdict] = useState("refuse"), [why, setWhy] = useState(""), [content, setContent] = useState(""), [live, setLive] = useState(false), [simulate, setSimulate] = useState(false);
  useEffect(() => {
    setContent(picked ? JSON.stringify(picked.content, null, 2) : "");
    setVerdict(picked?.type === "ApprovalRefused" ? "approve" : "refuse");
  }, [answer]);
  let wrong = "", said = null;
  if (picked && !approval) {
    try {
      said = JSON.parse(content);
    } catch (error) {
      wrong = say("fork: bad json", { why: error.message });
    }
  }
  const changed = picked && !approval && !wrong && JSON.stringify(said) !== JSON.stringify(picked.content);
  const [fork, forking] = useWork(async () => {
    const asked = { at: Math.max(told.at, picked ? picked.n : 0) };
    if (asked.at !== told.at && picked) delete asked.at;
    if (model !== told.agent.model) asked.model = model;
    if (instructions !== told.agent.instructions && instructions.trim()) asked.instructions = instructions;
    if (approval) asked.answers = { [answer]: verdict === "approve" ? "approve" : `refuse:${why}` };
    else if (changed) asked.answers = { [answer]: said };
    if (live) asked.reads = "live";
    if (simulate) asked.writes = "simulated";
    const found = await post(`/api/runs/${told.run}/fork`, asked);
    onDone();
    go(`/runs/${found.run}`);
  });
  return html`<form class="stack" onSubmit=${(event) => { event.preventDefault(); if (!wrong) fork(); }}>
    ${!told.exact && html`<p class="card waits">${say("fork: near", { n: wanted, at: told.at })}</p>`}
    <p><strong>${say("fork: at")} <span class="num">#${told.at}</span></strong></p>
    <${Field} label=${say("fork: model")}>${(id) => html`<select id=${id} value=${model} onChange=${(event) => setModel(event.currentTarget.value)}>${[...new Set([told.agent.model, ...told.models])].map((each) => html`<option key=${each}>${each}</option>`)}</select>`}<//>
    <${Field} label=${say("fork: instructions")} hint=${say("fork: instructions hint")}>${(id) => html`<textarea id=${id} rows="4" value=${instructions} onInput=${(event) => setInstructions(event.currentTarget.value)}></textarea>`}<//>
    <${Field} label=${say("fork: answer")}>${(id) => html`<select id=${id} value=${answer} onChange=${(event) => setAnswer(event.currentTarget.value)}><option value="">${say("fork: none")}</option>${told.answers.map((each) => html`<option key=${each.n} value=${each.n}>#${each.n} ${each.type}</option>`)}</select>`}<//>
    ${approval && html`<fieldset class="row"><legend class="hidden">${say("fork: decision")}</legend>${["approve", "refuse"].map((each) => html`<label class="row" key=${each}><input type="radio" name="verdict" checked=${verdict === each} onChange=${() => setVerdict(each)} />${say(`fork: ${each}`)}</label>`)}
      ${verdict === "refuse" && html`<input class="grow" value=${why} aria-label=${say("fork: why")} placeholder=${say("fork: why")} onInput=${(event) => setWhy(event.currentTarget.value)} />`}</fieldset>`}
    ${picked && !approval && html`<${Field} label=${say("fork: content")} error=${wrong}>${(id) => html`<textarea id=${id} class="mono" rows="10" spellcheck="false" value=${content} onInput=${(event) => setContent(event.currentTarget.value)}></textarea>`}<//>`}
    <label class="row"><input type="checkbox" checked=${live} onChange=${() => setLive(!live)} />${say("fork: live")}</label>
    <label class="row"><input type="checkbox" checked=${simulate} onChange=${() => setSimulate(!simulate)} />${say("fork: simulate")}</label>
    <${Trouble} error=${forking.error} />
    <div class="row"><button class="primary" disabled=${forking.busy || Boolean(wrong)}>${say("fork: go")}</button><span class="hint">${say("fork: cli")}: <code>milepost fork ${told.run.slice(0, 15)} --at ${told.at}</code></span></div>
  </form>`;
}

export function Fork({ view, at, onClose }) {
  const last = [...view.events].reverse().find((each) => each.type === "Generated")?.n;
  const wanted = at ?? last ?? 1;
  const { data, error, again } = useGet(`/api/runs/${view.run}/fork?at=${wanted}`);
  return html`<${Dialog} title=${say("fork: title")} onClose=${onClose} wide>
    <p>${say("fork: what")}</p><p class="card safe">${say("fork: safe")}</p>
    <${Trouble} error=${error} again=${again} />${data ? html`<${Form} told=${data} wanted=${wanted} onDone=${onClose} />` : !error && html`<${Loading} />`}
  <//>`;
}

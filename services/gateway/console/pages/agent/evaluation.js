// How the agent would have done on the runs that are recorded.
import { html, useEffect, useState } from "../../vendor/preact.js";
import { get, post, remove } from "../../core/api.js";
import { number } from "../../core/format.js";
import { useGet, useWork } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Badge, Field, Loading, Trouble } from "../../parts/basic.js";

const RISKY = new Set(["new_write", "other_write", "lost_write", "verdict"]);
const share = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`);

function Bar({ label, value, hint }) {
  return html`<div class="figure"><span class="soft">${label}</span><div class="bar" aria-hidden="true"><div style=${{ width: `${Math.round((value ?? 0) * 100)}%` }}></div></div><strong class="num">${share(value)}</strong>${hint && html`<span class="faint num">${hint}</span>`}</div>`;
}

function Changed({ run }) {
  return html`<li class="card stack"><div class="row"><${Badge} kind=${RISKY.has(run.risk) ? "bad" : "warn"}>${say(`ag.e.${run.risk}`)}<//><span class="grow cut">${run.task}</span><a href=${`/runs/${run.run}${run.at.includes("#") ? `#${run.at.split("#")[1]}` : ""}`} target="_blank" class="mono">${run.run.slice(0, 15)}</a></div>
    ${[["recorded", "out"], ["driven", "in"]].map(([side, kind]) => html`<div key=${side} class="lines"><span class="faint">${say(side === "driven" ? "ag.e.now" : "ag.e.recorded")}</span>${run[side].map((each, n) => html`<div key=${n} class=${`${kind} mono`}>${each || "–"}</div>`)}</div>`)}
  </li>`;
}

export function Evaluation({ draft, name, versions, evaluation, setEvaluation }) {
  const [version, setVersion] = useState(""), [runs, setRuns] = useState(10), [of, setOf] = useState(name);
  const { data: agents } = useGet("/api/agents");
  const [start, { busy, error }] = useWork(async () => setEvaluation(await post(`/api/agents/${name}/evaluate`, { runs, of, ...(version ? { version: Number(version) } : { draft: { ...draft, name } }) })));
  const running = evaluation?.state === "running";
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(async () => {
      try {
        setEvaluation(await get(`/api/agents/${evaluation.agent}/evaluations/${evaluation.id}`));
      } catch (thrown) {
        setEvaluation({ ...evaluation, state: "failed", trouble: thrown.what ?? String(thrown) });
      }
    }, 1000);
    return () => clearInterval(timer);
  }, [running, evaluation?.id]);
  const submit = (event) => {
    event.preventDefault();
    start();
  };
  const figures = evaluation?.figures;
  return html`<div class="evaluation stack">
    <p class="hint">${say("ag.e.hint")}</p>
    <form class="row end" onSubmit=${submit}>
      <${Field} label=${say("ag.e.which")}>${(id) => html`<select id=${id} value=${version} onChange=${(event) => setVersion(event.target.value)}><option value="">${say("ag.e.form")}</option>${(versions ?? []).map((each) => html`<option key=${each.version} value=${each.version}>v${each.version}</option>`)}</select>`}<//>
      <${Field} label=${say("ag.e.runs")}>${(id) => html`<input id=${id} class="short" type="number" min="1" max="50" required value=${runs} onInput=${(event) => setRuns(Number(event.target.value))} />`}<//>
      <${Field} label=${say("ag.e.of")}>${(id) => html`<select id=${id} value=${of} onChange=${(event) => setOf(event.target.value)}>${[...new Set([name, ...(agents ?? []).map((each) => each.name)])].map((each) => html`<option key=${each}>${each}</option>`)}</select>`}<//>
      <button class="primary" disabled=${busy || running}>${say("ag.e.go")}</button>
    </form>
    <${Trouble} error=${error} />
    ${running && html`<div class="row" role="status"><progress max=${evaluation.of} value=${evaluation.done}></progress><span class="num">${say("ag.e.running", evaluation)}</span>
      <button class="small" onClick=${() => remove(`/api/agents/${evaluation.agent}/evaluations/${evaluation.id}`).catch(() => {})}>${say("ag.e.stop")}</button>${!evaluation.done && html`<${Loading} />`}</div>`}
    ${evaluation?.state === "failed" && html`<${Trouble} error=${{ what: evaluation.trouble }} />`}
    ${evaluation?.state === "stopped" && html`<p class="soft">${say("ag.e.stopped")}</p>`}
    ${evaluation?.state === "done" && html`
      <div class="figures"><${Bar} label=${say("ag.e.agreement")} value=${figures.agreement} hint=${figures.low !== null ? say("ag.e.between", { low: share(figures.low), high: share(figures.high) }) : ""} />
        <${Bar} label=${say("ag.e.actions")} value=${figures.actions} /><${Bar} label=${say("ag.e.arguments")} value=${figures.arguments} /><${Bar} label=${say("ag.e.answers")} value=${figures.answers} /></div>
      <p class="soft num">${say("ag.e.tokens")}: ${number(figures.tokens[0])} → ${number(figures.tokens[1])}</p>
      ${evaluation.changed.length ? html`<h3>${say("ag.e.changed")}</h3><ol class="stack">${evaluation.changed.map((each) => html`<${Changed} key=${each.run} run=${each} />`)}</ol>` : figures.runs > 0 && html`<p>${say("ag.e.all same")}</p>`}
      ${evaluation.troubled.length > 0 && html`<details><summary>${say("ag.e.troubled")} (${evaluation.troubled.length})</summary><ul>${evaluation.troubled.map((each) => html`<li key=${each} class="soft">${each}</li>`)}</ul></details>`}`}
  </div>`;
}

// The charts: runs, tokens and run times by the minute; step times and queues as this page has seen them.
import { html, useMemo } from "../../vendor/preact.js";
import { say } from "../../core/words.js";
import { Plot } from "../../parts/plot.js";
import { samples } from "./samples.js";

const STEPS = ["llm/main", "tools/builtin", "retrieval/main", "memory/main"];
const QUEUES = ["llm", "tools", "retrieval", "memory"];

const Chart = ({ title, note, times, series, unit }) => html`<figure class="card chart"><figcaption class="row apart"><h3>${title}</h3><span class="faint">${note}</span></figcaption>
  ${times.length > 3 ? html`<${Plot} times=${times} series=${series} unit=${unit} height=${130} label=${title} />` : html`<p class="faint">${say("sy.gathering")}</p>`}</figure>`;

function byMinute(minutes) {
  const of = (label, key, scale = 1) => ({ label: say(label), values: minutes.map((each) => (each[key] === null ? null : each[key] / scale)) });
  return { times: minutes.map((each) => new Date(each.at) / 1000), runs: [of("sy.started", "started"), { ...of("sy.failed", "failed"), colour: "--bad" }], tokens: [of("sy.tokens", "tokens")], took: [{ ...of("sy.p50", "p50_ms", 1000), points: true }, { ...of("sy.p95", "p95_ms", 1000), points: true }] };
}

export function Charts({ activity, beat, machine }) {
  const minutes = useMemo(() => activity && byMinute(activity.minutes), [activity]);
  const seen = useMemo(() => ({
    times: samples.map((each) => each.at / 1000),
    steps: STEPS.map((key) => ({ label: key.split("/")[0], points: true, values: samples.map((each) => { const p95 = each.paces[key]?.p95; return p95 === null || p95 === undefined ? null : p95 * 1000; }) })),
    queues: QUEUES.map((role) => ({ label: role, values: samples.map((each) => each.queues[role] ?? 0) })),
  }), [beat]);
  return html`<section class="charts" aria-label=${say("sy.charts")}>
    ${minutes && html`<${Chart} title=${say("sy.runs a minute")} note=${activity.complete ? "" : say("sy.newest only")} times=${minutes.times} series=${minutes.runs} unit="" />
      <${Chart} title=${say("sy.run time")} note="" times=${minutes.times} series=${minutes.took} unit=" s" />
      <${Chart} title=${say("sy.tokens a minute")} note="" times=${minutes.times} series=${minutes.tokens} unit="" />`}
    <${Chart} title=${say("sy.step time")} note=${say("sy.p95 of a minute")} times=${seen.times} series=${seen.steps} unit=" ms" />
    ${machine && html`<${Chart} title=${say("sy.queued")} note="" times=${seen.times} series=${seen.queues} unit="" />`}
  </section>`;
}

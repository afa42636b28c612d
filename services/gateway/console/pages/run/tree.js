// The events by cause. A model's turn stands at the margin again, so that long runs do not drift to the right.
import { html, useMemo } from "../../vendor/preact.js";
import { useGet } from "../../core/state.js";
import { learn, say } from "../../core/words.js";
import { Loading, Rows, Trouble } from "../../parts/basic.js";
import { Detail } from "./detail.js";
import { HEIGHT, chooses, eventRow } from "./line.js";

learn({
  "tree: after": ["after #{n}", "在 #{n} 之后"],
  "tree: also": ["also after {numbers}", "也在 {numbers} 之后"],
  "tree: missing": ["Event {n} names a cause that is not in the log.", "事件 {n} 所述起因不在日志中。"],
  "tree: later": ["Event {n} names a cause that comes after it.", "事件 {n} 所述起因在其之后。"],
});
const DEEPEST = 16;

function ordered(branches, events) {
  const bases = [];
  return branches.map(({ i, depth }) => {
    const line = events[i], turn = line?.type === "Generated" && depth > 0;
    bases.length = depth;
    bases[depth] = turn ? depth : (bases[depth - 1] ?? 0);
    const note = [turn && line.under ? say("tree: after", { n: line.under }) : "", line?.others?.length ? say("tree: also", { numbers: line.others.map((n) => `#${n}`).join(", ") }) : ""].filter(Boolean).join(" · ");
    return { line, i, indent: Math.min(DEEPEST, depth - bases[depth]), note: note && `(${note})` };
  }).filter((each) => each.line);
}

export function Tree(props) {
  const { view, selected, select } = props;
  const { data, error, again } = useGet(`/api/runs/${view.run}/tree?n=${view.count}`);
  const rows = useMemo(() => (data ? ordered(data.branches, view.events) : []), [data, view.events]);
  const start = new Date(view.events[0]?.time);
  return html`<div class="stack"><${Trouble} error=${error} again=${again} />
    ${view.findings.map((each) => html`<p class="trouble" key=${each.event + each.cause}>${say(`tree: ${each.kind}`, { n: each.event })}</p>`)}
    <div class="beside"><div class="event-list tree" onClick=${chooses(select)}>${data ? html`<${Rows} items=${rows} height=${HEIGHT} label=${say("run: tree")}
      row=${({ line, indent, note }) => eventRow(line, start, line.n && line.n === selected, indent, note)} />` : html`<${Loading} />`}</div>
    <${Detail} ...${props} /></div></div>`;
}

// How a run stands, as a badge that also differs in its sign.
import { html } from "../../vendor/preact.js";
import { learn, say } from "../../core/words.js";
import { Badge } from "../../parts/basic.js";

learn({
  "outcome: open": ["open", "进行中"],
  "outcome: waiting": ["waiting", "等待人"],
  "outcome: queued": ["queued", "排队中"],
  "outcome: completed": ["completed", "已完成"],
  "outcome: failed": ["failed", "失败"],
  "outcome: cancelled": ["cancelled", "已取消"],
  "outcome: erased": ["erased", "已抹除"],
});

const LOOK = { open: ["info", "◔"], waiting: ["warn", "‖"], queued: ["", "…"], completed: ["good", "✓"], failed: ["bad", "✕"], cancelled: ["", "■"], erased: ["", "∅"] };

export function Outcome({ status }) {
  const [kind, sign] = LOOK[status] ?? ["", ""];
  return html`<${Badge} kind=${`${kind} outcome`}><span aria-hidden="true">${sign}</span>${say(`outcome: ${status}`)}<//>`;
}

// Every event in a list that stays quick however long it is, the chosen one in full beside it.
import { html, useEffect, useMemo, useRef, useState } from "../../vendor/preact.js";
import { learn, say } from "../../core/words.js";
import { number } from "../../core/format.js";
import { Icon, Rows } from "../../parts/basic.js";
import { Detail } from "./detail.js";
import { HEIGHT, chooses, eventRow } from "./line.js";

learn({
  "events: find": ["Filter events", "筛选事件"],
  "events: roles": ["All roles", "所有角色"],
  "events: types": ["All types", "所有类型"],
  "events: role": ["Role", "角色"],
  "events: type": ["Type", "类型"],
  "events: shown": ["{n} of {all}", "{n} / {all}"],
});

export function Events(props) {
  const { view, selected, select } = props;
  const [text, setText] = useState(""), [role, setRole] = useState(""), [type, setType] = useState(""), list = useRef(null);
  const roles = useMemo(() => [...new Set(view.events.map((each) => each.role))].sort(), [view.events]);
  const types = useMemo(() => [...new Set(view.events.map((each) => each.type))].sort(), [view.events]);
  const shown = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    if (!wanted && !role && !type) return view.events;
    return view.events.filter((each) => (!role || each.role === role) && (!type || each.type === type)
      && (!wanted || each.line.toLowerCase().includes(wanted) || each.type.toLowerCase().includes(wanted) || `#${each.n}` === wanted));
  }, [view.events, text, role, type]);
  const start = new Date(view.events[0]?.time);
  useEffect(() => {
    const rows = list.current?.querySelector(".rows"), at = shown.findIndex((each) => each.n === selected);
    if (!rows || at < 0) return;
    if (at * HEIGHT < rows.scrollTop || (at + 1) * HEIGHT > rows.scrollTop + rows.clientHeight) rows.scrollTop = at * HEIGHT - rows.clientHeight / 3;
  }, [selected, shown]);
  return html`<div class="stack">
    <div class="row filters"><div class="search grow"><${Icon} name="search" /><input type="search" value=${text} aria-label=${say("events: find")} placeholder=${say("events: find")} onInput=${(event) => setText(event.currentTarget.value)} /></div>
      <select aria-label=${say("events: role")} value=${role} onChange=${(event) => setRole(event.currentTarget.value)}><option value="">${say("events: roles")}</option>${roles.map((each) => html`<option key=${each}>${each}</option>`)}</select>
      <select aria-label=${say("events: type")} value=${type} onChange=${(event) => setType(event.currentTarget.value)}><option value="">${say("events: types")}</option>${types.map((each) => html`<option key=${each}>${each}</option>`)}</select>
      <span class="faint num">${say("events: shown", { n: number(shown.length), all: number(view.events.length) })}</span></div>
    <div class="beside"><div class="event-list" ref=${list} onClick=${chooses(select)}><${Rows} items=${shown} height=${HEIGHT} label=${say("run: events")}
        row=${(line) => eventRow(line, start, line.n === selected)} /></div>
      <${Detail} ...${props} /></div>
  </div>`;
}

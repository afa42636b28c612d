// Lanes of who did what when: a bar from when something was asked to its answer, waits for people visible as such.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../../vendor/preact.js";
import { duration } from "../../core/format.js";
import { learn, say } from "../../core/words.js";
import { axisOf } from "./axis.js";
import { Detail } from "./detail.js";
import { kindOf } from "./line.js";

learn({
  "timeline: label": ["Timeline: arrow keys walk the events", "时间线：用方向键浏览事件"],
  "timeline: scale": ["To scale", "按比例"],
  "timeline: scale how": ["Draw waits as long as they were", "按实际时长绘制等待"],
  "timeline: in": ["Zoom in", "放大"],
  "timeline: out": ["Zoom out", "缩小"],
  "timeline: hint": ["Point at a bar to read it; click to see all of it.", "指向条块可阅读，点击查看全部。"],
  "timeline: work": ["work", "工作"],
  "timeline: model": ["model", "模型"],
  "timeline: person": ["waits for a person", "等待人"],
  "timeline: bad": ["failed or refused", "失败或拒绝"],
  "timeline: break": ["shortened", "已压缩"],
  "timeline: since": ["asked {time} ago", "{time}前提出"],
});

const LANES = ["client", "person", "conductor", "timer", "memory", "retrieval", "policy", "llm", "tools", "recorder"];
const LANE = 30, TOP = 22, NAMES = 84, EDGE = 7, MOST = 60_000;

// Where each bar begins and ends (0 to 1) in which lane.
function barsOf(view, axis, now) {
  const roles = new Set([...view.events.filter((each) => each.n).map((each) => each.role), ...view.asking.map((each) => each.role)]);
  const lanes = [...LANES.filter((each) => roles.has(each)), ...[...roles].filter((each) => !LANES.includes(each)).sort()];
  const lane = new Map(lanes.map((each, at) => [each, at]));
  const bars = view.events.filter((each) => each.n).map((line) => {
    const end = +new Date(line.time), own = !line.copied || line.changed, long = line.answer && line.took_ms > 0 && !line.copied; // a copy took no time here
    return { n: line.n, line, lane: lane.get(line.role), from: axis.at(long ? end - line.took_ms : end), to: axis.at(end), kind: own ? kindOf(line) : "wait", point: !long };
  });
  const times = new Map(view.events.map((each) => [each.n, +new Date(each.time)]));
  const open = view.asking.filter((each) => each.kind !== "StartTimer").map((each) => ({
    open: each, lane: lane.get(each.role), from: axis.at(times.get(each.asked) ?? axis.start), to: 1, kind: each.person ? "person" : "open", since: now - (times.get(each.asked) ?? now),
  }));
  return { lanes, bars, open };
}

function draw(canvas, { lanes, bars, open }, axis, { left, wide, selected, hovered }) {
  if (!canvas) return;
  const width = canvas.clientWidth, height = TOP + lanes.length * LANE, ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const css = getComputedStyle(document.documentElement), colour = (name) => css.getPropertyValue(name).trim();
  const look = { "": colour("--plot-1"), model: colour("--plot-3"), person: colour("--plot-2"), wait: colour("--faint"), bad: colour("--bad"), open: colour("--faint") };
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const x = (share) => EDGE + share * (wide - 2 * EDGE) - left;
  pen.font = `11px ${css.getPropertyValue("--sans")}`;
  pen.fillStyle = colour("--code");
  for (const each of axis.breaks) {
    const from = x(each.from), to = x(each.to);
    if (to < 0 || from > width) continue;
    pen.fillRect(from, TOP - 4, to - from, height);
    const words = `≈ ${duration(each.gap)}`;
    if (to - from > pen.measureText(words).width + 6) {
      pen.fillStyle = colour("--faint");
      pen.fillText(words, (from + to) / 2 - pen.measureText(words).width / 2, 14);
      pen.fillStyle = colour("--code");
    }
  }
  pen.strokeStyle = colour("--line");
  pen.beginPath();
  for (let at = 0; at <= lanes.length; at += 1) {
    pen.moveTo(0, TOP + at * LANE - 0.5);
    pen.lineTo(width, TOP + at * LANE - 0.5);
  }
  pen.stroke();
  const box = (bar) => {
    const from = x(bar.from), to = x(bar.to);
    return bar.point ? [to - 3, TOP + bar.lane * LANE + 11, 6, 8] : [from, TOP + bar.lane * LANE + 8, Math.max(3, to - from), 14];
  };
  let last = {};
  for (const bar of bars) {
    if (x(bar.to) < -4 || x(bar.from) > width + 4) continue;
    const [a, b, w, h] = box(bar);
    const spot = `${Math.round(a)} ${Math.round(w)} ${bar.lane} ${bar.kind}`;
    if (last[bar.lane] === spot && bar.n !== selected && bar.n !== hovered) continue; // it would be drawn upon itself
    last[bar.lane] = spot;
    pen.globalAlpha = bar.kind === "person" ? 0.55 : 0.9;
    pen.fillStyle = look[bar.kind];
    pen.beginPath();
    if (bar.point) pen.ellipse(a + 3, b + 4, 3.5, 3.5, 0, 0, 7);
    else pen.roundRect(a, b, w, h, Math.min(3, w / 2));
    pen.fill();
    pen.globalAlpha = 1;
    if (bar.n === selected || bar.n === hovered) {
      pen.strokeStyle = colour(bar.n === selected ? "--text" : "--faint");
      pen.lineWidth = 2;
      pen.strokeRect(a - 2, b - 2, w + 4, h + 4);
      pen.lineWidth = 1;
    }
  }
  for (const bar of open) {
    const [a, b, w, h] = box(bar);
    pen.setLineDash([4, 3]);
    pen.strokeStyle = look[bar.kind];
    pen.strokeRect(a, b, Math.max(8, w), h);
    pen.setLineDash([]);
  }
}

const distance = (bar, share) => (share < bar.from ? bar.from - share : share > bar.to ? share - bar.to : 0);

export function Timeline(props) {
  const { view, selected, select, byNumber } = props;
  const [zoom, setZoom] = useState(1), [scaled, setScaled] = useState(false), [hovered, setHovered] = useState(null), [room, setRoom] = useState(800), [left, setLeft] = useState(0);
  const canvas = useRef(null), scroller = useRef(null), keep = useRef(null);
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (view.ended) return;
    const timer = setInterval(() => document.hidden || setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [view.ended]);
  const axis = useMemo(() => axisOf(view.events, view.asking, scaled, now), [view.events, view.asking, scaled, view.asking.length ? now : 0]);
  const told = useMemo(() => barsOf(view, axis, now), [view, axis]);
  const wide = Math.max(room, Math.min(MOST, room * zoom)), height = TOP + told.lanes.length * LANE;
  useEffect(() => {
    const seen = new ResizeObserver(() => scroller.current && setRoom(scroller.current.clientWidth));
    seen.observe(scroller.current);
    return () => seen.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (keep.current === null) return;
    scroller.current.scrollLeft = keep.current * wide - room / 2;
    keep.current = null;
  }, [wide]);
  useLayoutEffect(() => draw(canvas.current, told, axis, { left, wide, selected, hovered }), [told, left, wide, selected, hovered, room]);
  useEffect(() => {
    const turned = new MutationObserver(() => draw(canvas.current, told, axis, { left, wide, selected, hovered }));
    turned.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => turned.disconnect();
  }, [told, left, wide, selected, hovered]);
  useEffect(() => {
    const bar = told.bars.find((each) => each.n === selected);
    if (!bar || zoom === 1) return;
    const at = bar.to * wide;
    if (at < scroller.current.scrollLeft || at > scroller.current.scrollLeft + room) scroller.current.scrollLeft = at - room / 2;
  }, [selected]);
  const zoomed = (factor) => {
    keep.current = (scroller.current.scrollLeft + room / 2) / wide;
    setZoom((before) => Math.max(1, Math.min(MOST / room, before * factor)));
  };
  const under = (event) => {
    const place = canvas.current.getBoundingClientRect(), lane = Math.floor((event.clientY - place.top - TOP) / LANE);
    const share = (event.clientX - place.left + left - EDGE) / (wide - 2 * EDGE);
    const here = told.bars.filter((each) => each.lane === lane);
    const best = here.reduce((found, each) => {
      const far = distance(each, share);
      return far < found.far || (far === found.far && each.to - each.from < found.size) ? { far, size: each.to - each.from, n: each.n } : found;
    }, { far: 12 / wide, size: Infinity, n: null });
    return best.n;
  };
  const walk = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1, Home: -view.count, End: view.count }[event.key];
    if (!step) return;
    event.preventDefault();
    select(Math.max(1, Math.min(view.count, (selected ?? 0) + step)));
  };
  const line = byNumber.get(hovered ?? selected);
  return html`<div class="stack"><div class="card timeline">
    <div class="row apart"><p class="row legend faint">${["work", "model", "person", "bad", "break"].map((each) => html`<span key=${each}><i class=${each}></i>${say(`timeline: ${each}`)}</span>`)}</p>
      <div class="row"><label class="row" title=${say("timeline: scale how")}><input type="checkbox" checked=${scaled} onChange=${() => setScaled(!scaled)} />${say("timeline: scale")}</label>
        <button class="small icon-only" aria-label=${say("timeline: out")} disabled=${zoom <= 1} onClick=${() => zoomed(0.5)}>−</button><button class="small icon-only" aria-label=${say("timeline: in")} onClick=${() => zoomed(2)}>+</button></div></div>
    <div class="lanes" style=${{ gridTemplateColumns: `${NAMES}px minmax(0, 1fr)` }}>
      <div class="names" style=${{ paddingTop: `${TOP}px` }}>${told.lanes.map((each) => html`<span key=${each} style=${{ height: `${LANE}px` }}>${each}</span>`)}</div>
      <div class="scroller" ref=${scroller} onScroll=${(event) => setLeft(event.currentTarget.scrollLeft)} tabindex="0" role="group" aria-label=${say("timeline: label")} onKeyDown=${walk}>
        <div style=${{ width: `${wide}px`, height: `${height}px` }}><canvas ref=${canvas} style=${{ width: `${room}px`, height: `${height}px` }}
          onMouseMove=${(event) => setHovered(under(event))} onMouseLeave=${() => setHovered(null)} onClick=${(event) => { const n = under(event); if (n) select(n); }}></canvas></div>
      </div>
    </div>
    <p class="reading" role="status">${line ? html`<strong class="num">#${line.n}</strong> ${line.type} ${line.took_ms !== undefined && html`<span class="faint num">+${duration(line.took_ms)}</span>`} ${line.line}` : html`<span class="faint">${say("timeline: hint")}</span>`}</p>
    ${told.open.map((each) => html`<p class="faint" key=${each.open.id}>${each.open.kind} ${each.open.tool} · ${say("timeline: since", { time: duration(each.since) })}</p>`)}
  </div><${Detail} ...${props} /></div>`;
}

// A line chart over time. series: [{ label, colour?, values, points? }] (points: values stand apart), times: seconds. Loaded where it is first needed.
import { html, useEffect, useRef } from "../vendor/preact.js";
import { style } from "../core/state.js";
import { language, learn, say } from "../core/words.js";

learn({ "plot.time": ["Time", "时间"] });

const hour = (s) => (s ? new Date(s * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" }) : "");
const COLOURS = ["--plot-1", "--plot-2", "--plot-3", "--plot-4"];

export function Plot({ times, series, height = 160, unit = "", label }) {
  const at = useRef(null), chart = useRef(null);
  useEffect(() => {
    style("/vendor/uplot.css");
    let gone = false, seen;
    import("../vendor/uplot.js").then(({ uPlot }) => {
      if (gone || !at.current) return;
      const css = getComputedStyle(document.documentElement), colour = (name) => css.getPropertyValue(name).trim();
      const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
      chart.current = new uPlot({
        width: at.current.clientWidth, height, cursor: { y: false }, legend: { live: true },
        axes: [{ ...axis, values: (_, ticks) => ticks.map(hour) }, { ...axis, size: 56, values: (_, ticks) => ticks.map((each) => `${each}${unit}`) }],
        series: [{ label: say("plot.time"), value: (_, at) => hour(at) || "–" }, ...series.map((each, n) => ({ label: each.label, stroke: colour(each.colour ?? COLOURS[n % 4]), width: 1.5, points: { show: each.points ?? false }, spanGaps: each.points ?? false }))],
      }, [times, ...series.map((each) => each.values)], at.current);
      seen = new ResizeObserver(() => at.current && chart.current?.setSize({ width: at.current.clientWidth, height }));
      seen.observe(at.current);
    });
    return () => {
      gone = true;
      seen?.disconnect();
      chart.current?.destroy();
      chart.current = null;
    };
  }, [series.map((each) => each.label).join(), unit, language.value]);
  useEffect(() => {
    chart.current?.setData([times, ...series.map((each) => each.values)]);
  }, [times, series]);
  return html`<div class="plot" ref=${at} role="img" aria-label=${label}></div>`;
}

// The time axis of a run. Long stretches in which nothing happened, or a person was waited for, take little room unless it is to scale.
const SHARE = 0.9; // of the gaps, the shorter ones, are as long as they are

export function axisOf(events, asking, scaled, now) {
  const start = events.length ? +new Date(events[0].time) : now;
  const times = [...new Set(events.map((each) => +new Date(each.time)))];
  if (asking.length) times.push(now);
  times.sort((a, b) => a - b);
  const gaps = times.slice(1).map((time, at) => time - times[at]).sort((a, b) => a - b);
  const cap = scaled || !gaps.length ? Infinity : Math.max(20, 3 * gaps[Math.floor((gaps.length - 1) * SHARE)]);
  const places = [0], breaks = [];
  for (let at = 1; at < times.length; at += 1) {
    const gap = times[at] - times[at - 1];
    const room = gap <= cap ? gap : cap * (1 + 0.35 * Math.log10(gap / cap));
    if (gap > cap) breaks.push({ from: places[at - 1], to: places[at - 1] + room, gap });
    places.push(places[at - 1] + room);
  }
  const whole = places.at(-1) || 1;
  const place = (time) => {
    if (time <= times[0]) return 0;
    let low = 0, high = times.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (times[middle] <= time) low = middle;
      else high = middle - 1;
    }
    if (low === times.length - 1) return whole;
    const share = (time - times[low]) / (times[low + 1] - times[low]);
    return places[low] + share * (places[low + 1] - places[low]);
  };
  return { start, whole, place, breaks: breaks.map((each) => ({ ...each, from: each.from / whole, to: each.to / whole })), at: (time) => place(time) / whole };
}

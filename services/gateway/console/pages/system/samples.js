// What the last quarter of an hour was like, kept in this page: queues and step times, from one answer to the next.
const KEPT_MS = 15 * 60_000, WINDOW_MS = 60_000;
// Upper bounds of the services' histograms, in seconds (runtime/histogram.py); what took longer is in one more.
const BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

export const samples = []; // { at, queues: { role: waiting }, steps: { "role/lane": counts }, paces }

function countsOf(services) {
  const steps = {};
  for (const { role, lane, told } of services) {
    for (const { counts } of Object.values(told.took ?? {})) {
      const sum = (steps[`${role}/${lane}`] ??= counts.map(() => 0));
      counts.forEach((count, n) => (sum[n] += count));
    }
  }
  return steps;
}

// Inside its bucket a step may stand anywhere: its place is taken as even.
function percentile(counts, share) {
  const total = counts.reduce((sum, each) => sum + each, 0);
  if (!total) return null;
  let left = share * total;
  for (const [n, count] of counts.entries()) {
    if (left <= count) {
      const low = n ? BOUNDS[n - 1] : 0, high = BOUNDS[n] ?? BOUNDS.at(-1);
      return low + (high - low) * (count ? left / count : 0);
    }
    left -= count;
  }
  return BOUNDS.at(-1);
}

// A service that began anew counts from nothing.
const since = (counts, before) => (before && counts.every((each, n) => each >= before[n]) ? counts.map((each, n) => each - before[n]) : counts);

// Keeps what an answer tells; gives when that was.
export function sample(said) {
  const at = Date.now(), queues = {}, steps = countsOf(said.services), paces = {};
  for (const { kind, role, waiting } of said.queues) if (kind === "commands") queues[role] = (queues[role] ?? 0) + waiting;
  const before = samples.find((each) => each.at >= at - WINDOW_MS);
  for (const [key, counts] of Object.entries(steps)) {
    const fresh = before ? since(counts, before.steps[key]) : [];
    paces[key] = { p50: percentile(fresh, 0.5), p95: percentile(fresh, 0.95), ever: [percentile(counts, 0.5), percentile(counts, 0.95)] };
  }
  samples.push({ at, queues, steps, paces });
  while (samples[0].at < at - KEPT_MS) samples.shift();
  return at;
}

// Step times of the last minute, or where nothing was done in it since the service began.
export const latest = () => Object.fromEntries(Object.entries(samples.at(-1)?.paces ?? {}).map(([key, { p50, p95, ever }]) => [key, { p50: p50 ?? ever[0], p95: p95 ?? ever[1] }]));

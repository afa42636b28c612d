// Values as a person reads them.
import { language, learn, say } from "./words.js";

learn({
  "ago.now": ["just now", "刚刚"],
  "ago.s": ["{n} s ago", "{n} 秒前"],
  "ago.min": ["{n} min ago", "{n} 分钟前"],
  "ago.h": ["{n} h ago", "{n} 小时前"],
  "ago.d": ["{n} d ago", "{n} 天前"],
  "lasts.min": ["{min} min {s} s", "{min} 分 {s} 秒"],
  "lasts.h": ["{h} h {min} min", "{h} 小时 {min} 分"],
});

const locale = () => (language.value === "zh" ? "zh-CN" : "en-GB");

export const moment = (iso) => (iso ? new Date(iso).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "medium" }) : "");
export const clock = (iso) => (iso ? new Date(iso).toLocaleTimeString(locale()) : "");

export function ago(iso, now = Date.now()) {
  if (!iso) return "";
  const s = (now - new Date(iso)) / 1000;
  if (s < 5) return say("ago.now");
  if (s < 90) return say("ago.s", { n: Math.round(s) });
  if (s < 5400) return say("ago.min", { n: Math.round(s / 60) });
  if (s < 129600) return say("ago.h", { n: Math.round(s / 3600) });
  return say("ago.d", { n: Math.round(s / 86400) });
}

export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  const s = Math.round(ms / 1000);
  return s < 3600 ? say("lasts.min", { min: Math.floor(s / 60), s: s % 60 }) : say("lasts.h", { h: Math.floor(s / 3600), min: Math.floor((s % 3600) / 60) });
}

export const number = (n) => (n === null || n === undefined ? "" : Number(n).toLocaleString(locale()));
export const money = (amounts) => Object.entries(amounts ?? {}).map(([currency, amount]) => `${amount} ${currency}`).join(" + ");
export const short = (run) => run.slice(0, 15);

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  if (n < 1024 ** 2) return `${(n / 1024).toFixed(1)} KiB`;
  if (n < 1024 ** 3) return `${(n / 1024 ** 2).toFixed(1)} MiB`;
  return `${(n / 1024 ** 3).toFixed(1)} GiB`;
}

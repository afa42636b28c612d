// Words in English and Chinese. Each page brings its own: learn({ key: ["English {name}", "中文 {name}"] }).
import { computed, effect, signal } from "../vendor/preact.js";

const known = new Map();
const stored = localStorage.getItem("language");

export const language = signal(stored ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"));
const column = computed(() => (language.value === "zh" ? 1 : 0));

effect(() => {
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
});

export function learn(words) {
  for (const [key, pair] of Object.entries(words)) known.set(key, pair);
}

export function say(key, values = {}) {
  const pair = known.get(key);
  if (!pair) return key;
  return pair[column.value].replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

export function speak(next) {
  localStorage.setItem("language", next);
  language.value = next;
}

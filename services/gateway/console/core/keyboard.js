// Shortcuts: single keys where nobody types. bind("g r", say("…"), work) gives what unbinds; `?` lists them.
import { signal } from "../vendor/preact.js";

export const shortcuts = signal([]);
let before = "", forget = 0;

export function bind(keys, words, work) {
  const one = { keys, words, work };
  shortcuts.value = [...shortcuts.value, one];
  return () => (shortcuts.value = shortcuts.value.filter((each) => each !== one));
}

const typing = (target) => target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
  const last = [...shortcuts.value].reverse();
  const found = last.find((each) => each.keys === `${before} ${event.key}`) ?? last.find((each) => each.keys === event.key);
  before = event.key;
  clearTimeout(forget);
  forget = setTimeout(() => (before = ""), 800);
  if (found) {
    event.preventDefault();
    before = "";
    found.work(event);
  }
});

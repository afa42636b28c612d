// Addresses inside the console: a signal of the current one, and links that change it without loading the page anew.
import { signal } from "../vendor/preact.js";

const here = () => ({ path: location.pathname, query: Object.fromEntries(new URLSearchParams(location.search)), hash: location.hash.slice(1) });

export const route = signal(here());

export function go(path, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  route.value = here();
  if (!replace) document.getElementById("main")?.focus({ preventScroll: true });
}

// Changes the query of the current address in place; undefined takes a name out.
export function refine(values) {
  const found = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(values)) {
    if (value === undefined || value === null || value === "") found.delete(key);
    else found.set(key, value);
  }
  const text = found.toString();
  go(location.pathname + (text ? `?${text}` : "") + location.hash, { replace: true });
}

addEventListener("popstate", () => (route.value = here()));
addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest?.("a[href]");
  if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  if (/^\/(api|v1)\//.test(link.pathname)) return;
  event.preventDefault();
  go(link.pathname + link.search + link.hash);
});

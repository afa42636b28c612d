// Who is signed in, and what they may.
import { computed, signal } from "../vendor/preact.js";
import { ask, bear } from "./api.js";

export const session = signal(undefined); // undefined: not known yet; null: nobody
export const rights = computed(() => new Set(session.value?.rights ?? []));

export const may = (right) => rights.value.has(right);

export async function load() {
  const link = new URLSearchParams(location.hash.slice(1)).get("link");
  if (link) {
    history.replaceState(null, "", location.pathname + location.search); // it is good for two minutes and stays nowhere
    try {
      return keep(await ask("POST", "/api/session", { link }));
    } catch {
      // the form says what to do
    }
  }
  try {
    return keep(await ask("GET", "/api/session"));
  } catch (error) {
    if (error.status !== 401) throw error;
    session.value = null;
  }
}

export async function signIn(key) {
  keep(await ask("POST", "/api/session", { key }));
}

export async function signOut() {
  await ask("DELETE", "/api/session");
  session.value = null;
}

function keep(found) {
  bear(found.csrf);
  session.value = found;
}

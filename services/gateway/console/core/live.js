// What changes while the console is open: runs that moved, and how many wait for a person. One stream for all pages.
import { effect, signal } from "../vendor/preact.js";
import { listen } from "./api.js";
import { session } from "./session.js";

export const changed = signal({ runs: [], at: 0 }); // the runs of the last tick
export const waiting = signal(0);
export const broken = signal(false);

let close = null;
effect(() => {
  const here = Boolean(session.value);
  if (here && !close) {
    const hear = (said) => {
      waiting.value = said.waiting;
      changed.value = { runs: said.runs, at: Date.now() };
    };
    close = listen("/api/live", { changed: hear }, { onBroken: () => (broken.value = true), onOpen: () => (broken.value = false) });
  } else if (!here && close) {
    close();
    close = null;
  }
});

// A conversation as it goes on: its turns, the text that is being written, what waits; one stream for each turn that has not ended.
import { useCallback, useEffect, useRef, useState } from "../../vendor/preact.js";
import { get, listen, post, query } from "../../core/api.js";

const OVER = new Set(["completed", "failed", "cancelled"]);
export const isOver = (turn) => OVER.has(turn.status);

const id = (prefix, bytes) => prefix + [...crypto.getRandomValues(new Uint8Array(bytes))].map((each) => each.toString(16).padStart(2, "0")).join("");
export const newConversation = () => id("c-", 8);

// A turn with what a stream says is new of it: of its items those behind the first `after`.
export function merged(before, { after, items, ...fields }) {
  const next = { ...before, ...fields };
  if (items) next.items = [...(before?.items ?? []).slice(0, after ?? 0), ...items];
  return next;
}

// The text of a step with what was said from an offset on: a new attempt begins at 0 and replaces the old one.
export const continued = (before = "", { offset, text }) => before.slice(0, offset) + text;

const AT_ONCE = 2; // streams: a browser opens six connections to one address, for all its pages of it
const begun = new Map(); // runs that began conversations a moment ago, which no list has yet
const waits = (turn, agent) => ({ agent, status: "open", began: new Date().toISOString(), items: [], citations: [], approvals: [], questions: [], speaking: [], said: [], ...turn });

class Talk {
  constructor(conversation, redraw) {
    Object.assign(this, { conversation, redraw, order: [], turns: new Map(), texts: new Map(), streams: new Map(), later: new Set(), busy: new Map(), more: null, loading: false, error: null, sending: null, files: false, agent: "" });
    this.drawn = false;
    const first = begun.get(conversation);
    if (first) this.begin(first);
  }

  begin(turn) {
    if (!this.turns.has(turn.run)) {
      this.turns.set(turn.run, turn);
      this.order = [...this.order, turn.run];
    }
    this.hear(turn.run);
  }

  draw() {
    if (this.drawn || this.closed) return;
    this.drawn = true;
    const redraw = () => {
      this.drawn = false;
      if (!this.closed) this.redraw();
    };
    if (this.long) setTimeout(redraw, 100); // a long text is parsed anew each time
    else requestAnimationFrame(redraw);
  }

  async load(place = null) {
    this.loading = !place;
    this.draw();
    try {
      const found = await get(`/api/conversations/${this.conversation}${query(place ?? {})}`);
      if (this.closed) return;
      for (const turn of found.turns) this.turns.set(turn.run, merged(this.turns.get(turn.run), { after: 0, ...turn }));
      this.order = [...new Set([...found.turns.map((each) => each.run), ...this.order])];
      this.more = found.before ? { before: found.before, beyond: found.beyond } : null;
      this.files ||= found.files;
      this.agent ||= found.agent;
      this.error = null;
      for (const turn of found.turns) if (!isOver(turn)) this.hear(turn.run);
    } catch (error) {
      this.error = error;
    }
    this.loading = false;
    this.draw();
  }

  hear(run, tries = 0) {
    if (this.streams.has(run) || this.closed) return;
    if (this.streams.size >= AT_ONCE) {
      this.later.add(run);
      return;
    }
    const close = listen(`/api/conversations/turns/${run}/stream`, {
      turn: (said) => {
        this.turns.set(said.run, merged(this.turns.get(said.run), said));
        this.busy.delete(run);
        this.draw();
      },
      text: (said) => {
        const texts = this.texts.get(run) ?? {};
        this.texts.set(run, { ...texts, [said.step]: continued(texts[said.step], said) });
        this.long = said.offset > 6000;
        this.busy.delete(run);
        this.draw();
      },
      busy: (said) => {
        this.busy.set(run, said.retry_after_s);
        this.draw();
      },
      end: () => this.hush(run),
    }, {
      onBroken: (closed) => {
        if (!closed) return; // it comes back by itself, and tells everything again
        this.hush(run);
        if (!isOver(this.turns.get(run)) && tries < 20) setTimeout(() => this.hear(run, tries + 1), Math.min(500 * 2 ** tries, 15_000));
      },
    });
    this.streams.set(run, close);
  }

  hush(run) {
    this.streams.get(run)?.();
    this.streams.delete(run);
    this.texts.delete(run);
    this.draw();
    const [next] = this.later;
    if (next) {
      this.later.delete(next);
      this.hear(next);
    }
  }

  // Begins a turn; what was typed is shown before anybody has answered.
  async ask(task, { agent, key = id("", 16) }) {
    this.sending = { task };
    this.error = null;
    this.draw();
    try {
      const { run } = await post(`/api/conversations/${this.conversation}/turns`, { task, agent, key });
      this.begin(waits({ run, task }, agent));
      return run;
    } catch (error) {
      this.error = error;
      throw error;
    } finally {
      this.sending = null;
      this.draw();
    }
  }

  // Asks otherwise what was asked in a turn: in another conversation, which begins with what was said before it.
  async branch(conversation, task, { agent, replaces }) {
    this.error = null;
    this.draw();
    try {
      const { run } = await post(`/api/conversations/${conversation}/turns`, { task, agent, replaces, key: id("", 16) });
      begun.set(conversation, waits({ run, task }, agent));
    } catch (error) {
      this.error = error;
      this.draw();
      throw error;
    }
  }

  async stop() {
    for (const turn of this.all().filter((each) => !isOver(each))) {
      await post(`/api/runs/${turn.run}/cancel`, {}).catch((error) => error.status === 409 || ((this.error = error), this.draw()));
    }
  }

  all() {
    return this.order.map((run) => this.turns.get(run));
  }

  // What is being written in a turn and stands in no item of it yet.
  live(turn) {
    const said = new Set(turn.items.map((each) => each.step));
    return Object.entries(this.texts.get(turn.run) ?? {}).filter(([step]) => !said.has(step)).map(([, text]) => text).join("\n\n");
  }

  close() {
    this.closed = true;
    for (const close of this.streams.values()) close();
  }
}

// The conversation of an id; `fresh` ones were never said anything in, and are not asked for.
export function useTalk(conversation, fresh) {
  const [, bump] = useState(0);
  const current = useRef(null);
  const redraw = useCallback(() => bump((n) => n + 1), []);
  if (current.current?.conversation !== conversation) {
    current.current?.close();
    current.current = new Talk(conversation, redraw);
  }
  const talk = current.current;
  useEffect(() => {
    if (!fresh) talk.load();
  }, [talk]);
  useEffect(() => () => current.current?.close(), []);
  return talk;
}

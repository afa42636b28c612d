// The gateway's own API: JSON questions, and streams of events.

let mark = ""; // of this session; no other page can read it

export function bear(csrf) {
  mark = csrf;
}

// What the gateway said instead of an answer: what happened, why, and the next step.
export class Refusal extends Error {
  constructor(status, { what, message, why = "", hint = "", type = "" } = {}) {
    super(what ?? message ?? `HTTP ${status}`);
    Object.assign(this, { status, what: this.message, why, hint, type });
  }
}

let lost = () => {};
// Called when the session has ended.
export const onLost = (then) => (lost = then);

async function send(method, path, body, { signal, headers = {} } = {}) {
  const form = body instanceof FormData || body instanceof Blob;
  const options = { method, signal, headers: { "x-csrf-token": mark, accept: "application/json", ...headers } };
  if (body !== undefined) options.body = form ? body : JSON.stringify(body);
  if (body !== undefined && !form) options.headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, { what: "The gateway does not answer.", why: String(error.message), hint: "milepost status" });
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  if (response.status === 401 && path !== "/api/session") lost();
  throw new Refusal(response.status, said.error);
}

export async function ask(method, path, body, options) {
  const response = await send(method, path, body, options);
  return response.status === 204 ? null : response.json();
}

export const get = (path, options) => ask("GET", path, undefined, options);
export const post = (path, body = {}, options) => ask("POST", path, body, options);
export const put = (path, body, options) => ask("PUT", path, body, options);
export const remove = (path, options) => ask("DELETE", path, undefined, options);

// A stream of server-sent events that a GET opens; it comes back by itself where it broke off. Gives what closes it.
// events: { name: (data, id) => … }; every data is JSON.
export function listen(path, events, { onBroken = () => {}, onOpen = () => {} } = {}) {
  const source = new EventSource(path);
  for (const [name, hear] of Object.entries(events)) {
    source.addEventListener(name, (event) => hear(JSON.parse(event.data), event.lastEventId));
  }
  source.onopen = onOpen;
  source.onerror = () => onBroken(source.readyState === EventSource.CLOSED);
  return () => source.close();
}

// The events that a POST is answered with: [name, data] one after another, until it ends or options.signal aborts it.
export async function* streamed(path, body, options = {}) {
  const response = await send("POST", path, body, { ...options, headers: { accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    left += value;
    const blocks = left.split(/\r?\n\r?\n/);
    left = blocks.pop();
    for (const block of blocks) {
      let name = "message";
      const data = [];
      for (const line of block.split(/\r?\n/)) {
        if (line.startsWith("event:")) name = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
      }
      if (data.length) yield [name, JSON.parse(data.join("\n"))];
    }
  }
}

export const query = (values) => {
  const found = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) if (value !== undefined && value !== null && value !== "") found.set(key, value);
  const text = found.toString();
  return text ? `?${text}` : "";
};

// A chat with the form as it is, unsaved. Nothing is written from here.
import { html, useEffect, useRef, useState } from "../../vendor/preact.js";
import { post } from "../../core/api.js";
import { say } from "../../core/words.js";
import { Icon, Trouble } from "../../parts/basic.js";
import { isOver, newConversation, useTalk } from "../chat/talk.js";
import { Question, Reply } from "../chat/turn.js";
import { Picture } from "./picture.js";
import { style } from "../../core/state.js";

style("/pages/chat.css");

export function Preview({ draft }) {
  const [conversation, setConversation] = useState(newConversation);
  const talk = useTalk(conversation, true);
  const [words, setWords] = useState(""), [error, setError] = useState(null), [sending, setSending] = useState(null);
  const end = useRef(null);
  const turns = talk.all(), busy = sending || turns.some((each) => !isOver(each));
  const length = turns.map((each) => talk.live(each).length + each.items.length).join();
  useEffect(() => end.current?.scrollIntoView({ block: "nearest" }), [length, sending]);
  const ask = async (task) => {
    setWords("");
    setError(null);
    setSending(task);
    try {
      const { run } = await post("/api/agents/preview", { draft: { ...draft, name: draft.name || "draft" }, conversation, task });
      const began = new Date().toISOString();
      talk.turns.set(run, { run, task, agent: draft.name, status: "open", began, items: [], citations: [], approvals: [], questions: [], speaking: [], said: [] });
      talk.order = [...talk.order, run];
      talk.hear(run);
    } catch (thrown) {
      setWords(task);
      setError(thrown);
    }
    setSending(null);
  };
  const submit = (event) => {
    event.preventDefault();
    if (words.trim() && !busy) ask(words.trim());
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  const suggestions = draft.suggestions.filter((each) => each.trim());
  return html`<section class="preview" aria-label=${say("ag.preview")}>
    <div class="turns">
      ${!turns.length && !sending && html`<div class="cover"><${Picture} picture=${draft.picture} title=${draft.title} size=${64} /><h2>${draft.title || say("ag.unnamed")}</h2><p class="soft">${draft.description}</p></div>
        <div class="stack">${suggestions.map((each, n) => html`<button type="button" key=${n} class="chip" disabled=${busy} onClick=${() => ask(each)}>${each}</button>`)}</div>`}
      ${turns.map((turn) => html`<div key=${turn.run} class="turn"><${Question} task=${turn.task} began=${turn.began} /><${Reply} turn=${turn} talk=${talk} agent=${draft} /></div>`)}
      ${sending && html`<div class="turn"><${Question} task=${sending} /></div>`}
      <${Trouble} error=${error ?? talk.error} />
      <div ref=${end}></div>
    </div>
    <form class="composer" onSubmit=${submit}>
      <textarea rows="1" aria-label=${say("ag.p.placeholder")} placeholder=${say("ag.p.placeholder")} value=${words} onInput=${(event) => setWords(event.target.value)} onKeyDown=${keys}></textarea>
      ${turns.some((each) => !isOver(each)) ? html`<button type="button" class="icon-only" aria-label=${say("ag.p.stop")} onClick=${() => talk.stop()}><${Icon} name="stop" /></button>`
        : html`<button class="primary icon-only" aria-label=${say("ag.p.send")} disabled=${!words.trim() || busy}><${Icon} name="send" /></button>`}
    </form>
    <div class="row apart foot"><p class="hint grow">${say("ag.p.safe")}</p>${turns.length > 0 && html`<button type="button" class="small quiet" onClick=${() => setConversation(newConversation())}>${say("ag.p.again")}</button>`}</div>
  </section>`;
}

// Chat: conversations at the left, one of them in the middle, and where one writes below it.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { bind } from "../core/keyboard.js";
import { go, route } from "../core/router.js";
import { may } from "../core/session.js";
import { style, useGet, useStored } from "../core/state.js";
import { learn, say } from "../core/words.js";
import { Icon, Loading, Trouble } from "../parts/basic.js";
import { Composer } from "./chat/composer.js";
import { History, useHistory } from "./chat/history.js";
import { isOver, newConversation, useTalk } from "./chat/talk.js";
import { Question, Reply } from "./chat/turn.js";

style("/pages/chat.css");

learn({
  "chat: title": ["Chat", "对话"],
  "chat: show": ["Show conversations", "显示对话列表"],
  "chat: agent": ["Agent", "智能体"],
  "chat: assistant": ["Assistant", "助手"],
  "chat: new": ["New chat", "新对话"],
  "chat: focus": ["Write a message", "输入消息"],
  "chat: stop": ["Stop the answer", "停止回答"],
  "chat: hello": ["What can I do for you?", "有什么可以帮您？"],
  "chat: hello hint": ["Ask anything. Tools are found as they are needed; what changes something asks you first.", "请直接提问。工具会按需选用；任何修改都会先征求您的同意。"],
  "chat: starter.1": ["What time is it in Shanghai?", "上海现在几点？"],
  "chat: starter.2": ["Make a QR code of https://example.com", "为 https://example.com 生成二维码"],
  "chat: starter.3": ["Which tools do you have?", "你有哪些工具？"],
  "chat: earlier": ["Earlier turns", "更早的消息"],
  "chat: said before": ["Said before, in another conversation", "之前的对话内容"],
  "chat: latest": ["To the latest", "回到最新"],
  "chat: thread": ["Conversation", "对话内容"],
});

function useAgents() {
  const { data } = useGet("/api/agents");
  return useMemo(() => {
    const list = (Array.isArray(data) ? data : (data?.agents ?? [])).filter((each) => each.name === "assistant" || each.serves || each.published);
    const own = list.find((each) => each.name === "assistant") ?? { name: "assistant" };
    return [own, ...list.filter((each) => each !== own)];
  }, [data]);
}

const called = (agent) => (agent.title && !agent.built_in ? agent.title : agent.name === "assistant" ? say("chat: assistant") : agent.name);

// Follows what is written as long as the reader is at the end; scrolling up leaves them in peace.
function useFollow(key) {
  const at = useRef(null), stick = useRef(true);
  const [away, setAway] = useState(false);
  const look = () => {
    const field = at.current;
    stick.current = field.scrollHeight - field.scrollTop - field.clientHeight < 60;
    setAway(!stick.current);
  };
  const down = () => {
    stick.current = true;
    setAway(false);
    if (at.current) at.current.scrollTop = at.current.scrollHeight;
  };
  useLayoutEffect(() => {
    if (stick.current && at.current) at.current.scrollTop = at.current.scrollHeight;
  });
  useEffect(() => {
    const inside = at.current?.firstElementChild;
    if (!inside) return undefined;
    const seen = new ResizeObserver(() => stick.current && at.current && (at.current.scrollTop = at.current.scrollHeight));
    seen.observe(inside); // pictures and parsed text come later
    return () => seen.disconnect();
  }, []);
  useEffect(down, [key]);
  return { at, look, away, down };
}

function Welcome({ agent, onAsk }) {
  const starters = agent.suggestions?.length ? agent.suggestions : agent.name === "assistant" ? [1, 2, 3].map((n) => say(`chat: starter.${n}`)) : [];
  return html`<div class="welcome"><h2>${agent.picture && !agent.picture.startsWith("data:") ? `${agent.picture} ` : ""}${agent.name === "assistant" ? say("chat: hello") : called(agent)}</h2>
    <p class="soft">${(!agent.built_in && agent.description) || say("chat: hello hint")}</p>
    ${may("ask") && html`<div class="starters">${starters.map((each) => html`<button key=${each} onClick=${() => onAsk(each)}>${each}</button>`)}</div>`}</div>`;
}

const Before = ({ said }) => html`<details class="before"><summary>${say("chat: said before")} (${said.length})</summary>
  ${said.map((each, n) => html`<div key=${n} class=${each.role === "user" ? "mine" : "reply"}><div class=${each.role === "user" ? "bubble" : "body"}>${each.text}</div></div>`)}</details>`;

export default function Chat({ conversation }) {
  const fresh = useRef(null); // the conversation that begins here, until it has an address
  if (!conversation && (!fresh.current || fresh.current.used)) fresh.current = { id: newConversation(), used: false };
  if (conversation && fresh.current?.id === conversation) fresh.current.used = true;
  const id = conversation ?? fresh.current.id;
  const talk = useTalk(id, !conversation);
  const agents = useAgents();
  const history = useHistory();
  const [chosen, setChosen] = useState(null);
  const [draft, setDraft] = useState("");
  const [listed, setListed] = useStored("chat.list", true);
  const [drawer, setDrawer] = useState(false);
  const { at, look, away, down } = useFollow(id);
  const turns = talk.all(), running = turns.some((each) => !isOver(each));
  const name = chosen ?? route.value.query.agent ?? (talk.agent || "assistant");
  const agent = agents.find((each) => each.name === name) ?? { name };
  const face = (turn) => agents.find((each) => each.name === turn.agent) ?? { name: turn.agent };

  useEffect(() => {
    setChosen(null);
    setDrawer(false);
  }, [id]);
  const focus = () => document.getElementById("composer")?.focus();
  const begin = () => {
    fresh.current = null;
    go("/");
    setDrawer(false);
    setTimeout(focus);
  };
  const latest = useRef(null);
  latest.current = { talk, begin };
  useEffect(() => {
    if (matchMedia("(min-width: 761px)").matches) focus();
    const bound = [
      bind("n", () => say("chat: new"), () => latest.current.begin()),
      bind("/", () => say("chat: focus"), focus),
      bind("Escape", () => say("chat: stop"), () => latest.current.talk.stop()),
    ];
    return () => bound.forEach((unbind) => unbind());
  }, []);

  const send = async (task) => {
    setDraft("");
    down();
    try {
      await talk.ask(task, { agent: name });
      if (!conversation) go(`/chat/${id}`, { replace: true });
    } catch {
      setDraft((now) => now || task); // talk.error says why
    }
  };
  // An earlier question asked otherwise, or again: a conversation of its own, with what was said before it.
  const branch = async (turn, task) => {
    const next = newConversation();
    try {
      await talk.branch(next, task, { agent: turn.agent === agent.name || !agents.some((each) => each.name === turn.agent) ? name : turn.agent, replaces: turn.run });
      go(`/chat/${next}`);
    } catch {
      // talk.error says why
    }
  };
  const toggle = () => (matchMedia("(max-width: 760px)").matches ? setDrawer(!drawer) : setListed(!listed));
  const said = turns[0]?.said ?? [];
  return html`<div class=${`chat ${listed ? "" : "alone"} ${drawer ? "drawn" : ""}`}>
    <${History} history=${history} current=${conversation} onNew=${begin} onHide=${toggle} />
    ${drawer && html`<button class="veil" aria-label=${say("chat: show")} onClick=${() => setDrawer(false)}></button>`}
    <section class="talk" aria-label=${say("chat: thread")}>
      <header class="row">
        <button class="quiet icon-only lister" aria-label=${say("chat: show")} title=${say("chat: show")} onClick=${toggle}><${Icon} name="menu" /></button>
        <h1 class="hidden">${say("chat: title")}</h1>
        <label class="picker"><span class="hidden">${say("chat: agent")}</span><select value=${name} onChange=${(event) => setChosen(event.target.value)}>
          ${(agents.some((each) => each.name === name) ? agents : [agent, ...agents]).map((each) => html`<option key=${each.name} value=${each.name}>${each.picture && !each.picture.startsWith("data:") ? `${each.picture} ` : ""}${called(each)}</option>`)}
        </select></label>
        <span class="grow"></span>
        <button class="quiet small beginner" onClick=${begin}><${Icon} name="plus" />${say("chat: new")}</button>
      </header>
      <div class="scroll" ref=${at} onScroll=${look} tabindex="0" role="log" aria-live="off" aria-label=${say("chat: thread")}>
        <div class="thread">
          ${talk.loading && !turns.length && html`<${Loading} />`}
          ${talk.more && html`<button class="quiet small" onClick=${() => talk.load(talk.more)}>${say("chat: earlier")}</button>`}
          ${said.length > 0 && html`<${Before} said=${said} />`}
          ${!talk.loading && !turns.length && !talk.sending && html`<${Welcome} agent=${agent} onAsk=${send} />`}
          ${turns.map((turn) => html`<article key=${turn.run} class="turn" data-testid="turn">
            <${Question} task=${turn.task} began=${turn.began} onEdit=${may("ask") && isOver(turn) ? (text) => branch(turn, text) : null} />
            <${Reply} turn=${turn} talk=${talk} agent=${face(turn)} called=${called(face(turn))} onRetry=${may("ask") ? () => branch(turn, turn.task) : null} />
          </article>`)}
          ${talk.sending && html`<article class="turn"><${Question} task=${talk.sending.task} /><${Loading} /></article>`}
          <${Trouble} error=${talk.error} />
        </div>
      </div>
      ${away && html`<button class="latest small" onClick=${down}><${Icon} name="down" />${say("chat: latest")}</button>`}
      <${Composer} conversation=${id} agent=${called(agent)} allowed=${may("ask")} running=${running} withFiles=${talk.files} draft=${draft} onDraft=${setDraft}
        onSend=${send} onStop=${() => talk.stop()} onFile=${() => { talk.files = true; talk.draw(); }} />
    </section>
  </div>`;
}

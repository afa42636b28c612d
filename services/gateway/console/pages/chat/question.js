// What a tool wants to know before it goes on: a small form, made of the fields that it asks for.
import { html, useState } from "../../vendor/preact.js";
import { post } from "../../core/api.js";
import { useWork } from "../../core/state.js";
import { learn, say } from "../../core/words.js";
import { Field, Trouble } from "../../parts/basic.js";
import { Context, Left, Verdict } from "../../parts/approval.js";

learn({
  "question: {tool} asks": ["{tool} asks", "{tool} 询问"],
  "question: answer": ["Answer", "回答"],
  "question: decline": ["I would rather not say", "不回答"],
  "question: secret": ["{name} is a secret: what is answered here stands in the log. Give it to the tool where it is kept.",
    "{name} 是机密：此处的回答会写入日志。请在工具的设置中提供。"],
  "question: yes": ["yes", "是"],
  "question: optional": ["optional", "可选"],
  "question: choose": ["Choose…", "请选择…"],
});

const typeOf = (field) => (Array.isArray(field.type) ? field.type.find((each) => each !== "null") : field.type);

function read(field, text) {
  if (typeOf(field) === "boolean") return Boolean(text);
  if (text === "" || text === undefined) return undefined;
  return ["number", "integer"].includes(typeOf(field)) ? Number(text) : text;
}

function Input({ id, field, value, onInput, required }) {
  if (Array.isArray(field.enum)) {
    return html`<select id=${id} required=${required} value=${value ?? ""} onChange=${(event) => onInput(event.target.value)}>
      <option value="">${say("question: choose")}</option>${field.enum.map((each, n) => html`<option key=${each} value=${each}>${field.enumNames?.[n] ?? String(each)}</option>`)}</select>`;
  }
  if (typeOf(field) === "boolean") {
    return html`<label class="row"><input id=${id} type="checkbox" checked=${Boolean(value)} onChange=${(event) => onInput(event.target.checked)} /> ${say("question: yes")}</label>`;
  }
  const numeric = ["number", "integer"].includes(typeOf(field));
  const kind = numeric ? "number" : ({ email: "email", uri: "url", date: "date" }[field.format] ?? "text");
  return html`<input id=${id} type=${kind} required=${required} min=${field.minimum} max=${field.maximum} step=${typeOf(field) === "integer" ? 1 : "any"}
    minlength=${field.minLength} maxlength=${field.maxLength} value=${value ?? ""} onInput=${(event) => onInput(event.target.value)} />`;
}

export function QuestionCard({ question, onAnswered, context = false }) {
  const fields = Object.entries(question.fields.properties ?? {}).map(([name, field]) => [name, field ?? {}]);
  const needed = new Set(question.fields.required ?? []);
  const [values, setValues] = useState(() => Object.fromEntries(fields.filter(([, field]) => "default" in field).map(([name, field]) => [name, field.default])));
  const [send, { busy, error }] = useWork(async (accepted) => {
    const content = {};
    if (accepted) for (const [name, field] of fields) {
      const value = read(field, values[name]);
      if (value !== undefined) content[name] = value;
    }
    await post(`/api/questions/${question.run}/${question.id}`, { accepted, content });
    onAnswered?.(question);
  });
  const submit = (event) => {
    event.preventDefault();
    send(true);
  };
  const waits = question.state === "waiting";
  const name = question.title || question.tool;
  return html`<article class=${`approval card ${waits ? "waits" : ""}`} aria-label=${say("question: {tool} asks", { tool: name })} data-testid="question">
    <header class="row apart"><h3>${say("question: {tool} asks", { tool: name })}</h3>${waits && html`<${Left} until=${question.expires} />`}</header>
    <p class="summary">${question.text}</p>
    ${context && html`<${Context} asked=${question} />`}
    ${!waits && html`<${Verdict} asked=${question} />`}
    ${waits && question.secret && html`<p class="soft">${say("question: secret", { name: question.secret })}</p>`}
    ${waits && html`<form class="stack" onSubmit=${submit}>
      ${question.may && fields.map(([each, field]) => html`<${Field} key=${each} label=${`${field.title ?? each}${needed.has(each) || typeOf(field) === "boolean" ? "" : ` (${say("question: optional")})`}`} hint=${field.description}>
        ${(id) => html`<${Input} id=${id} field=${field} value=${values[each]} required=${needed.has(each)} onInput=${(value) => setValues({ ...values, [each]: value })} />`}<//>`)}
      <div class="row">${question.may && html`<button class="primary" disabled=${busy}>${say("question: answer")}</button>`}
        ${(question.may || question.secret) && html`<button type="button" class="quiet" disabled=${busy} onClick=${() => send(false)}>${say("question: decline")}</button>`}</div>
    </form>`}
    <${Trouble} error=${error} />
  </article>`;
}

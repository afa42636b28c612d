// A form made of a JSON schema of an object: text, numbers, choices, yes and no, lists; what is deeper is written as JSON.
import { html, useState } from "../vendor/preact.js";
import { learn, say } from "../core/words.js";
import { Field } from "./basic.js";

learn({
  "form.more": ["{n} more that need not be given", "另外 {n} 个可选参数"],
  "form.needed": ["needed", "必填"],
  "form.lines": ["one a line", "每行一个"],
  "form.json": ["as JSON", "以 JSON 填写"],
  "form.no json": ["This is no JSON: {why}", "不是有效的 JSON：{why}"],
  "form.none": ["It takes no arguments.", "不需要参数。"],
  "form.yes": ["yes", "是"],
  "form.no": ["no", "否"],
});

const kindOf = (schema) => {
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives) {
    const [one, ...others] = alternatives.filter((each) => each.type !== "null");
    return one && !others.length ? kindOf(one) : "json";
  }
  if (Array.isArray(schema.enum)) return "enum";
  const type = Array.isArray(schema.type) ? schema.type.find((each) => each !== "null") : schema.type;
  if (type === "array") return ["string", "number", "integer"].includes(schema.items?.type) ? "list" : "json";
  return type === "object" || !type ? "json" : type;
};
const choicesOf = (schema) => schema.enum ?? (schema.anyOf ?? schema.oneOf)?.find((each) => each.enum)?.enum ?? [];

// What is needed and not there.
export const missing = (schema, value) => (schema?.required ?? []).filter((name) => value[name] === undefined);

// How a type reads in a table of parameters.
export function typeOf(schema) {
  const kind = kindOf(schema);
  if (kind === "enum") return choicesOf(schema).map((each) => JSON.stringify(each)).join(" | ");
  if (kind === "list") return `${schema.items.type}[]`;
  return kind === "json" ? (schema.type ?? "any") : kind + (schema.format ? ` (${schema.format})` : "");
}

function Written({ id, value, onChange, onWrong }) {
  const [text, setText] = useState(value === undefined ? "" : JSON.stringify(value, null, 1));
  const write = (event) => {
    setText(event.target.value);
    if (!event.target.value.trim()) return onWrong(null) ?? onChange(undefined);
    try {
      onChange(JSON.parse(event.target.value));
      onWrong(null);
    } catch (error) {
      onWrong(say("form.no json", { why: error.message }));
    }
  };
  return html`<textarea id=${id} class="mono" rows="3" spellcheck=${false} value=${text} onInput=${write}></textarea>`;
}

function Input({ id, schema, value, onChange, onWrong }) {
  const kind = kindOf(schema), text = (event) => event.target.value;
  const shown = schema.default === undefined ? "" : String(schema.default);
  if (kind === "enum") {
    const choices = choicesOf(schema);
    return html`<select id=${id} value=${value === undefined ? "" : String(choices.indexOf(value))} onChange=${(event) => onChange(text(event) === "" ? undefined : choices[Number(text(event))])}>
      <option value="">${shown && `(${shown})`}</option>${choices.map((each, n) => html`<option key=${n} value=${n}>${String(each)}</option>`)}</select>`;
  }
  if (kind === "boolean") {
    return html`<select id=${id} value=${value === undefined ? "" : String(value)} onChange=${(event) => onChange(text(event) === "" ? undefined : text(event) === "true")}>
      <option value="">${shown && `(${shown})`}</option><option value="true">${say("form.yes")}</option><option value="false">${say("form.no")}</option></select>`;
  }
  if (kind === "integer" || kind === "number") {
    return html`<input id=${id} type="number" step=${kind === "integer" ? 1 : "any"} min=${schema.minimum} max=${schema.maximum} placeholder=${shown} value=${value ?? ""}
      onInput=${(event) => onChange(text(event) === "" ? undefined : Number(text(event)))} />`;
  }
  if (kind === "list") {
    const read = (line) => (schema.items.type === "string" ? line : Number(line));
    const write = (event) => {
      const lines = text(event).split("\n").filter((each) => each.trim());
      onChange(lines.length ? lines.map(read) : undefined);
    };
    return html`<textarea id=${id} rows="2" placeholder=${say("form.lines")} onInput=${write}>${(value ?? []).join("\n")}</textarea>`;
  }
  if (kind === "json") return html`<${Written} id=${id} value=${value} onChange=${onChange} onWrong=${onWrong} />`;
  if ((schema.maxLength ?? 0) > 300 || schema.format === "textarea") {
    return html`<textarea id=${id} rows="3" value=${value ?? ""} placeholder=${shown} onInput=${(event) => onChange(text(event) || undefined)}></textarea>`;
  }
  const type = { password: "password", email: "email", date: "date", uri: "url" }[schema.format] ?? "text";
  return html`<input id=${id} type=${type} value=${value ?? ""} placeholder=${shown} onInput=${(event) => onChange(text(event) || undefined)} />`;
}

function Line({ name, schema, needed, value, onChange, onValid }) {
  const [wrong, setWrong] = useState(null);
  const mark = (why) => {
    setWrong(why);
    onValid?.(name, !why);
  };
  const hint = [schema.description, kindOf(schema) === "json" && say("form.json")].filter(Boolean).join(" · ");
  return html`<${Field} label=${html`<span class="mono">${schema.title ?? name}</span>${needed && html` <span class="faint">${say("form.needed")}</span>`}`} hint=${hint.slice(0, 300)} error=${wrong}>
    ${(id) => html`<${Input} id=${id} schema=${schema} value=${value} onChange=${onChange} onWrong=${mark} />`}<//>`;
}

// schema: of an object; value: what is filled in; onChange(value); onValid(name, ok): a field's JSON can be read, or not.
export function SchemaForm({ schema, value, onChange, onValid }) {
  const properties = Object.entries(schema?.properties ?? {}), needed = new Set(schema?.required ?? []);
  if (!properties.length) return html`<p class="soft">${say("form.none")}</p>`;
  const first = properties.filter(([name]) => needed.has(name)), rest = properties.filter(([name]) => !needed.has(name));
  const change = (name) => (next) => {
    const changed = { ...value, [name]: next };
    if (next === undefined) delete changed[name];
    onChange(changed);
  };
  const line = ([name, each]) => html`<${Line} key=${name} name=${name} schema=${each ?? {}} needed=${needed.has(name)} value=${value[name]} onChange=${change(name)} onValid=${onValid} />`;
  const few = rest.length <= 4;
  return html`<div class="stack schema-form">${first.map(line)}${few && rest.map(line)}
    ${!few && html`<details><summary>${say("form.more", { n: rest.length })}</summary><div class="stack">${rest.map(line)}</div></details>`}</div>`;
}

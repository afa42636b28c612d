// Keys of the door: who may come in, made here and shown once, and revoked.
import { html, useState } from "../../vendor/preact.js";
import { post, remove } from "../../core/api.js";
import { ago, moment } from "../../core/format.js";
import { useGet, useWork } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Badge, Copy, Dialog, Field, Icon, Loading, Trouble } from "../../parts/basic.js";

const ROLES = ["viewer", "operator", "approver", "builder", "admin"];

function Made({ made, onClose }) {
  return html`<${Dialog} title=${say("sy.key made")} onClose=${onClose}><p>${say("sy.key once")}</p><pre class="secret">${made.text}</pre><div class="row"><${Copy} text=${made.text} /><button class="primary" onClick=${onClose}>${say("sy.key kept")}</button></div><//>`;
}

function Add({ onClose, onMade }) {
  const [values, setValues] = useState({ name: "", user: "", days: "90" }), [roles, setRoles] = useState(new Set(["operator"]));
  const [make, { busy, error }] = useWork(async () => onMade(await post("/api/system/keys", { name: values.name, user: values.user || null, roles: ROLES.filter((each) => roles.has(each)), days: values.days ? Number(values.days) : null })));
  const set = (name) => (event) => setValues({ ...values, [name]: event.target.value });
  const toggle = (role) => () => {
    const next = new Set(roles);
    if (!next.delete(role)) next.add(role);
    setRoles(next);
  };
  return html`<${Dialog} title=${say("sy.add key")} onClose=${onClose}><form class="stack" onSubmit=${(event) => { event.preventDefault(); make(); }}>
    <${Field} label=${say("sy.key name")}>${(id) => html`<input id=${id} required maxlength="200" autofocus value=${values.name} onInput=${set("name")} />`}<//>
    <${Field} label=${say("sy.key user")} hint=${say("sy.key user hint")}>${(id) => html`<input id=${id} pattern="[A-Za-z0-9_\\-]{1,64}" value=${values.user} onInput=${set("user")} />`}<//>
    <fieldset class="roles"><legend>${say("sy.key roles")}</legend>${ROLES.map((role) => html`<label key=${role} class="row"><input type="checkbox" checked=${roles.has(role)} onChange=${toggle(role)} /><span>${role}</span> <span class="faint">${say(`sy.role ${role}`)}</span></label>`)}</fieldset>
    <${Field} label=${say("sy.key days")} hint=${say("sy.key days hint")}>${(id) => html`<input id=${id} type="number" min="1" max="3650" value=${values.days} onInput=${set("days")} />`}<//>
    <${Trouble} error=${error} /><div class="row"><button class="primary" disabled=${busy || !values.name.trim() || !roles.size}>${say("sy.make")}</button></div></form><//>`;
}

function Revoke({ of, onGone }) {
  const [sure, setSure] = useState(false);
  const [work, { busy, error }] = useWork(async () => {
    await remove(`/api/system/keys/${of.id}`);
    onGone();
  });
  if (error) return html`<${Trouble} error=${error} />`;
  return sure ? html`<button class="small danger" disabled=${busy} onClick=${work}>${say("sy.revoke sure")}</button>` : html`<button class="quiet small" onClick=${() => setSure(true)}>${say("sy.revoke")}</button>`;
}

const stateOf = (key) => (key.revoked ? ["bad", "sy.revoked"] : key.expires && new Date(key.expires) < Date.now() ? ["warn", "sy.expired"] : ["good", "sy.good"]);

export function Keys() {
  const { data, error, again } = useGet("/api/system/keys"), [adding, setAdding] = useState(false), [made, setMade] = useState(null);
  return html`<section class="stack" id="keys" aria-label=${say("sy.keys")}><div class="row apart"><h2>${say("sy.keys")}</h2><button class="small" onClick=${() => setAdding(true)}><${Icon} name="plus" />${say("sy.add key")}</button></div>
    <${Trouble} error=${error} />${!data && !error && html`<${Loading} />`}
    ${data && !data.keys.length && html`<p class="soft">${say("sy.no keys")}</p>`}
    ${data?.keys.length > 0 && html`<div class="table"><table><thead><tr><th>${say("sy.key name")}</th><th>${say("sy.key user")}</th><th>${say("sy.key roles")}</th><th>${say("sy.made")}</th><th>${say("sy.until")}</th><td></td></tr></thead>
      <tbody>${data.keys.map((each) => { const [kind, words] = stateOf(each); return html`<tr key=${each.id}><td>${each.name} <span class="faint mono">${each.id}</span></td><td>${each.user}</td><td>${each.roles.join(", ")}</td><td title=${moment(each.created)}>${ago(each.created)}</td>
        <td><${Badge} kind=${kind} title=${moment(each.expires ?? each.revoked)}>${say(words)}<//> ${!each.revoked && each.expires && html`<span class="faint">${moment(each.expires)}</span>`}</td><td>${!each.revoked && html`<${Revoke} of=${each} onGone=${again} />`}</td></tr>`; })}</tbody></table></div>`}
    ${adding && html`<${Add} onClose=${() => setAdding(false)} onMade=${(key) => { setAdding(false); setMade(key); again(); }} />`}
    ${made && html`<${Made} made=${made} onClose=${() => setMade(null)} />`}</section>`;
}

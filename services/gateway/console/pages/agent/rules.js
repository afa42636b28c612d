// What the agent may do without a person, and rules of its own; conditions beyond tools and effects are written in YAML.
import { html } from "../../vendor/preact.js";
import { say } from "../../core/words.js";
import { Field, Icon } from "../../parts/basic.js";

const THEN = ["ask", "dry_run", "deny", "allow"];
const known = (rule) => Object.entries(rule.when ?? {}).every(([name, value]) => name === "tools" || value === null || (Array.isArray(value) ? !value.length : typeof value === "object" && !Object.keys(value).length))
  && !rule.approvers?.length && !rule.four_eyes && !rule.expires_s;

export function Rules({ spec, change }) {
  const rules = spec.policy ?? [];
  const put = (at, values) => change({ policy: rules.map((each, n) => (n === at ? { ...each, ...values } : each)) });
  const fresh = () => {
    let n = rules.length + 1;
    while (rules.some((each) => each.name === `rule-${n}`)) n += 1;
    change({ policy: [...rules, { name: `rule-${n}`, when: { tools: ["*"] }, then: "ask", why: "" }] });
  };
  return html`<fieldset><legend>${say("ag.f.safety")}</legend>
    <${Field} label=${say("ag.f.approval")}>${(id) => html`<select id=${id} value=${spec.approval} onChange=${(event) => change({ approval: event.target.value })}>
      ${["writes", "destructive", "never"].map((each) => html`<option key=${each} value=${each}>${say(`ag.a.${each}`)}</option>`)}</select>`}<//>
    <h3>${say("ag.f.rules")}</h3><p class="hint">${say("ag.f.rules hint")}</p>
    <ol class="rules">${rules.map((rule, at) => html`<li key=${at}>
      <input aria-label=${say("ag.f.rule name")} class="mono" value=${rule.name} onInput=${(event) => put(at, { name: event.target.value.replace(/[^A-Za-z0-9_-]/g, "-") })} />
      <input aria-label=${say("ag.f.rule tools")} class="mono" value=${(rule.when?.tools ?? []).join(", ")} placeholder=${say("ag.f.rule tools")}
        onChange=${(event) => put(at, { when: { ...rule.when, tools: event.target.value.split(",").map((each) => each.trim()).filter(Boolean) } })} />
      <select aria-label=${say("ag.f.rule then")} value=${rule.then} onChange=${(event) => put(at, { then: event.target.value })}>${THEN.map((each) => html`<option key=${each} value=${each}>${say(`ag.o.${each}`)}</option>`)}</select>
      <input aria-label=${say("ag.f.rule why")} value=${rule.why ?? ""} placeholder=${say("ag.f.rule why")} onInput=${(event) => put(at, { why: event.target.value })} />
      <button type="button" class="quiet icon-only" aria-label=${say("ag.f.remove", { name: rule.name })} onClick=${() => change({ policy: rules.filter((_, n) => n !== at) })}><${Icon} name="x" /></button>
      ${!known(rule) && html`<p class="hint">${say("ag.f.rule more")}</p>`}
    </li>`)}</ol>
    <button type="button" class="small" onClick=${fresh}><${Icon} name="plus" />${say("ag.f.add rule")}</button>
  </fieldset>`;
}

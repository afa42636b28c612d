// Under which names an agent answers, and publishing it.
import { html } from "../../vendor/preact.js";
import { post } from "../../core/api.js";
import { session } from "../../core/session.js";
import { useWork } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Copy, Empty, Trouble } from "../../parts/basic.js";

function Way({ label, text, hint }) {
  return html`<div class="way"><div class="row apart"><h3>${label}</h3><${Copy} text=${text} /></div><pre><code>${text}</code></pre>${hint && html`<p class="hint">${hint}</p>`}</div>`;
}

export function Publish({ agent, mine, dirty, onChanged }) {
  const [act, { busy, error }] = useWork(async (work) => {
    await work();
    onChanged();
  });
  if (!agent) return html`<${Empty} title=${say("ag.u.not saved")}><//>`;
  const { name } = agent, where = location.origin;
  const subject = `agents.prompt.milepost.${session.value.tenant}.${name}`;
  const python = `from openai import OpenAI\n\nclient = OpenAI(base_url="${where}/v1", api_key="KEY")\nanswer = client.chat.completions.create(\n    model="${name}", messages=[{"role": "user", "content": "Hello"}]\n)\nprint(answer.choices[0].message.content)`;
  const curl = `curl ${where}/v1/chat/completions \\\n  -H "Authorization: Bearer KEY" -H "Content-Type: application/json" \\\n  -d '{"model": "${name}", "messages": [{"role": "user", "content": "Hello"}]}'`;
  const older = agent.serves && agent.serves !== agent.version;
  return html`<div class="publish stack">
    <p>${agent.serves ? say("ag.u.is", { n: agent.serves }) : say("ag.u.not")}</p>
    ${dirty && html`<p class="hint">${say("ag.u.dirty")}</p>`}
    <${Trouble} error=${error} />
    ${mine && !agent.built_in && html`<div class="row">
      ${(!agent.serves || older) && html`<button class="primary" disabled=${busy} onClick=${() => act(() => post(`/api/agents/${name}/publish`, { version: agent.version }))}>${say("ag.u.go", { n: agent.version })}</button>`}
      ${agent.serves && html`<button disabled=${busy} onClick=${() => act(() => post(`/api/agents/${name}/unpublish`))}>${say("ag.u.stop")}</button>`}</div>`}
    ${agent.serves && html`
      <${Way} label=${say("ag.u.link")} text=${`${where}/chat?agent=${name}`} />
      <${Way} label=${say("ag.u.api")} text=${curl} hint=${say("ag.u.key")} />
      <${Way} label=${say("ag.u.python")} text=${python} />
      <${Way} label=${say("ag.u.bus")} text=${`nats req ${subject} 'Hello' --replies=0 --reply-timeout=30s`} />
      <${Way} label=${say("ag.u.cli")} text=${`milepost ask --agent ${name} "Hello"`} />`}
  </div>`;
}

// The form as text, both ways.
import { html, useEffect, useState } from "../../vendor/preact.js";
import { post } from "../../core/api.js";
import { useWork } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Copy, Icon, Loading, Trouble } from "../../parts/basic.js";

export function Yaml({ draft, setDraft, mine, isNew }) {
  const [text, setText] = useState(null), [written, setWritten] = useState(null);
  const [write, writing] = useWork(async () => {
    const said = await post("/api/agents/write", { ...draft, name: draft.name || "draft" });
    setText(said.text);
    setWritten(said.text);
  });
  const [apply, applying] = useWork(async () => {
    const read = await post("/api/agents/read", { text, form: "yaml" });
    setDraft(isNew ? read : { ...read, name: draft.name });
    setWritten(text);
    return true;
  });
  useEffect(() => void write(), []);
  const save = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/yaml" }));
    link.download = `${draft.name || "agent"}.yaml`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const submit = (event) => {
    event.preventDefault();
    apply();
  };
  if (text === null) return html`<${Trouble} error=${writing.error} again=${write} />${writing.busy && html`<${Loading} />`}`;
  const same = text === written;
  return html`<form class="yaml stack" onSubmit=${submit}>
    <p class="hint">${say("ag.y.hint")}</p>
    <textarea class="mono" spellcheck="false" aria-label=${say("ag.yaml")} readonly=${!mine} rows=${Math.max(16, text.split("\n").length + 1)} value=${text} onInput=${(event) => setText(event.target.value)}></textarea>
    <${Trouble} error=${applying.error ?? writing.error} />
    <div class="row">${mine && html`<button class="primary small" disabled=${same || applying.busy}>${say("ag.y.apply")}</button>`}
      ${!same && html`<button type="button" class="small" onClick=${write}>${say("ag.y.reset")}</button>`}
      <${Copy} text=${text} /><button type="button" class="small quiet" onClick=${save}><${Icon} name="download" />${say("ag.y.download")}</button></div>
  </form>`;
}

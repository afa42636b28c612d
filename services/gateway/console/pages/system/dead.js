// Messages that nobody could read: why, what they were, sent again or thrown away.
import { html, useEffect, useState } from "../../vendor/preact.js";
import { post, remove } from "../../core/api.js";
import { ago, bytes, moment, number } from "../../core/format.js";
import { useGet, useWork } from "../../core/state.js";
import { say } from "../../core/words.js";
import { Badge, Trouble } from "../../parts/basic.js";

function Letter({ letter, onGone }) {
  const [shown, setShown] = useState(false);
  const [again, { busy, error }] = useWork(async () => {
    const { subject } = await post(`/api/system/dead/${letter.id}/requeue`);
    onGone(say("sy.sent to", { subject }));
  });
  const [discard, discarding] = useWork(async () => {
    await remove(`/api/system/dead/${letter.id}`);
    onGone(say("sy.discarded"));
  });
  return html`<li class="card stack letter">
    <div class="row apart"><span class="row"><${Badge} kind="warn">${letter.role}<//><span class="mono cut">${letter.subject}</span></span><span class="faint" title=${moment(letter.at)}>${ago(letter.at)} · ${bytes(letter.bytes)}</span></div>
    <p>${letter.why}</p><${Trouble} error=${error ?? discarding.error} />
    <div class="row"><button class="small" disabled=${busy || !letter.again} title=${letter.why_not} onClick=${again}>${say("sy.requeue")}</button><button class="small danger" disabled=${discarding.busy} onClick=${discard}>${say("sy.discard")}</button>
      <button class="quiet small" aria-expanded=${shown} onClick=${() => setShown(!shown)}>${say("sy.look")}</button>${letter.why_not && html`<span class="faint">${letter.why_not}</span>`}</div>
    ${shown && html`<pre>${letter.text}</pre>`}</li>`;
}

export function Dead({ count }) {
  const { data, error, again } = useGet("/api/system/dead"), [said, setSaid] = useState("");
  useEffect(() => void again(), [count]);
  const letters = data?.letters ?? [];
  const gone = (words) => {
    setSaid(words);
    again();
  };
  return html`<section class="stack" id="dead" aria-label=${say("sy.letters")}><div class="row apart"><h2>${say("sy.letters")}</h2><span class="faint num">${number(letters.length)}</span></div>
    <${Trouble} error=${error} /><p class="soft" role="status">${said}</p>
    ${letters.length ? html`<ul class="stack">${letters.map((each) => html`<${Letter} key=${each.id} letter=${each} onGone=${gone} />`)}</ul>` : data && html`<p class="soft">${say("sy.no dead")}</p>`}</section>`;
}

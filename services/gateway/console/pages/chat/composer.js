// Where one writes: enter sends, shift+enter makes a line; files by button, paste or drop; stop while something runs.
import { html, useEffect, useRef, useState } from "../../vendor/preact.js";
import { ask } from "../../core/api.js";
import { learn, say } from "../../core/words.js";
import { Icon } from "../../parts/basic.js";

learn({
  "composer: message": ["Message", "消息"],
  "composer: ask {agent}": ["Ask {agent}…", "向 {agent} 提问…"],
  "composer: send": ["Send", "发送"],
  "composer: stop": ["Stop", "停止"],
  "composer: attach": ["Attach a document", "添加文档"],
  "composer: drop": ["Drop documents here", "将文档拖到此处"],
  "composer: no images": ["the model does not see images", "模型无法查看图片"],
  "composer: uploading": ["reading…", "读取中…"],
  "composer: is in": ["can be asked about", "可以提问了"],
  "composer: forget file": ["Dismiss", "移除"],
  "composer: read only": ["Your role reads only: somebody with the role operator can ask.", "您的角色只能查看：需要 operator 角色才能提问。"],
  "composer: with files": ["Documents of this conversation are read for each answer.", "回答时会查阅本次对话的文档。"],
});

function Files({ files, onForget }) {
  if (!files.length) return null;
  return html`<ul class="files row">${files.map((each) => html`<li key=${each.key} class=${`chip ${each.state}`}>
    <${Icon} name="file" /><span class="cut">${each.name}</span><span class="faint">${each.state === "uploading" ? say("composer: uploading") : each.why || say("composer: is in")}</span>
    ${each.state !== "uploading" && html`<button class="quiet small" aria-label=${`${say("composer: forget file")} ${each.name}`} onClick=${() => onForget(each)}><${Icon} name="x" /></button>`}</li>`)}</ul>`;
}

export function Composer({ conversation, agent, allowed, running, withFiles, draft, onDraft, onSend, onStop, onFile }) {
  const at = useRef(null), pick = useRef(null);
  const [files, setFiles] = useState([]);
  const [over, setOver] = useState(false);
  useEffect(() => setFiles([]), [conversation]);
  useEffect(() => {
    const field = at.current;
    if (!field) return;
    field.style.height = "auto";
    field.style.height = `${Math.min(field.scrollHeight + 2, innerHeight * 0.4)}px`;
  }, [draft]);
  const uploading = files.some((each) => each.state === "uploading");
  const send = () => {
    if (!draft.trim() || uploading || !allowed) return;
    onSend(draft.trim());
    setFiles(files.filter((each) => each.state === "bad"));
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === "Escape" && running) onStop();
  };
  const take = async (list) => {
    for (const file of list) {
      const key = `${file.name} ${Date.now()} ${Math.random()}`;
      const put = (fields) => setFiles((before) => [...before.filter((each) => each.key !== key), { key, name: file.name, ...fields }]);
      if (file.type.startsWith("image/")) {
        put({ state: "bad", why: say("composer: no images") });
        continue;
      }
      put({ state: "uploading" });
      try {
        const body = new FormData();
        body.append("file", file, file.name);
        const became = await ask("POST", `/api/conversations/${conversation}/files`, body);
        const fine = ["added", "unchanged"].includes(became.state);
        put(fine ? { state: "good" } : { state: "bad", why: became.why || became.state });
        if (fine) onFile();
      } catch (error) {
        put({ state: "bad", why: `${error.what} ${error.why ?? ""}` });
      }
    }
  };
  const paste = (event) => {
    if (!event.clipboardData?.files.length) return;
    event.preventDefault();
    take([...event.clipboardData.files]);
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    take([...event.dataTransfer.files]);
  };
  if (!allowed) return html`<p class="composer soft">${say("composer: read only")}</p>`;
  return html`<form class=${`composer ${over ? "over" : ""}`} onSubmit=${(event) => { event.preventDefault(); send(); }}
      onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <${Files} files=${files} onForget=${(file) => setFiles(files.filter((each) => each !== file))} />
    ${over && html`<p class="drop">${say("composer: drop")}</p>`}
    <div class="line">
      <button type="button" class="quiet icon-only" title=${say("composer: attach")} aria-label=${say("composer: attach")} onClick=${() => pick.current.click()}><${Icon} name="plus" /></button>
      <input ref=${pick} type="file" multiple hidden tabindex="-1" aria-hidden="true" onChange=${(event) => { take([...event.target.files]); event.target.value = ""; }} />
      <textarea ref=${at} id="composer" rows="1" maxlength="100000" aria-label=${say("composer: message")} placeholder=${say("composer: ask {agent}", { agent })} value=${draft}
        onInput=${(event) => onDraft(event.target.value)} onKeyDown=${keys} onPaste=${paste}></textarea>
      ${running && !draft.trim() ? html`<button type="button" class="danger icon-only" title=${say("composer: stop")} aria-label=${say("composer: stop")} onClick=${onStop}><${Icon} name="stop" /></button>`
        : html`<button class="primary icon-only" title=${say("composer: send")} aria-label=${say("composer: send")} disabled=${!draft.trim() || uploading}><${Icon} name="send" /></button>`}
    </div>
    ${withFiles && html`<p class="faint small">${say("composer: with files")}</p>`}
  </form>`;
}

// What tools gave beside text: pictures, sound, films, files, tables. Bytes come from this gateway; other addresses are links.
import { html } from "../../vendor/preact.js";
import { bytes } from "../../core/format.js";
import { learn, say } from "../../core/words.js";
import { Icon } from "../../parts/basic.js";
import { Json } from "../../parts/json.js";

learn({
  "media: download": ["Download", "下载"],
  "media: picture": ["Picture from {tool}", "{tool} 生成的图片"],
  "media: elsewhere": ["Open {where}", "打开 {where}"],
});

const SHOWN = /^image\/(png|jpeg|webp|gif)$/;
const here = (url) => url.startsWith("/api/");
const where = (url) => {
  try {
    return new URL(url).host;
  } catch {
    return url.slice(0, 40);
  }
};

function Table({ content }) {
  return html`<div class="table"><table><thead><tr>${content.columns.map((each, n) => html`<th key=${n}>${String(each)}</th>`)}</tr></thead>
    <tbody>${content.rows.slice(0, 200).map((row, n) => html`<tr key=${n}>${row.map((each, m) => html`<td key=${m}>${each === null ? "" : typeof each === "object" ? JSON.stringify(each) : String(each)}</td>`)}</tr>`)}</tbody></table></div>`;
}

export const isMedia = (piece) => Boolean(piece.url) && piece.kind !== "json";

export function Piece({ piece, tool }) {
  if (piece.kind === "table" && Array.isArray(piece.content?.columns) && Array.isArray(piece.content?.rows)) return html`<${Table} content=${piece.content} />`;
  if (!piece.url) return piece.content === null || piece.content === undefined ? null : html`<${Json} value=${piece.content} open=${false} />`;
  if (!here(piece.url)) {
    return /^https?:\/\//.test(piece.url) ? html`<a class="button small" href=${piece.url} target="_blank" rel="noopener noreferrer nofollow"><${Icon} name="link" />${say("media: elsewhere", { where: where(piece.url) })}</a>` : null;
  }
  const type = piece.media_type.split(";")[0];
  const name = piece.name || piece.kind;
  const save = html`<a class="button small" href=${piece.url} download=${name}><${Icon} name="download" />${name}${piece.size ? ` · ${bytes(piece.size)}` : ""}</a>`;
  if (SHOWN.test(type)) return html`<figure><img src=${piece.url} alt=${piece.text || say("media: picture", { tool })} loading="lazy" /><figcaption>${save}</figcaption></figure>`;
  if (type.startsWith("audio/")) return html`<figure><audio controls preload="metadata" src=${piece.url} aria-label=${name}></audio><figcaption>${save}</figcaption></figure>`;
  if (type.startsWith("video/")) return html`<figure><video controls preload="metadata" src=${piece.url} aria-label=${name}></video><figcaption>${save}</figcaption></figure>`;
  return save;
}

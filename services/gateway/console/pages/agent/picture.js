// An agent's picture: an emoji, or a small image that was made small in this browser.
import { html } from "../../vendor/preact.js";
import { Icon } from "../../parts/basic.js";

const SIDE = 128;

// Without one: the first letter of what it is called.
export function Picture({ picture, title = "", size = 36 }) {
  const style = { width: `${size}px`, height: `${size}px`, fontSize: `${size * 0.55}px` };
  if (picture?.startsWith("data:image/")) return html`<img class="portrait" src=${picture} alt="" style=${style} />`;
  return html`<span class=${picture ? "portrait" : "portrait letter"} aria-hidden="true" style=${style}>${picture || [...title.trim()][0]?.toUpperCase() || html`<${Icon} name="agents" />`}</span>`;
}

// The middle of an image file as a square data URL. Throws for what is no image.
export async function squared(file) {
  const image = await createImageBitmap(file);
  const side = Math.min(image.width, image.height);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  canvas.getContext("2d").drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  const webp = canvas.toDataURL("image/webp", 0.85);
  return webp.startsWith("data:image/webp") ? webp : canvas.toDataURL("image/png");
}

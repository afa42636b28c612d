// Signing in with a key or a provider's token.
import { html, useState } from "../vendor/preact.js";
import { signIn } from "../core/session.js";
import { useWork } from "../core/state.js";
import { language, learn, say, speak } from "../core/words.js";
import { Field, Trouble } from "../parts/basic.js";

learn({
  "sign in": ["Sign in", "登录"],
  "your key": ["API key or token", "API 密钥或令牌"],
  "key hint": ["On the machine where Milepost runs: milepost open signs you in, milepost door key prints the key.",
    "在运行 Milepost 的机器上：milepost open 直接登录，milepost door key 显示密钥。"],
});

export function SignIn() {
  const [key, setKey] = useState("");
  const [enter, { busy, error }] = useWork(() => signIn(key.trim()));
  const submit = (event) => {
    event.preventDefault();
    enter();
  };
  return html`<main class="sign-in">
    <form onSubmit=${submit}>
      <img src="/icon.svg" alt="" width="48" height="48" />
      <h1>Milepost</h1>
      <${Field} label=${say("your key")} hint=${say("key hint")}>${(id) => html`<input id=${id} type="password" autocomplete="current-password" required
        autofocus value=${key} onInput=${(event) => setKey(event.target.value)} />`}<//>
      <${Trouble} error=${error} />
      <button class="primary" disabled=${busy || !key.trim()}>${say("sign in")}</button>
      <button type="button" class="quiet small" onClick=${() => speak(language.value === "zh" ? "en" : "zh")}>${say("other language")}</button>
    </form>
  </main>`;
}

// The shell: navigation, signing in, language and theme, shortcuts; a page is loaded when it is first looked at.
import { html, render, useEffect, useErrorBoundary, useState } from "./vendor/preact.js";
import { onLost } from "./core/api.js";
import { bind, shortcuts } from "./core/keyboard.js";
import { broken, waiting } from "./core/live.js";
import { go, route } from "./core/router.js";
import { load, may, session, signOut } from "./core/session.js";
import { useStored } from "./core/state.js";
import { language, learn, say, speak } from "./core/words.js";
import { Dialog, Icon, Loading, Trouble } from "./parts/basic.js";
import { SignIn } from "./pages/sign-in.js";

learn({
  "nav": ["Main", "主导航"],
  "nav.chat": ["Chat", "对话"],
  "nav.runs": ["Runs", "运行"],
  "nav.approvals": ["Approvals", "审批"],
  "nav.tools": ["Tools", "工具"],
  "nav.knowledge": ["Knowledge", "知识库"],
  "nav.agents": ["Agents", "智能体"],
  "nav.system": ["System", "系统"],
  "to main": ["Skip to content", "跳到内容"],
  "sign out": ["Sign out", "退出登录"],
  "theme": ["Light or dark", "明暗主题"],
  "other language": ["中文", "English"],
  "shortcuts": ["Keyboard shortcuts", "键盘快捷键"],
  "offline": ["The gateway does not answer; trying again.", "网关没有响应，正在重试。"],
  "no page": ["There is no such page.", "没有这个页面。"],
  "page failed": ["This page failed.", "页面出错了。"],
  "reload": ["Load it again", "重新加载"],
  "menu": ["Menu", "菜单"],
});

// The first path that fits; its module's default export gets what the pattern names.
const PAGES = [
  ["chat", /^\/(?:chat(?:\/(?<conversation>[\w-]+))?)?$/, () => import("./pages/chat.js")],
  ["runs", /^\/runs$/, () => import("./pages/runs.js")],
  ["runs", /^\/runs\/diff$/, () => import("./pages/diff.js")],
  ["runs", /^\/runs\/(?<run>[\w-]+)$/, () => import("./pages/run.js")],
  ["approvals", /^\/approvals$/, () => import("./pages/approvals.js")],
  ["tools", /^\/tools(?:\/(?<tool>[\w-]+))?$/, () => import("./pages/tools.js")],
  ["knowledge", /^\/knowledge(?:\/(?<collection>[\w-]+))?$/, () => import("./pages/knowledge.js")],
  ["agents", /^\/agents$/, () => import("./pages/agents.js")],
  ["agents", /^\/agents\/(?<agent>[\w-]+)$/, () => import("./pages/agent.js")],
  ["agents", /^\/triggers$/, () => import("./pages/triggers.js")],
  ["system", /^\/system$/, () => import("./pages/system.js")],
];
const NAV = ["chat", "runs", "approvals", "tools", "knowledge", "agents", "system"];
const KEYS = { chat: "c", runs: "r", approvals: "a", tools: "t", knowledge: "k", agents: "b", system: "s" }; // b: agents are built there

const themes = matchMedia("(prefers-color-scheme: dark)");

function Nav({ section, onHelp }) {
  const [theme, setTheme] = useStored("theme", null);
  const dark = theme ? theme === "dark" : themes.matches;
  useEffect(() => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  }, [theme]);
  return html`<nav class="side" aria-label=${say("nav")}>
    <a class="brand" href="/"><img src="/icon.svg" alt="" width="24" height="24" /><span>Milepost</span></a>
    <ul>${NAV.map((name) => html`<li key=${name}><a href=${name === "chat" ? "/" : `/${name}`} aria-current=${section === name ? "page" : undefined}>
      <${Icon} name=${name} /><span>${say(`nav.${name}`)}</span>
      ${name === "approvals" && waiting.value > 0 && html`<span class="count" aria-label=${waiting.value}>${waiting.value}</span>`}
    </a></li>`)}</ul>
    <div class="foot">
      <button class="quiet icon-only" title=${say("theme")} aria-label=${say("theme")} onClick=${() => setTheme(dark ? "light" : "dark")}><${Icon} name=${dark ? "sun" : "moon"} /></button>
      <button class="quiet icon-only" title=${say("other language")} aria-label=${say("other language")} onClick=${() => speak(language.value === "zh" ? "en" : "zh")}><${Icon} name="globe" /></button>
      <button class="quiet icon-only help" title=${say("shortcuts")} aria-label=${say("shortcuts")} onClick=${onHelp}>?</button>
      <button class="quiet icon-only" title=${say("sign out")} aria-label=${say("sign out")} onClick=${signOut}><${Icon} name="out" /></button>
      <p class="who" title=${session.value.roles.join(", ")}>${session.value.user}<span> · ${session.value.tenant}</span></p>
    </div>
  </nav>`;
}

function Page({ import: bring, params }) {
  const [found, setFound] = useState(null);
  const [failed, setFailed] = useState(null);
  const [error, reset] = useErrorBoundary((thrown) => console.error(thrown));
  useEffect(() => {
    setFailed(null);
    reset();
    let gone = false;
    bring().then((module) => gone || setFound({ bring, page: module.default }), (thrown) => gone || setFailed(thrown));
    return () => (gone = true);
  }, [bring]);
  const wrong = error ?? failed;
  if (wrong) {
    return html`<div class="page"><${Trouble} error=${{ what: say("page failed"), why: String(wrong.message ?? wrong) }} />
      <button onClick=${() => location.reload()}>${say("reload")}</button></div>`;
  }
  // what was shown before is not shown again with another page's parameters
  return found?.bring === bring ? html`<${found.page} ...${params} />` : html`<div class="page"><${Loading} /></div>`;
}

function Help({ onClose }) {
  return html`<${Dialog} title=${say("shortcuts")} onClose=${onClose}>
    <dl class="shortcuts">${shortcuts.value.map((each) => html`<div key=${each.keys}><dt>${each.keys.split(" ").map((key) => html`<kbd key=${key}>${key}</kbd> `)}</dt><dd>${each.words()}</dd></div>`)}</dl>
  <//>`;
}

function App() {
  const [failed, setFailed] = useState(null);
  const [help, setHelp] = useState(false);
  useEffect(() => {
    load().catch(setFailed);
    onLost(() => (session.value = null));
    const bound = [
      bind("?", () => say("shortcuts"), () => setHelp(true)),
      ...NAV.map((name) => bind(`g ${KEYS[name]}`, () => say(`nav.${name}`), () => go(name === "chat" ? "/" : `/${name}`))),
    ];
    return () => bound.forEach((unbind) => unbind());
  }, []);
  if (failed) return html`<main class="page"><${Trouble} error=${failed} again=${() => location.reload()} /></main>`;
  if (session.value === undefined) return html`<main class="page"><${Loading} /></main>`;
  if (session.value === null) return html`<${SignIn} />`;
  let section = "", params = {}, bring = null;
  for (const [name, pattern, page] of PAGES) {
    const found = pattern.exec(route.value.path);
    if (found) {
      [section, params, bring] = [name, { ...found.groups }, page];
      break;
    }
  }
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>${say("to main")}</a>
    <div class="frame">
      <${Nav} section=${section} onHelp=${() => setHelp(true)} />
      <main id="main" tabindex="-1">
        ${broken.value && html`<p class="offline" role="status">${say("offline")}</p>`}
        ${bring ? html`<${Page} import=${bring} params=${params} />` : html`<div class="page"><h1>${say("no page")}</h1></div>`}
      </main>
    </div>
    ${help && html`<${Help} onClose=${() => setHelp(false)} />`}`;
}

export { may };
render(html`<${App} />`, document.getElementById("app"));

// Triggers: what begins runs by itself, when next, what came of it; made by form or as YAML, and tried before they fire.
import { html, useState } from "../vendor/preact.js";
import { get, post, put, remove } from "../core/api.js";
import { ago, moment, short } from "../core/format.js";
import { refine, route } from "../core/router.js";
import { may } from "../core/session.js";
import { style, useEvery, useGet, useWork } from "../core/state.js";
import { learn, say } from "../core/words.js";
import { Badge, Copy, Dialog, Empty, Field, Loading, Tabs, Trouble } from "../parts/basic.js";

style("/pages/triggers.css");

learn({
  "triggers": ["Triggers", "触发器"],
  "tr.new": ["New trigger", "新建触发器"],
  "tr.none": ["Nothing begins runs by itself yet.", "还没有自动运行的触发器。"],
  "tr.none.hint": ["A clock, a webhook, a message or an alarm can begin a run: make a trigger here, or", "时钟、Webhook、消息或告警都可以启动运行：在此新建，或"],
  "tr.by": ["Fired by", "触发方式"],
  "tr.next": ["Next", "下次"],
  "tr.last": ["Last", "上次"],
  "tr.name": ["Name", "名称"],
  "tr.state": ["State", "状态"],
  "tr.on": ["on", "启用"],
  "tr.off": ["off", "停用"],
  "tr.enable": ["Switch on", "启用"],
  "tr.disable": ["Switch off", "停用"],
  "tr.edit": ["Edit", "编辑"],
  "tr.remove": ["Remove", "删除"],
  "tr.remove.sure": ["Remove {name} and its history? Its runs stay.", "删除 {name} 及其历史？运行记录会保留。"],
  "tr.history": ["History", "历史"],
  "tr.history.none": ["It has not fired yet. Fire it by hand, or wait.", "尚未触发。可以手动触发，或等待。"],
  "tr.fire": ["Fire now", "立即触发"],
  "tr.try": ["Try it", "试运行"],
  "tr.try.hint": ["What would come, as JSON. Nothing is begun.", "将会收到的内容（JSON）。不会真正启动。"],
  "tr.try.no": ["Its condition does not hold: nothing would begin.", "条件不成立：不会启动。"],
  "tr.try.none": ["Nothing would fire: no alarm of a state that counts.", "不会触发：没有符合状态的告警。"],
  "tr.try.task": ["Task for {agent}, in the name of {user}", "交给 {agent} 的任务，以 {user} 的名义"],
  "tr.try.said": ["Your own words of it: they alone may name something for a write", "其中你自己的话：只有这些能为写操作指定对象"],
  "tr.try.key": ["Key: the same key, the same run", "键：相同的键即同一次运行"],
  "tr.hook": ["Post to", "请求地址"],
  "tr.secret": ["Secret", "密钥"],
  "tr.secret.env": ["in the gateway's environment, as {env}", "位于网关环境变量 {env}"],
  "tr.secret.unset": ["{env} is not set: every request is refused", "{env} 未设置：所有请求都会被拒绝"],
  "tr.show": ["Show", "显示"],
  "tr.form": ["Form", "表单"],
  "tr.yaml": ["YAML", "YAML"],
  "tr.kind": ["What fires it", "由什么触发"],
  "tr.cron": ["a clock", "时钟"],
  "tr.webhook": ["a webhook", "Webhook"],
  "tr.subject": ["a message on the bus", "总线消息"],
  "tr.alarm": ["an alarm", "告警"],
  "tr.expression": ["Cron expression", "Cron 表达式"],
  "tr.timezone": ["Time zone", "时区"],
  "tr.catch_up": ["Of times that were missed", "错过的时间"],
  "tr.missed.none": ["none is made up for", "都不补"],
  "tr.missed.last": ["the last is made up for", "只补最后一次"],
  "tr.missed.all": ["all are made up for", "全部补上"],
  "tr.then.skip": ["skip", "跳过"],
  "tr.then.queue": ["queue", "排队"],
  "tr.scheme": ["Signature", "签名方式"],
  "tr.pattern": ["Subject", "主题"],
  "tr.source": ["Monitor", "监控来源"],
  "tr.topic": ["ARN of the SNS topic", "SNS 主题 ARN"],
  "tr.agent": ["Agent", "智能体"],
  "tr.task": ["Task", "任务"],
  "tr.task.hint": ["A template: {{ payload.name }} puts in what the event says, as data.", "模板：{{ payload.name }} 会以数据形式填入事件内容。"],
  "tr.when": ["Only when (JMESPath)", "仅当（JMESPath）"],
  "tr.at_most": ["Open runs at most", "最多同时运行"],
  "tr.then": ["Beyond that", "超出时"],
  "tr.cooldown": ["Pause after a run, seconds", "每次运行后的间隔（秒）"],
  "tr.save": ["Save", "保存"],
  "tr.more": ["Budget, rules and the key are set in YAML.", "预算、规则和键请在 YAML 中设置。"],
  "tr.begun": ["begun", "已启动"],
  "tr.skipped": ["skipped", "已跳过"],
  "tr.failed": ["failed", "失败"],
  "tr.pending": ["pending", "处理中"],
  "tr.written": ["written out in YAML", "在 YAML 中定义"],
});

const FIRST = { name: "", source: { kind: "cron", expression: "0 9 * * mon-fri", timezone: Intl.DateTimeFormat().resolvedOptions().timeZone }, agent: "assistant", task: "" };
const SOURCES = {
  cron: FIRST.source, webhook: { kind: "webhook", scheme: "milepost" }, subject: { kind: "subject", pattern: "" }, alarm: { kind: "alarm", source: "prometheus" },
};
const OUTCOMES = { begun: "good", skipped: "warn", failed: "bad", pending: "info" };

const fired = (source) => `${say(`tr.${source.kind}`)}: ${source.expression ?? source.pattern ?? source.source ?? source.scheme}`;

const Outcome = ({ firing }) => (firing ? html`<${Badge} kind=${OUTCOMES[firing.outcome]} title=${firing.why}>${say(`tr.${firing.outcome}`)}<//> <span class="faint">${ago(firing.at)}</span>` : "");

export default function Triggers() {
  const { data, error, loading, again } = useGet("/api/triggers");
  const [editing, setEditing] = useState(null);
  useEvery(10_000, again);
  const chosen = data?.find((each) => each.trigger.name === route.value.query.name);
  return html`<div class="page triggers">
    <header><h1>${say("triggers")}</h1>${may("build") && html`<button class="primary" onClick=${() => setEditing(FIRST)}>${say("tr.new")}</button>`}</header>
    <${Trouble} error=${error} again=${again} />
    ${loading && !data && html`<${Loading} />`}
    ${data?.length === 0 && html`<${Empty} title=${say("tr.none")}>${say("tr.none.hint")} <code>milepost triggers add FILE</code><//>`}
    ${data?.length > 0 && html`<div class="table"><table>
      <thead><tr><th>${say("tr.name")}</th><th>${say("tr.by")}</th><th>${say("tr.state")}</th><th>${say("tr.next")}</th><th>${say("tr.last")}</th></tr></thead>
      <tbody>${data.map((each) => html`<tr key=${each.trigger.name}>
        <td><a class="say" href=${`/triggers?name=${each.trigger.name}`}>${each.trigger.name}</a><div class="faint what">${each.trigger.description}</div></td>
        <td class="what">${fired(each.trigger.source)}</td>
        <td><${Badge} kind=${each.trigger.enabled ? "good" : ""}>${say(each.trigger.enabled ? "tr.on" : "tr.off")}<//></td>
        <td class="num">${each.next.length ? moment(each.next[0]) : ""}</td>
        <td><${Outcome} firing=${each.last} /></td>
      </tr>`)}</tbody></table></div>`}
    ${chosen && html`<${One} key=${`${chosen.trigger.name} ${chosen.version}`} found=${chosen} again=${again} onEdit=${() => setEditing(chosen)} />`}
    ${editing && html`<${Editor} from=${editing} onClose=${() => setEditing(null)} onSaved=${(name) => { setEditing(null); refine({ name }); again(); }} />`}
  </div>`;
}

function One({ found, again, onEdit }) {
  const { trigger } = found;
  const past = useGet(`/api/triggers/${trigger.name}/firings`);
  const [secret, setSecret] = useState(null);
  const [work, state] = useWork(async (what) => { await what(); await Promise.all([again(), past.again()]); });
  useEvery(5000, past.again);
  const drop = () => confirm(say("tr.remove.sure", { name: trigger.name })) && work(async () => { await remove(`/api/triggers/${trigger.name}`); refine({ name: undefined }); });
  return html`<section class="card stack" aria-label=${trigger.name}>
    <div class="row apart"><h2>${trigger.name}</h2>${may("build") && html`<div class="row">
      <button class="small" disabled=${state.busy} onClick=${() => work(() => post(`/api/triggers/${trigger.name}/enabled`, { enabled: !trigger.enabled }))}>${say(trigger.enabled ? "tr.disable" : "tr.enable")}</button>
      <button class="small" onClick=${onEdit}>${say("tr.edit")}</button>
      <button class="small danger" disabled=${state.busy} onClick=${drop}>${say("tr.remove")}</button>
    </div>`}</div>
    <${Trouble} error=${state.error} />
    ${found.url && html`<p>${say("tr.hook")} <code>${found.url}</code> <${Copy} text=${found.url} /></p>`}
    ${found.url && may("build") && html`<p>${say("tr.secret")} ${secret === null ? html`<button class="small" onClick=${() => work(async () => setSecret(await get(`/api/triggers/${trigger.name}/secret`)))}>${say("tr.show")}</button>`
      : secret.env ? say(secret.known ? "tr.secret.env" : "tr.secret.unset", { env: secret.env }) : html`<code>${secret.secret}</code> <${Copy} text=${secret.secret} /> <span class="faint">${secret.headers.join(", ")}</span>`}</p>`}
    ${may("build") && html`<${Trying} about=${{ name: trigger.name }} fire=${(text) => work(() => post(`/api/triggers/${trigger.name}/fire`, { payload: JSON.parse(text) }))} />`}
    <h3>${say("tr.history")}</h3>
    <${Trouble} error=${past.error} again=${past.again} />
    ${past.data?.length === 0 && html`<p class="soft">${say("tr.history.none")}</p>`}
    ${past.data?.length > 0 && html`<div class="table"><table><tbody>${past.data.map((each) => html`<tr key=${each.key}>
      <td class="num">${moment(each.at)}</td><td><${Badge} kind=${OUTCOMES[each.outcome]}>${say(`tr.${each.outcome}`)}<//></td>
      <td class="what mono">${each.key}</td><td class="what">${each.run ? html`<a href=${`/runs/${each.run}`}>${short(each.run)}</a>` : each.why}</td>
    </tr>`)}</tbody></table></div>`}
  </section>`;
}

function Trying({ about, fire }) {
  const [text, setText] = useState("{}");
  const [found, setFound] = useState(null);
  const [attempt, state] = useWork(async () => setFound(await post("/api/triggers/test", { ...about, payload: JSON.parse(text) })));
  return html`<details><summary>${say("tr.try")}</summary><div class="stack">
    <${Field} label=${say("tr.try")} hint=${say("tr.try.hint")}>${(id) => html`<textarea id=${id} class="mono" rows="4" spellcheck="false" value=${text} onInput=${(event) => setText(event.target.value)}></textarea>`}<//>
    <div class="row"><button class="small" disabled=${state.busy} onClick=${attempt}>${say("tr.try")}</button>
      ${fire && html`<button class="small" onClick=${() => fire(text)}>${say("tr.fire")}</button>`}</div>
    <${Trouble} error=${state.error} />
    ${found?.length === 0 && html`<p>${say("tr.try.none")}</p>`}
    ${found?.map((each) => html`<div class="trial" key=${each.key}>${each.fires
      ? html`<h3>${say("tr.try.task", each)}</h3><pre>${each.task}</pre><p class="hint">${say("tr.try.said")}</p><pre>${each.said}</pre>`
      : html`<p>${say("tr.try.no")}</p>`}<p class="hint">${say("tr.try.key")}: <code>${each.key}</code></p></div>`)}
  </div></details>`;
}

function Editor({ from, onClose, onSaved }) {
  const old = from.version !== undefined;
  const [trigger, setTrigger] = useState(old ? from.trigger : from);
  const [way, setWay] = useState("form");
  const [yaml, setYaml] = useState(from.yaml ?? "");
  const [turn, turning] = useWork(async (next) => {
    if (next === way) return;
    if (next === "yaml" && (trigger.name || old)) setYaml((await post("/api/triggers/read", { trigger })).yaml);
    if (next === "form" && yaml.trim()) setTrigger({ ...(await post("/api/triggers/read", { yaml })).trigger, enabled: trigger.enabled ?? true });
    setWay(next);
  });
  const [save, saving] = useWork(async () => {
    const said = way === "yaml" ? { yaml } : { trigger };
    const name = old ? trigger.name : way === "yaml" ? (await post("/api/triggers/read", { yaml })).trigger.name : trigger.name;
    await put(`/api/triggers/${encodeURIComponent(name)}`, { ...said, based_on: old ? from.version : 0 });
    onSaved(name);
  });
  return html`<${Dialog} wide title=${old ? trigger.name : say("tr.new")} onClose=${onClose}>
    <${Tabs} label=${say("triggers")} chosen=${way} onChoose=${turn} tabs=${[["form", say("tr.form")], ["yaml", say("tr.yaml")]]} />
    <${Trouble} error=${turning.error ?? saving.error} />
    <form class="trigger-form" onSubmit=${(event) => { event.preventDefault(); save(); }}>
      ${way === "form" ? html`<${Form} trigger=${trigger} change=${(values) => setTrigger({ ...trigger, ...values })} named=${old} />`
        : html`<${Field} label=${say("tr.yaml")}>${(id) => html`<textarea id=${id} class="code" spellcheck="false" value=${yaml} onInput=${(event) => setYaml(event.target.value)}></textarea>`}<//>`}
      <div class="row"><button class="primary" disabled=${saving.busy}>${say("tr.save")}</button><span class="hint">${way === "form" ? say("tr.more") : ""}</span></div>
    </form>
    <${Trying} about=${way === "yaml" ? { yaml } : { trigger }} />
  <//>`;
}

function Form({ trigger, change, named }) {
  const { source } = trigger;
  const agents = useGet("/api/agents");
  const text = (label, name, hint, extra = {}) => html`<${Field} label=${say(label)} hint=${hint}>${(id) => html`<input id=${id} value=${trigger[name] ?? ""} onInput=${(event) => change({ [name]: event.target.value })} ...${extra} />`}<//>`;
  const whole = (label, name, least, usual) => html`<${Field} label=${say(label)}>${(id) => html`<input id=${id} type="number" min=${least} value=${trigger[name] ?? usual} onInput=${(event) => change({ [name]: Number(event.target.value) })} />`}<//>`;
  const of = (label, name, extra = {}) => html`<${Field} label=${say(label)}>${(id) => html`<input id=${id} value=${source[name] ?? ""} onInput=${(event) => change({ source: { ...source, [name]: event.target.value } })} ...${extra} />`}<//>`;
  const choose = (label, value, options, onChange) => html`<${Field} label=${say(label)}>${(id) => html`<select id=${id} value=${value} onChange=${(event) => onChange(event.target.value)}>${options.map(([key, words]) => html`<option key=${key} value=${key}>${words}</option>`)}</select>`}<//>`;
  const plain = (names) => names.map((name) => [name, name]);
  return html`<div class="pair">${text("tr.name", "name", "", { required: true, pattern: "[A-Za-z0-9_\\-]{1,48}", disabled: named })}
      ${choose("tr.kind", source.kind, Object.keys(SOURCES).map((kind) => [kind, say(`tr.${kind}`)]), (kind) => change({ source: SOURCES[kind] }))}</div>
    <div class="pair">
      ${source.kind === "cron" && [of("tr.expression", "expression", { required: true }), of("tr.timezone", "timezone"),
        choose("tr.catch_up", source.catch_up ?? "last", ["none", "last", "all"].map((each) => [each, say(`tr.missed.${each}`)]), (value) => change({ source: { ...source, catch_up: value } }))]}
      ${source.kind === "webhook" && choose("tr.scheme", source.scheme ?? "milepost", plain(["milepost", "github", "token"]), (value) => change({ source: { ...source, scheme: value } }))}
      ${source.kind === "subject" && of("tr.pattern", "pattern", { required: true, placeholder: "shop.orders.*" })}
      ${source.kind === "alarm" && [choose("tr.source", source.source, plain(["prometheus", "aliyun", "aws"]), (value) => change({ source: { kind: "alarm", source: value } })),
        source.source === "aws" && of("tr.topic", "topic", { required: true })]}
    </div>
    <${Field} label=${say("tr.task")} hint=${say("tr.task.hint")}>${(id) => html`<textarea id=${id} rows="4" required value=${trigger.task} onInput=${(event) => change({ task: event.target.value })}></textarea>`}<//>
    <div class="pair">${typeof trigger.agent === "object" ? html`<${Field} label=${say("tr.agent")}>${(id) => html`<input id=${id} disabled value=${say("tr.written")} />`}<//>`
        : choose("tr.agent", trigger.agent ?? "assistant", plain([...new Set(["assistant", trigger.agent ?? "assistant", ...(agents.data ?? []).map((each) => each.name)])]), (agent) => change({ agent }))}
      ${text("tr.when", "when", "", { placeholder: "severity == 'critical'", spellcheck: false })}</div>
    <div class="pair">${whole("tr.at_most", "at_most", 1, 10)}${choose("tr.then", trigger.then ?? "skip", ["skip", "queue"].map((each) => [each, say(`tr.then.${each}`)]), (then) => change({ then }))}${whole("tr.cooldown", "cooldown_s", 0, 0)}</div>`;
}

// Makes the tool known and answers its calls until it is stopped. Start as many copies as you like: they share the calls.
// NATS_URL says where: eval "$(milepost env)". MILEPOST_TENANT is whose the tool is; `_all` (the default): everybody's.
import { connect } from "@nats-io/transport-node";
import { answer, card } from "./tool.mjs";

const url = new URL(process.env.NATS_URL ?? "nats://127.0.0.1:4222");
const nats = await connect({
  servers: url.host,
  user: decodeURIComponent(url.username) || undefined,
  pass: decodeURIComponent(url.password) || undefined,
  name: card.name,
  maxReconnectAttempts: -1,
});

const tenant = process.env.MILEPOST_TENANT ?? "_all";
const calls = nats.subscribe(`mp.tool.${tenant}.${card.name}`, { queue: card.name });
nats.subscribe(`mp.refused.${tenant}.bus.${card.name}`, {
  callback: (_, refused) => console.error(`the card was refused: ${refused.string()}`),
});
nats.publish(`mp.card.${tenant}.bus.${card.name}`, JSON.stringify(card));
await nats.flush();
console.log(`answers calls of ${card.name}`);

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => nats.drain());

async function reply(call) {
  try {
    call.respond(JSON.stringify(await answer(call.json())));
  } catch (error) {
    // A write that fails half way may have happened: "unknown" says so. "refused" would promise that nothing was done.
    call.respond(JSON.stringify({ fault: { kind: "unknown", what: `${card.name} failed.`, why: String(error) } }));
  }
}

for await (const call of calls) reply(call);

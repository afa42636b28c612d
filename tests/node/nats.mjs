// Stands in for the `nats` command (natscli) where that is not installed: `pub SUBJECT BODY` and
// `reply SUBJECT --command COMMAND`, as natscli has them: NATS_URL, NATS_REQUEST_BODY and NATS_REQUEST_SUBJECT, output and
// errors of the command together, one queue group for all repliers.
import { execFile } from "node:child_process";
import { connect } from "@nats-io/transport-node";

const [verb, subject, ...rest] = process.argv.slice(2);
const url = new URL(process.env.NATS_URL);
const nats = await connect({
  servers: url.host, user: decodeURIComponent(url.username) || undefined, pass: decodeURIComponent(url.password) || undefined,
});

if (verb === "pub") {
  nats.publish(subject, rest[0] ?? "");
  await nats.drain();
} else if (verb === "reply" && rest[0] === "--command") {
  const words = rest[1].match(/'[^']*'|"[^"]*"|\S+/g).map((word) => word.replace(/^(['"])(.*)\1$/, "$2"));
  const run = (call) =>
    new Promise((done) => {
      const env = { ...process.env, NATS_REQUEST_BODY: call.string(), NATS_REQUEST_SUBJECT: call.subject };
      execFile(words[0], words.slice(1), { env }, (_, out, err) => done(out + err));
    });
  nats.subscribe(subject, { queue: "NATS-RPLY-22", callback: async (_, call) => call.respond(await run(call)) });
  await nats.flush();
  console.log(`Listening on "${subject}"`);
} else {
  console.error(`nats: ${verb} is not known here`);
  process.exit(1);
}

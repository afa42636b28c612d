// The official TypeScript client of MCP at a server: node mcp.mjs URL TOKEN CALLS, where CALLS is JSON [[tool, arguments], ...].
// Prints what it saw as JSON. Elicitations are answered with yes.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, token, calls] = process.argv.slice(2);
const client = new Client({ name: "tests", version: "1" }, { capabilities: { elicitation: { form: {} } } });
const asked = [];
client.setRequestHandler("elicitation/create", async (request) => {
  asked.push(request.params.message);
  return { action: "accept", content: { approve: true } };
});
const headers = token ? { authorization: `Bearer ${token}` } : {};
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));
const { tools } = await client.listTools();
const results = [];
const progress = [];
for (const [name, given] of JSON.parse(calls)) {
  const onprogress = (told) => progress.push(told.message);
  results.push(await client.callTool({ name, arguments: given }, { onprogress }));
}
await client.close();
const version = client.getNegotiatedProtocolVersion?.() ?? null;
console.log(JSON.stringify({ tools, results, asked, progress, version }));

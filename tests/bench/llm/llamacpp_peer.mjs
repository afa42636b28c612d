// llama.cpp's side, asked in lines of JSON: node llamacpp_peer.mjs NODE_LLAMA_CPP MODEL.gguf THREADS SEQUENCES
//
// A request is the prompts of a batch and how many tokens to write to each; the answer, counted from the request: first_s,
// when the first token of all was known, and ended_s. One prompt alone has a context of its own, made for one sequence.
import {createInterface} from "node:readline";
import {pathToFileURL} from "node:url";

const [library, modelPath, threads, sequences] = process.argv.slice(2);
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(library).href);
const llama = await getLlama({gpu: false, build: "never", maxThreads: Number(threads), logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath});

async function streams(count) {
    const context = await model.createContext({sequences: count, contextSize: 1024, batchSize: 1024, threads: Number(threads)});
    return Array.from({length: count}, () => context.getSequence());
}

const alone = await streams(1);
const together = await streams(Number(sequences));

async function speak(sequence, prompt, tokens, asked) {
    await sequence.clearHistory();
    let first, count = 0;
    for await (const _ of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
        first ??= performance.now() - asked;
        if (++count === tokens)
            break;
    }
    return {first, ended: performance.now() - asked};
}

console.log(JSON.stringify({ready: true}));
for await (const line of createInterface({input: process.stdin})) {
    const {prompts, tokens} = JSON.parse(line);
    const taken = prompts.length === 1 ? alone : together;
    const asked = performance.now();
    const spoken = await Promise.all(prompts.map((prompt, index) => speak(taken[index], prompt, tokens, asked)));
    const first_s = Math.min(...spoken.map(each => each.first)) / 1000;
    console.log(JSON.stringify({first_s, ended_s: Math.max(...spoken.map(each => each.ended)) / 1000}));
}
process.exit(0);

// Runs an onnx artifact (loop inside, batch 1) with bare onnxruntime-node: node run.mjs ARTIFACT 1,2,3 [NEW_TOKENS]
import { readFileSync } from "node:fs";
import { join } from "node:path";
import ort from "onnxruntime-node";

const [folder, promptText, lengthText = "32"] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
const prompt = promptText.split(",").map(Number);
const { inputs, file } = manifest.graphs[0];
const hole = manifest.canvas.init === "masked" ? manifest.model.mask_id : 0; // what an answer begins with
const given = {
  tokens: prompt.concat(Array(manifest.capacity - prompt.length).fill(hole)),
  start: [prompt.length], length: [Number(lengthText)],
  top_p: [1], penalty: [1], eos: manifest.model.eos_ids.concat(Array(8).fill(-1)).slice(0, 8),
}; // everything else is 0: greedy decoding
const arrays = { int64: BigInt64Array, float32: Float32Array, bool: Uint8Array };
const feeds = {};
for (const { name, dtype, shape } of inputs) {
  const data = new arrays[dtype](shape.reduce((a, b) => a * b, 1));
  (given[name] ?? []).forEach((v, i) => { data[i] = dtype === "int64" ? BigInt(v) : v; });
  feeds[name] = new ort.Tensor(dtype, data, shape);
}
const session = await ort.InferenceSession.create(join(folder, file), { logSeverityLevel: 3 });
const out = await session.run(feeds);
const count = Number(out.count.data[0]);
console.log(Array.from(out["tokens.out"].data.slice(prompt.length, prompt.length + count), Number).join(","));

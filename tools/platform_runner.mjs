// Run the graphs of a job in onnxruntime-web (wasm): the protocol of platform_runner.py, which describes it.
//
//     node platform_runner.mjs JOB FOLDER
//
// FOLDER is where npm installed onnxruntime-web.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [job, folder] = process.argv.slice(2);
const ort = createRequire(join(resolve(folder), "package.json"))("onnxruntime-web");
ort.env.wasm.numThreads = 1;

const tensor = (values, shape) => new ort.Tensor("float32", values, shape);

/** Start a session with the entries that the bundle asks for. */
function start({ file, session }) {
  return ort.InferenceSession.create(new Uint8Array(readFileSync(file)), {
    executionProviders: ["wasm"],
    logSeverityLevel: 4,
    extra: { ...session },
  });
}

/** The logits [N, C], flat, of windows x [N, T, D], flat, whatever the layout. */
async function logits(session, { layout, pool }, x, [N, T, D]) {
  if (layout === "step") return overTime(session, pool, x, [N, T, D]);
  return (await session.run({ x: tensor(x, [N, T, D]) })).logits.data;
}

/** The same through a graph of one step: from the zero state, the mean of the last `pool` steps' logits. */
async function overTime(session, pool, x, [N, T, D]) {
  const size = session.inputMetadata.find(({ name }) => name === "state").shape[1];
  let state = tensor(new Float32Array(N * size), [N, size]);
  let sum;
  for (let t = 0; t < T; t++) {
    const sample = new Float32Array(N * D);
    for (let n = 0; n < N; n++) sample.set(x.subarray((n * T + t) * D, (n * T + t + 1) * D), n * D);
    const answer = await session.run({ x: tensor(sample, [N, D]), state });
    state = answer.state_next;
    if (t < T - pool) continue;
    sum ??= new Float64Array(answer.logits.data.length);
    answer.logits.data.forEach((value, i) => (sum[i] += value));
  }
  return Float32Array.from(sum, (value) => value / Math.min(pool, T));
}

function write(name, floats) {
  writeFileSync(join(job, name), new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength));
}

const faults = {};
for (const [number, graph] of JSON.parse(readFileSync(join(job, "job.json"), "utf8")).entries()) {
  const [N, T, D] = graph.shape;
  const x = new Float32Array(new Uint8Array(readFileSync(join(job, `${number}.windows`))).buffer);
  try {
    const session = await start(graph);
    const single = [];
    for (let n = 0; n < N; n++) {
      single.push(...(await logits(session, graph, x.subarray(n * T * D, (n + 1) * T * D), [1, T, D])));
    }
    const batch = await logits(session, graph, x, [N, T, D]);
    write(`${number}.single`, Float32Array.from(single));
    write(`${number}.batch`, batch);
    await session.release();
  } catch (error) {
    faults[number] = String(error);
  }
  console.log(`done ${number}`);
}
const answer = {
  runtime: `onnxruntime-web ${ort.env.versions.web}`,
  arch: "wasm",
  host: `Node.js ${process.versions.node}`,
  faults,
};
writeFileSync(join(job, "answer.json"), JSON.stringify(answer));

// A checkpoint in this browser: its record (checkpoint.json), its network in onnxruntime-web, its answer to one file.

import { decide, ranked, softmax } from "./decisions.js";
import { judge, readArrays } from "./gate.js";
import { prepare } from "./preprocessing.js";
import { readSlice } from "./reading.js";

const HERE = new URL("./", import.meta.url);
const MOST_THREADS = 4;

/** What keeps the page from answering at all; its message is a sentence. */
export class LoadError extends Error {}

export class Classifier {
  constructor(record, ort, sessions, gate) {
    Object.assign(this, { record, ort, sessions, gate, busy: Promise.resolve() });
  }

  /** Fetch everything; `progress(done, total)` is told the bytes of the network. Throws LoadError. */
  static async load(progress) {
    const record = JSON.parse(new TextDecoder().decode(await fetchBytes(new URL("checkpoint.json", HERE))));
    const [ort, parts, gate] = await Promise.all([
      loadRuntime(record.runtime),
      fetchParts(record.model.parts, progress),
      record.gate && fetchBytes(new URL(record.gate.file, HERE), record.gate),
    ]);
    try {
      const sessions = [];
      for (const part of parts) sessions.push(await ort.InferenceSession.create(part, { executionProviders: ["wasm"] }));
      return new Classifier(record, ort, sessions, gate && readArrays(gate.buffer));
    } catch (error) {
      throw new LoadError(`The network cannot be run in this browser (${error.message}).`);
    }
  }

  /**
   * Answer a File: {slice, crop, ranking, rules, sentences, gate, notes, milliseconds}, and what its maps are made of
   * (`middle`, or `cam`); `gate` is null where the checkpoint has none. Throws Refusal where the file cannot be read
   * right.
   */
  answer(file) {
    return this.#inTurn(() => this.#answer(file));
  }

  /**
   * The map of class `index` of an answer: {values, height, width}, above 0 where something speaks for it. Grad-CAM of
   * the middle, or the class activation map of the last layer where the network is in one part.
   */
  map({ middle, cam }, index) {
    return this.#inTurn(async () => {
      const found = middle ? (await this.#exit(middle, index)).gradcam : cam;
      const [, , height, width] = found.dims;
      const from = middle ? 0 : index * height * width;
      return { values: found.data.slice(from, from + height * width), height, width };
    });
  }

  /** One at a time: the network holds one picture. */
  #inTurn(work) {
    const done = this.busy.then(work);
    this.busy = done.catch(() => undefined);
    return done;
  }

  /** The network's outputs, with `middle` where it is in two parts: the map from which the second goes on. */
  async #outputs(values) {
    const { size } = this.record.preprocessing;
    const input = { pixel_values: new this.ort.Tensor("float32", values, [1, 3, size, size]) };
    const first = await this.sessions[0].run(input);
    return first.middle ? { ...first, ...(await this.#exit(first.middle, 0)) } : first;
  }

  #exit(middle, index) {
    const seed = new Float32Array(this.record.label_names.length);
    seed[index] = 1;
    return this.sessions[1].run({ middle, seed: new this.ort.Tensor("float32", seed, [1, seed.length]) });
  }

  async #answer(file) {
    const { record } = this;
    const slice = await readSlice(file, record.window);
    const started = performance.now();
    const { values, crop } = prepare(slice, record.preprocessing);
    const { logits, features, middle, cam } = await this.#outputs(values);
    const ranking = ranked(softmax(logits.data, record.rules.output_temperature), record.label_names);
    const rule = record.gate?.rule;
    return {
      slice,
      crop,
      ranking,
      rules: record.rules,
      sentences: decide(ranking, record.rules),
      gate: rule ? judge(rule, this.gate, slice, crop, features.data) : null,
      middle,
      cam,
      notes: [...slice.notes, ...crop.notes],
      milliseconds: performance.now() - started,
    };
  }
}

/** The network's files; `progress(done, total)` is told of all their bytes together. */
function fetchParts(parts, progress) {
  const done = parts.map(() => 0);
  const total = parts.reduce((sum, { bytes }) => sum + bytes, 0);
  const fetchOne = (part, number) =>
    fetchBytes(new URL(part.file, HERE), part, (bytes) => {
      done[number] = bytes;
      const all = done.reduce((sum, one) => sum + one, 0);
      progress(all, Math.max(total, all));
    });
  return Promise.all(parts.map(fetchOne));
}

/** The bytes of a file of this page; where `bytes` and `sha256` are stated, exactly those. */
async function fetchBytes(url, { bytes: size = 0, sha256 = null, integrity = "" } = {}, progress = () => undefined) {
  const name = url.pathname.split("/").pop();
  let found;
  try {
    const response = await fetch(url, { integrity });
    if (!response.ok) throw new Error(`status ${response.status}`);
    found = await collect(response, size, progress);
  } catch (error) {
    throw new LoadError(`${name} could not be fetched (${error.message}); load the page again.`);
  }
  if (sha256 && crypto.subtle && (await digest(found)) !== sha256) {
    throw new LoadError(`${name} is not the file that this page was made with; load the page again.`);
  }
  return found;
}

async function collect(response, size, progress) {
  const parts = [];
  let done = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { value, done: ended } = await reader.read();
    if (ended) break;
    parts.push(value);
    done += value.length;
    progress(done, Math.max(size, done));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function digest(bytes) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** onnxruntime-web, from this page's own files, or from elsewhere if every byte is as it was when the page was made. */
async function loadRuntime({ base, files }) {
  const [module, glue, wasm] = files.map(({ name }) => new URL(base + name, HERE).href);
  try {
    const ort = await import(/* the runtime */ files[0].integrity ? await verified(files[0], module) : module);
    ort.env.wasm.wasmPaths = { mjs: files[1].integrity ? await verified(files[1], glue) : glue, wasm };
    if (files[2].integrity) ort.env.wasm.wasmBinary = await fetchBytes(new URL(wasm), files[2]);
    // Threads need an isolated page, which its server must ask for; see the header of the Space.
    ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
    return ort;
  } catch (error) {
    if (error instanceof LoadError) throw error;
    throw new LoadError(`onnxruntime-web could not be loaded (${error.message}); load the page again.`);
  }
}

async function verified(file, url) {
  const bytes = await fetchBytes(new URL(url), file);
  return URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));
}

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
  constructor(record, ort, session, gate) {
    Object.assign(this, { record, ort, session, gate, busy: Promise.resolve() });
  }

  /** Fetch everything; `progress(done, total)` is told the bytes of the network. Throws LoadError. */
  static async load(progress) {
    const record = JSON.parse(new TextDecoder().decode(await fetchBytes(new URL("checkpoint.json", HERE))));
    const [ort, model, gate] = await Promise.all([
      loadRuntime(record.runtime),
      fetchBytes(new URL(record.model.file, HERE), record.model, progress),
      record.gate && fetchBytes(new URL(record.gate.file, HERE), record.gate),
    ]);
    try {
      const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
      return new Classifier(record, ort, session, gate && readArrays(gate.buffer));
    } catch (error) {
      throw new LoadError(`The network cannot be run in this browser (${error.message}).`);
    }
  }

  /**
   * Answer a File: {slice, crop, ranking, rules, sentences, gate, cam, notes, milliseconds}; `gate` is null where the
   * checkpoint has none. Throws Refusal where the file cannot be read right.
   */
  answer(file) {
    const answered = this.busy.then(() => this.#answer(file)); // one at a time: the network holds one picture
    this.busy = answered.catch(() => undefined);
    return answered;
  }

  async #answer(file) {
    const { record } = this;
    const slice = await readSlice(file, record.window);
    const started = performance.now();
    const { values, crop } = prepare(slice, record.preprocessing);
    const { size } = record.preprocessing;
    const input = { pixel_values: new this.ort.Tensor("float32", values, [1, 3, size, size]) };
    const { logits, features, cam } = await this.session.run(input);
    const ranking = ranked(softmax(logits.data, record.rules.output_temperature), record.label_names);
    const rule = record.gate?.rule;
    return {
      slice,
      crop,
      ranking,
      rules: record.rules,
      sentences: decide(ranking, record.rules),
      gate: rule ? judge(rule, this.gate, slice, crop, features.data) : null,
      cam,
      notes: [...slice.notes, ...crop.notes],
      milliseconds: performance.now() - started,
    };
  }
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

// Several files: those of folders and zip archives, whether they are of one scan, their order, and one answer of all.

import { ranked, softmax } from "./decisions.js";
import { Refusal } from "./refusal.js";

const MOST_SLICES = 300;
const MAX_BYTES = 512 * 2 ** 20; // of a zip's slices together, unpacked
const LEAST = 1e-12; // of a probability before its logarithm is taken, as in statistics/pooling.py
const SLICE = /(^|\/)[^./][^/]*\.(dcm|dicom|ima|png|jpe?g)$|(^|\/)[^./]+$/i;
const [END, ENTRY, STORED, DEFLATED] = [0x06054b50, 0x02014b50, 0, 8];
const byName = new Intl.Collator("en", { numeric: true });

/** The files that were dropped, and those in folders among them. To be called while the event lasts. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  return entries.length ? (await Promise.all(entries.map((entry) => filesIn(entry, false)))).flat() : [...transfer.files];
}

async function filesIn(entry, within) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    return within && !SLICE.test(file.name) ? [] : [file];
  }
  const [reader, found] = [entry.createReader(), []];
  for (let some; (some = await new Promise((done, failed) => reader.readEntries(done, failed))).length; ) found.push(...some);
  return (await Promise.all(found.map((one) => filesIn(one, true)))).flat();
}

/** [{file, scan}]: every File, a zip's in its place; `scan` names the zip and folder, null outside one. Throws Refusal. */
export async function unpack(files) {
  const found = [];
  for (const file of files) found.push(...(/\.zip$/i.test(file.name) ? await unzip(file) : [{ file, scan: null }]));
  if (found.length > MOST_SLICES) {
    const first = files[0].name;
    throw new Refusal(first, `with what was given beside it ${found.length} files, more than ${MOST_SLICES}`, "give fewer at a time");
  }
  return found;
}

async function unzip(archive) {
  const bytes = new Uint8Array(await archive.arrayBuffer());
  const entries = entriesOf(new DataView(bytes.buffer), archive.name).filter(({ name }) => SLICE.test(name));
  if (!entries.length) throw new Refusal(archive.name, "a zip with no DICOM, PNG or JPEG in it", "give slices");
  if (entries.length > MOST_SLICES) {
    throw new Refusal(archive.name, `${entries.length} files, more than ${MOST_SLICES}`, "give a part of it");
  }
  if (entries.reduce((sum, { size }) => sum + size, 0) > MAX_BYTES) {
    throw new Refusal(archive.name, `slices of more than ${MAX_BYTES / 2 ** 20} MiB, unpacked`, "give a part of it");
  }
  return Promise.all(entries.map((entry) => inflate(bytes, entry, archive.name)));
}

/** The central directory of a zip: [{name, method, from, packed, size}, ...]. */
function entriesOf(view, name) {
  const damaged = new Refusal(name, "a zip that is cut off or damaged", "copy or download it again");
  let end = view.byteLength - 22;
  while (end >= 0 && view.getUint32(end, true) !== END) end -= 1;
  if (end < 0) throw damaged;
  const found = [];
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left; left -= 1) {
    if (at + 46 > end || view.getUint32(at, true) !== ENTRY) throw damaged;
    const [letters, extra, comment] = [28, 30, 32].map((place) => view.getUint16(at + place, true));
    const [packed, size, from] = [20, 24, 42].map((place) => view.getUint32(at + place, true));
    const text = new TextDecoder().decode(new Uint8Array(view.buffer, at + 46, letters));
    if (view.getUint16(at + 8, true) & 1) throw new Refusal(name, "a zip with a password", "unpack it first");
    found.push({ name: text, method: view.getUint16(at + 10, true), from, packed, size });
    at += 46 + letters + extra + comment;
  }
  return found;
}

async function inflate(bytes, { name, method, from, packed, size }, archive) {
  const view = new DataView(bytes.buffer);
  if (![STORED, DEFLATED].includes(method) || from + 30 > bytes.length) {
    throw new Refusal(archive, `${name} in it cannot be unpacked here`, "unpack it first");
  }
  const start = from + 30 + view.getUint16(from + 26, true) + view.getUint16(from + 28, true);
  const data = new Blob([bytes.subarray(start, start + packed)]);
  const parts = method === STORED ? [data] : await plain(data, size, archive);
  const [folder, own] = [name.slice(0, name.lastIndexOf("/") + 1), name.slice(name.lastIndexOf("/") + 1)];
  return { file: new File(parts, own), scan: `${archive}/${folder}` };
}

/** What a deflated entry holds, and never more than it says: a bomb ends there. */
async function plain(data, size, archive) {
  const [parts, reader] = [[], data.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader()];
  try {
    for (let done = 0; ; ) {
      const { value, done: ended } = await reader.read();
      if (ended) return parts;
      done += value.length;
      if (done > size) throw new Error("more than it says");
      parts.push(value);
    }
  } catch {
    throw new Refusal(archive, "a zip that is cut off or damaged", "copy or download it again");
  }
}

/** Whether slices {place, scan} are of one scan: by their SeriesInstanceUID, and without one by their folder in a zip. */
export function areOneScan(slices) {
  const keys = new Set(slices.map(({ place, scan }) => place?.series || scan));
  return slices.length > 1 && keys.size === 1 && !keys.has(null);
}

/** Slices from the head down where all tell their position, else by their number in the series, else by name. */
export function inOrder(slices) {
  const keys = [({ place }) => -place?.position, ({ place }) => place?.number];
  const key = keys.find((one) => slices.every((slice) => Number.isFinite(one(slice))));
  return slices.toSorted((a, b) => (key ? key(a) - key(b) : 0) || byName.compare(a.file.name, b.file.name));
}

const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;
const log = (value) => Math.log(Math.max(value, LEAST));
const surest = (logs, count) => mean(logs.toSorted((a, b) => b - a).slice(0, count));

/** A class's score of its log-probabilities in each slice, as POOLS in statistics/pooling.py; what is learnt is not here. */
const POOLS = {
  mean_log: mean,
  mean: (logs) => log(mean(logs.map(Math.exp))),
  noisy_or: (logs) => log(-Math.expm1(logs.reduce((sum, one) => sum + Math.log1p(-Math.min(Math.exp(one), 1 - LEAST)), 0))),
  top_1: (logs) => surest(logs, 1),
  top_3: (logs) => surest(logs, 3),
};

/** One ranking of many by a rule {method, temperature}, as `pool_slices` in statistics/pooling.py. */
export function pool(rankings, { method, temperature }) {
  const names = rankings[0].map(([name]) => name);
  const slices = rankings.map((one) => new Map(one));
  const scores = names.map((name) => POOLS[method](slices.map((slice) => log(slice.get(name)))));
  return ranked(softmax(scores, temperature), names);
}

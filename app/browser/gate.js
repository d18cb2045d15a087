// Is this a slice such as the model knows? The rules of ct_xception/serving/gate.py.

import { components, otsuThreshold, shrink } from "./outline.js";
import { maskBox, opened } from "./preprocessing.js";
import { share } from "./reading.js";

const COLOURED = [0.05, 0.3]; // doubtful, refused: share of coloured pixels
const BODY = [0.5, 0.2]; // doubtful, refused: of the least share that a training body fills
const LUNG_SIDE = 192;
const [SHORT, LONG, ASPECT] = [0.5, 3.0, 1.5];
const FARTHEST = 1000;
const [REFUSES, DOUBTS, WINDOW_OVERLAP] = [1, 0.5, 0.5];
const MIN_THRESHOLD = 8;
const [MIN_SHARE, BLACK_SHARE, MOST_BOX, RIM] = [0.015, 0.1, 0.68, 0.025]; // of ct_xception/imaging/body/lungs.py

/** The arrays of a safetensors file: {name: {shape, values: Float32Array}}. */
export function readArrays(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const arrays = {};
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    if (dtype !== "F32") throw new Error(`${name} of the input gate is ${dtype}, not F32`);
    arrays[name] = { shape, values: new Float32Array(buffer.slice(8 + length + start, 8 + length + end)) };
  }
  return arrays;
}

/**
 * The verdict {verdict: "accepted" | "doubtful" | "refused", reasons, score} on a slice, its crop, and its features, by
 * `rule` (gate in ct_xception.json) and the arrays of gate.safetensors.
 */
export function judge(rule, arrays, slice, crop, features) {
  const signs = [
    ...modalitySigns(rule.signs, slice), ...colourSigns(slice), ...bodySigns(rule.signs, crop, slice),
    ...sizeSigns(rule.signs, slice), ...windowSigns(rule.signs, slice),
  ];
  const against = signs.reduce((sum, sign) => sum + sign.weight, 0);
  const far = distance(arrays, rule, features);
  const ratio = Math.min(far / rule.refused, FARTHEST);
  if (far >= rule.doubtful) {
    const times = Math.min(far / rule.usual, FARTHEST).toFixed(1);
    const reason = `its features lie ${times} times as far from the training slices as those of validation mostly do`;
    signs.push({ reason, weight: ratio });
  }
  const reasons = [...signs].sort((a, b) => b.weight - a.weight).map((sign) => sign.reason);
  const score = ratio + against;
  return { verdict: score >= 1 ? "refused" : signs.length ? "doubtful" : "accepted", reasons, score };
}

/** Features as they are, over the `length` that they have in training, and over their own. */
function describe(features, length) {
  const own = Math.max(Math.sqrt(features.reduce((sum, value) => sum + value ** 2, 0)), 1e-12);
  return [length, own].flatMap((unit) => Array.from(features, (value) => value / unit));
}

function distance({ mean, components: parts, variances }, { noise, length }, features) {
  if (!features.every(Number.isFinite)) return Infinity;
  const centred = describe(features, length).map((value, k) => value - mean.values[k]);
  let [within, explained] = [0, 0];
  for (let part = 0; part < variances.values.length; part += 1) {
    let place = 0;
    for (let k = 0; k < centred.length; k += 1) place += centred[k] * parts.values[part * centred.length + k];
    within += place ** 2 / variances.values[part];
    explained += place ** 2;
  }
  const whole = centred.reduce((sum, value) => sum + value ** 2, 0);
  return Math.sqrt((within + Math.max(whole - explained, 0) / noise) / centred.length);
}

function modalitySigns({ modalities }, { modality }) {
  if (!modality || !modalities.length || modalities.includes(modality)) return [];
  return [{ reason: `the file says modality ${modality}, not ${modalities.join(" or ")}`, weight: REFUSES }];
}

function windowSigns({ windows }, { window }) {
  const known = windows.map(([centre, width]) => ({ centre, width }));
  if (!window || !known.length || Math.max(...known.map((one) => overlap(window, one))) >= WINDOW_OVERLAP) return [];
  const said = ({ centre, width }) => `${centre}/${width}`;
  const reason = `shown through the window ${said(window)} HU, where training had ${known.map(said).join(", ")}`;
  return [{ reason, weight: DOUBTS }];
}

/** The range of HU that two windows share, over that of both. */
function overlap(...two) {
  const low = two.map(({ centre, width }) => centre - 0.5 - (width - 1) / 2);
  const high = two.map(({ centre, width }) => centre - 0.5 + (width - 1) / 2);
  const joint = Math.max(...high) - Math.min(...low);
  return joint ? Math.max(0, Math.min(...high) - Math.max(...low)) / joint : 1;
}

function colourSigns({ coloured }) {
  if (coloured < COLOURED[0]) return [];
  const weight = coloured >= COLOURED[1] ? REFUSES : DOUBTS;
  return [{ reason: `${share(coloured)} of its pixels are coloured, where all should be grey`, weight }];
}

function bodySigns(signs, crop, slice) {
  if (signs.body !== null && !crop.found) {
    return [{ reason: "no body stands out from the background", weight: REFUSES }];
  }
  const found = [];
  if (signs.lungs && !hasLungs(crop)) found.push({ reason: "no lungs stand out in it", weight: signs.lungs });
  const { box } = crop;
  const filled = ((box.bottom - box.top) * (box.right - box.left)) / (slice.height * slice.width);
  const least = signs.body ?? 0;
  if (signs.body === null || filled >= least * BODY[0]) return found;
  const stands = `what stands out as a body fills ${share(filled)} of the picture`;
  const reason = `${stands}, in training at least ${share(least)}`;
  return [{ reason, weight: filled < least * BODY[1] ? REFUSES : DOUBTS }, ...found];
}

function sizeSigns(signs, { height, width }) {
  if (signs.sides === null || signs.aspects === null) return [];
  const [shortest, longest] = signs.sides;
  if (Math.min(height, width) < SHORT * shortest || Math.max(height, width) > LONG * longest) {
    const sides = `training had ${shortest.toFixed(0)} to ${longest.toFixed(0)} a side`;
    return [{ reason: `${width} x ${height} pixels, where ${sides}`, weight: DOUBTS }];
  }
  const [narrowest, widest] = signs.aspects;
  if (width / height >= narrowest / ASPECT && width / height <= widest * ASPECT) return [];
  const shape = width > height ? "wide" : "tall";
  const reason = `${width} x ${height} pixels: too ${shape} for a slice such as those of training`;
  return [{ reason, weight: DOUBTS }];
}

// Lungs: large dark places inside the body that do not reach its rim

/** Whether anything in a crop looks like a lung, at about LUNG_SIDE pixels. */
export function hasLungs({ picture, body, found }) {
  const step = Math.ceil(Math.max(picture.height, picture.width) / LUNG_SIDE);
  if (!found || Math.min(picture.height, picture.width) < 2 * step) return false;
  const small = framed(shrink(picture, step));
  const doubled = { pixels: body.on.map((on) => 2 * on), height: body.height, width: body.width };
  const { pixels, height, width } = framed(shrink(doubled, step)); // 0 where less than half is body
  return pixels.some(Boolean) && darkPlaces(small, { on: pixels.map((level) => (level ? 1 : 0)), height, width });
}

/** A picture with a black pixel around it. */
function framed({ pixels, height, width }) {
  const found = new Uint8Array((height + 2) * (width + 2));
  for (let row = 0; row < height; row += 1) {
    found.set(pixels.subarray(row * width, (row + 1) * width), (row + 1) * (width + 2) + 1);
  }
  return { pixels: found, height: height + 2, width: width + 2 };
}

function darkPlaces({ pixels, height, width }, body) {
  const box = maskBox(body);
  const across = box.right - box.left;
  const area = body.on.reduce((sum, on) => sum + on, 0);
  const upTo = (level) => Uint8Array.from(pixels, (value, i) => (body.on[i] && value <= level ? 1 : 0));
  const black = upTo(MIN_THRESHOLD);
  const blackArea = black.reduce((sum, on) => sum + on, 0);
  const dark = blackArea > BLACK_SHARE * area ? black : upTo(otsuThreshold(pixels.filter((_, i) => body.on[i])));
  const { labels, sizes } = components(opened({ on: dark, height, width }, Math.max(1, Math.floor(across / 150))));
  const nearest = sizes.map(() => Infinity);
  const depths = squaredDepths(body);
  labels.forEach((label, i) => {
    if (label) nearest[label - 1] = Math.min(nearest[label - 1], Math.sqrt(depths[i]));
  });
  const most = MOST_BOX * across * (box.bottom - box.top);
  const areas = boxAreas(labels, sizes.length, width);
  return sizes.some((size, k) => size >= MIN_SHARE * area && nearest[k] > RIM * across && areas[k] <= most);
}

/** The area of each component's box. */
function boxAreas(labels, count, width) {
  const boxes = Array.from({ length: count }, () => [Infinity, -1, Infinity, -1]);
  labels.forEach((label, i) => {
    if (!label) return;
    const [row, column, box] = [Math.floor(i / width), i % width, boxes[label - 1]];
    box[0] = Math.min(box[0], row);
    box[1] = Math.max(box[1], row);
    box[2] = Math.min(box[2], column);
    box[3] = Math.max(box[3], column);
  });
  return boxes.map(([top, bottom, left, right]) => (bottom - top + 1) * (right - left + 1));
}

/** The squared distance of each pixel of a mask to the nearest one off it; beyond the picture all is off. */
function squaredDepths({ on, height, width }) {
  const down = new Float64Array(on.length).fill(Infinity); // to the nearest pixel off in the same column
  for (let column = 0; column < width; column += 1) {
    const sweep = (start, step) => {
      for (let k = 0, i = start, depth = 0; k < height; k += 1, i += step) {
        depth = on[i] ? depth + 1 : 0;
        down[i] = Math.min(down[i], depth);
      }
    };
    sweep(column, width);
    sweep((height - 1) * width + column, -width);
  }
  const found = new Float64Array(on.length);
  for (let row = 0, i = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1, i += 1) {
      let best = Math.min(column + 1, width - column) ** 2;
      for (let other = 0; other < width; other += 1) {
        best = Math.min(best, (other - column) ** 2 + down[row * width + other] ** 2);
      }
      found[i] = best;
    }
  }
  return found;
}

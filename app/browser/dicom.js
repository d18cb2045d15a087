// A CT slice in DICOM becomes grey levels as ct_xception/imaging/decoders/dicom.py makes them: rescaled to HU, windowed,
// padding black, the body found in HU. Only what is read the same is read: one frame, uncompressed, little-endian, in 9 to
// 16 bits, upright, of square pixels. Anything else is refused by name.

import { outlineInHu } from "./outline.js";
import { ELSEWHERE, Refusal } from "./refusal.js";

const REMEDY = "give the original image";
const [IMPLICIT, EXPLICIT] = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"];
const SYNTAXES = { "1.2.840.10008.1.2.2": "big-endian", "1.2.840.10008.1.2.1.99": "deflated" };
const LONG = ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]; // VRs of 32-bit lengths
const UNDEFINED = 0xffffffff;
const MAX_PIXELS = 16_000_000;
const MAX_DEPTH = 16; // of sequences in sequences
const TAGS = {
  0x00080008: "ImageType", 0x00080060: "Modality", 0x00185100: "PatientPosition",
  0x0020000e: "SeriesInstanceUID", 0x00200013: "InstanceNumber", 0x00200032: "ImagePositionPatient",
  0x00200037: "ImageOrientationPatient", 0x00280002: "SamplesPerPixel", 0x00280004: "PhotometricInterpretation",
  0x00280008: "NumberOfFrames", 0x00280010: "Rows", 0x00280011: "Columns", 0x00280030: "PixelSpacing",
  0x00280034: "PixelAspectRatio", 0x00280100: "BitsAllocated", 0x00280101: "BitsStored", 0x00280102: "HighBit",
  0x00280103: "PixelRepresentation", 0x00280120: "PixelPaddingValue", 0x00280121: "PixelPaddingRangeLimit",
  0x00281050: "WindowCenter", 0x00281051: "WindowWidth", 0x00281052: "RescaleIntercept", 0x00281053: "RescaleSlope",
  0x00281054: "RescaleType", 0x00281056: "VOILUTFunction", 0x00282110: "LossyImageCompression",
  0x00283000: "ModalityLUTSequence", 0x00283010: "VOILUTSequence", 0x52009229: "SharedFunctionalGroupsSequence",
  0x52009230: "PerFrameFunctionalGroupsSequence",
};
const WHOLE = ["SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"];
// As in imaging/decoders/dicom.py and imaging/slice.py.
const [LEAST_SLOPE, MOST_SLOPE, MAX_INTERCEPT] = [1e-6, 1e4, 1e6];
const [BEYOND_METAL, BEYOND_BONE, DENSE, DENSE_SHARE, LEAST_JUDGED] = [20_000, 2500, 700, 0.15, 1024];
const [TISSUE, TISSUELESS, OUTSIDE_THE_CIRCLE] = [[-900, 3000], -500, -1500];
const [MIN_BLANK, ABRUPT] = [8, 0.5];
const SQUARE = 0.01; // by which a pixel's sides may differ
const LUNG = { centre: -600, width: 1500 };

/** Whether bytes begin as a DICOM file does. */
export const isDicom = (bytes) => bytes.length > 132 && String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";

/**
 * Read a CT slice: {name, pixels (Uint8Array), height, width, coloured: 0, notes, body, window, modality, place}, where
 * `place` is {series, position (mm along the patient, NaN unless stated), number}. `option` is the checkpoint's window {centre, width}, null for the file's own. Throws Refusal.
 */
export function readDicom(bytes, name, option) {
  const tags = readTags(bytes, name);
  checkImage(tags, name);
  const stored = storedPixels(tags, bytes, name);
  const [slope, intercept] = rescaling(tags, name);
  const values = Float64Array.from(stored, (value) => value * slope + intercept);
  const { padding, notes: padded } = findPadding(stored, values, tags);
  const shown = values.filter((_, i) => !padding[i]);
  checkHu(shown, tags, name);
  const { window, notes: windowed } = chooseWindow(shown, tags, option, name);
  const picture = { height: tags.Rows, width: tags.Columns };
  const inverted = text(tags.PhotometricInterpretation) === "MONOCHROME1";
  const notes = [
    ...(text(tags.LossyImageCompression) === "01" ? ["compressed with loss"] : []),
    ...positionNotes(tags), ...padded, ...blankRows(stored, picture), ...doubts(values), ...windowed,
    ...(inverted ? ["inverted: MONOCHROME1 stores white as its lowest value"] : []),
  ];
  const pixels = greyLevels(values, window);
  for (let i = 0; i < pixels.length; i += 1) {
    if (inverted) pixels[i] = 255 - pixels[i];
    if (padding[i]) pixels[i] = 0;
  }
  const body = outlineInHu({ ...picture, values: values.map((value, i) => (padding[i] ? -Infinity : value)) });
  return { name, pixels, ...picture, coloured: 0, notes, body, window, modality: "CT", place: placeOf(tags) };
}

function placeOf(tags) {
  const [a, b, c, d, e, f] = (tags.ImageOrientationPatient ?? []).map(Number);
  const at = (tags.ImagePositionPatient ?? []).map(Number);
  const normal = [b * f - c * e, c * d - a * f, a * e - b * d];
  const position = at.length === 3 ? normal.reduce((sum, one, k) => sum + one * at[k], 0) : NaN;
  return { series: text(tags.SeriesInstanceUID), position, number: Number(text(tags.InstanceNumber) || NaN) };
}

// Tags

function readTags(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const meta = {};
  let at = 132;
  while (at + 8 <= view.byteLength && view.getUint16(at, true) === 2) {
    const element = elementAt(view, at, true, name);
    if (element.tag === 0x00020010) meta.syntax = text(valueOf(view, element, ""));
    at = element.end;
  }
  if (![IMPLICIT, EXPLICIT].includes(meta.syntax)) {
    const kind = SYNTAXES[meta.syntax] ?? (meta.syntax ? "compressed" : "undeclared");
    throw new Refusal(name, `a DICOM file whose pixels are stored in a ${kind} transfer syntax`, ELSEWHERE);
  }
  return elements(view, at, meta.syntax === EXPLICIT, name);
}

function elements(view, start, explicit, name) {
  const found = {};
  for (let at = start; at + 8 <= view.byteLength; ) {
    const element = elementAt(view, at, explicit, name);
    if (element.tag === 0x7fe00010) return { ...found, pixels: element };
    const keyword = TAGS[element.tag];
    if (element.length === UNDEFINED) {
      if (keyword) found[keyword] = [true];
      at = afterSequence(view, element, explicit, name, 0);
      continue;
    }
    if (element.end > view.byteLength) break;
    if (keyword) found[keyword] = element.length ? valueOf(view, element, keyword) : undefined;
    at = element.end;
  }
  throw new Refusal(name, "DICOM with no image, or cut off before it", "give the image itself");
}

function elementAt(view, at, explicit, name) {
  const tag = ((view.getUint16(at, true) << 16) | view.getUint16(at + 2, true)) >>> 0;
  const vr = explicit ? String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5)) : "";
  if (explicit && !/^[A-Z]{2}$/.test(vr)) throw new Refusal(name, "damaged DICOM tags", "copy or download it again");
  const wide = explicit && LONG.includes(vr);
  if (wide && at + 12 > view.byteLength) throw new Refusal(name, "cut short", "copy or download it again");
  const length = !explicit ? view.getUint32(at + 4, true) : wide ? view.getUint32(at + 8, true) : view.getUint16(at + 6, true);
  const from = at + (wide ? 12 : 8);
  return { tag, vr, length, from, end: from + length };
}

/** Where what follows a sequence of undefined length begins; nothing in it is looked at. */
function afterSequence(view, { vr, from }, explicit, name, depth) {
  if (depth > MAX_DEPTH) throw new Refusal(name, "DICOM sequences nested too deep", REMEDY);
  const inside = explicit && vr !== "UN"; // of unknown representation is implicit inside
  let at = from;
  while (at + 8 <= view.byteLength) {
    const [tag, length] = [((view.getUint16(at, true) << 16) | view.getUint16(at + 2, true)) >>> 0, view.getUint32(at + 4, true)];
    at += 8;
    if (tag === 0xfffee0dd) return at;
    if (length !== UNDEFINED) at += length;
    else at = afterItem(view, at, inside, name, depth);
  }
  throw new Refusal(name, "cut short in a DICOM sequence", "copy or download it again");
}

function afterItem(view, start, explicit, name, depth) {
  for (let at = start; at + 8 <= view.byteLength; ) {
    if (view.getUint16(at, true) === 0xfffe) return at + 8;
    const element = elementAt(view, at, explicit, name);
    at = element.length === UNDEFINED ? afterSequence(view, element, explicit, name, depth + 1) : element.end;
  }
  throw new Refusal(name, "cut short in a DICOM sequence", "copy or download it again");
}

/** Numbers of the tags that hold binary ones, a list of texts of the others. */
function valueOf(view, { vr, from, length }, keyword) {
  if (vr === "SQ") return [true];
  if (WHOLE.includes(keyword)) return length === 2 ? view.getUint16(from, true) : NaN;
  if (keyword.startsWith("PixelPadding")) return vr === "SS" ? view.getInt16(from, true) : view.getUint16(from, true);
  const letters = new Uint8Array(view.buffer, view.byteOffset + from, Math.min(length, 1024));
  return String.fromCharCode(...letters).split("\\").map((one) => one.replace(/[\0\s]+$/, "").trim());
}

const text = (value) => (Array.isArray(value) ? value.join("\\") : "");

/** The first number of a tag; null where there is none. */
function number(value) {
  const first = Array.isArray(value) ? value[0] : value;
  return first === undefined || first === "" || first === true || !Number.isFinite(Number(first)) ? null : Number(first);
}

const numbers = (value, count) =>
  Array.isArray(value) && value.length === count && value.every((one) => one !== "" && Number.isFinite(Number(one))) ? value.map(Number) : null;

// What is read here, and what is not

function checkImage(tags, name) {
  const modality = text(tags.Modality) || "unknown";
  const missing = WHOLE.filter((tag) => !Number.isInteger(tags[tag]));
  if (missing.length) throw new Refusal(name, `DICOM without ${missing.join(", ")}`, REMEDY);
  for (const [found, said] of objections(tags, modality)) if (found) throw new Refusal(name, said, ELSEWHERE);
  const { Rows: rows, Columns: columns, BitsStored: bits, HighBit: high } = tags;
  if (!rows || !columns || rows * columns > MAX_PIXELS) throw new Refusal(name, `${columns} x ${rows} pixels`, "give one slice");
  if (high !== bits - 1) throw new Refusal(name, `DICOM with HighBit ${high} for ${bits} bits stored, something else beside them`, REMEDY);
  if (tags.ModalityLUTSequence) throw new Refusal(name, "a modality lookup table, which CT images do not have", REMEDY);
}

/** [whether it is so, what is said of it], of all that the demo page reads and this one does not. */
function objections(tags, modality) {
  const photometric = text(tags.PhotometricInterpretation);
  const directions = numbers(tags.ImageOrientationPatient, 6);
  const pair = numbers(tags.PixelSpacing, 2) ?? numbers(tags.PixelAspectRatio, 2);
  const frames = number(tags.NumberOfFrames) ?? 1;
  const grouped = tags.SharedFunctionalGroupsSequence || tags.PerFrameFunctionalGroupsSequence;
  const upright = !directions || [1, 0, 0, 0, 1, 0].every((wanted, k) => Math.abs(directions[k] - wanted) < 1e-3);
  const { SamplesPerPixel: samples, BitsAllocated: allocated, BitsStored: bits } = tags;
  const kind = `DICOM pixels of kind ${photometric || "unknown"}, ${samples} x ${allocated} bits, ${bits} stored`;
  return [
    [modality !== "CT", `DICOM of modality ${modality}, where this page reads CT`],
    [frames > 1 || grouped, "an enhanced DICOM file, or one of several frames, which this page does not read"],
    [samples !== 1 || allocated !== 16 || bits <= 8 || !["MONOCHROME1", "MONOCHROME2"].includes(photometric), kind],
    [text(tags.ImageType).toUpperCase().includes("LOCALIZER"), "a localizer (scout view), not a slice"],
    [!upright, "a DICOM slice that is not stored upright and axial"],
    [pair && Math.abs(pair[0] / pair[1] - 1) > SQUARE, "a DICOM slice whose pixels are not square"],
    [Math.max(tags.Rows, tags.Columns) >= 2048, `${tags.Columns} x ${tags.Rows} pixels, larger than CT`],
    [number(tags.RescaleSlope) === null || number(tags.RescaleIntercept) === null, "CT without rescale slope and intercept, so not in HU"],
    [!["", "HU"].includes(text(tags.RescaleType).toUpperCase()), `CT rescaled to ${text(tags.RescaleType)}, and not to HU`],
  ];
}

function storedPixels({ pixels: element, Rows: rows, Columns: columns, BitsStored: bits, PixelRepresentation: signed }, bytes, name) {
  const size = 2 * rows * columns;
  const there = bytes.length - element.from;
  if (element.length === UNDEFINED) throw new Refusal(name, "a DICOM file with compressed pixels", ELSEWHERE);
  if (there < size) throw new Refusal(name, `cut short: ${there} of the ${size} bytes of its pixels`, "copy or download it again");
  const words = bytes.slice(element.from, element.from + size).buffer;
  const stored = signed ? new Int16Array(words) : new Uint16Array(words); // little-endian, as every browser's machine is
  const [low, high] = signed ? [-(2 ** (bits - 1)), 2 ** (bits - 1)] : [0, 2 ** bits];
  if (!stored.every((value) => value >= low && value < high)) {
    throw new Refusal(name, `values beyond its ${bits} bits stored, something else beside them`, ELSEWHERE);
  }
  return stored;
}

function rescaling(tags, name) {
  const [slope, intercept] = [number(tags.RescaleSlope), number(tags.RescaleIntercept)];
  if (!(slope >= LEAST_SLOPE && slope <= MOST_SLOPE)) throw new Refusal(name, `a rescale slope of ${slope}`, REMEDY);
  if (!(Math.abs(intercept) <= MAX_INTERCEPT)) throw new Refusal(name, `a rescale intercept of ${intercept}`, REMEDY);
  return [slope, intercept];
}

function positionNotes(tags) {
  const position = text(tags.PatientPosition).toUpperCase();
  if (position.endsWith("P")) return ["the patient lies prone: the table is at the top"];
  return position[2] === "D" ? ["the patient lies on one side: the table is at a side"] : [];
}

// Values

/** Where the file declares padding (PS3.3 C.7.5.1.1.2), or a scanner left it undeclared. */
function findPadding(stored, values, tags) {
  const nothing = Uint8Array.from(values, (value) => (value < OUTSIDE_THE_CIRCLE ? 1 : 0));
  const first = number(tags.PixelPaddingValue);
  if (first === null) return { padding: nothing, notes: [] };
  const ends = [first, number(tags.PixelPaddingRangeLimit) ?? first].map((value) => asStored(value, tags));
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const padding = Uint8Array.from(stored, (value) => (value >= low && value <= high ? 1 : 0));
  const padded = values.filter((_, i) => padding[i]);
  if (!padded.length) return { padding: nothing, notes: [] };
  if (padded.some((value) => value > TISSUE[0] && value < TISSUE[1])) {
    return { padding: nothing, notes: [`padding value ${low} ignored: it lies among tissue, ${span(padded)} HU`] };
  }
  return { padding: padding.map((on, i) => on | nothing[i]), notes: [`${padded.length} padding pixels set to black`] };
}

function asStored(value, { PixelRepresentation: signed }) {
  if (signed === 1 && value >= 2 ** 15) return value - 2 ** 16;
  return signed === 0 && value < 0 ? value + 2 ** 16 : value;
}

function extremes(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

const span = (values) => extremes(values).join(" to ");

const share = (values, is) => values.reduce((sum, value) => sum + (is(value) ? 1 : 0), 0) / values.length;

function checkHu(values, { PixelRepresentation: signed }, name) {
  if (!values.length) return;
  const [low, high] = extremes(values);
  if (signed === 0 && high > BEYOND_METAL) {
    throw new Refusal(name, `values up to ${high} HU: signed pixels declared unsigned (PixelRepresentation 0)`, REMEDY);
  }
  if (values.length < LEAST_JUDGED) return;
  const beyond = share(values, (value) => value > BEYOND_BONE);
  const dense = share(values, (value) => value > DENSE);
  if (beyond <= DENSE_SHARE && (low <= -200 || dense <= DENSE_SHARE)) return;
  const [much, limit] = beyond > DENSE_SHARE ? [beyond, BEYOND_BONE] : [dense, DENSE];
  const found = `values that cannot be HU: ${(100 * much).toFixed(0)} % of it above ${limit}, ${low} to ${high}`;
  throw new Refusal(name, found, "give the original image, or correct its rescale or PixelRepresentation");
}

function doubts(values) {
  if (values.length < LEAST_JUDGED) return [];
  const [low, high] = extremes(values);
  if (high - low > 400 && share(values, (value) => value > TISSUELESS) < 0.02) {
    return [`hardly anything denser than ${TISSUELESS} HU: no body in it, or a wrong rescale`];
  }
  const floor = share(values, (value) => value === low);
  if (low <= -200 || low >= high || floor <= 0.3) return [];
  return [`no air: ${(100 * floor).toFixed(0)} % of it at its lowest value, ${low} HU; masked, or not HU`];
}

/** A note where a band of whole rows holds one value and begins or ends in the middle of the picture. */
function blankRows(values, { height, width }) {
  if (width < 16) return [];
  const row = (index) => values.subarray(index * width, (index + 1) * width);
  const blank = Array.from({ length: height }, (_, index) => row(index).every((value) => value === values[index * width]));
  for (let start = 0; start < height; start += 1) {
    if (!blank[start]) continue;
    let end = start + 1;
    while (end < height && blank[end] && values[end * width] === values[start * width]) end += 1;
    // Zeroed pixels begin and end within rows: the row beside the band may be of its value for the most part.
    const beside = [[start - 2, start - 1], [end, end + 1]].map((edge) => edge.filter((index) => index >= 0 && index < height));
    const unlike = (index) => share(row(index), (value) => value !== values[start * width]) > ABRUPT;
    const abrupt = beside.every((edge) => !edge.length || edge.some(unlike));
    if (end - start >= Math.max(MIN_BLANK, Math.floor(height / 20)) && end - start < height && abrupt) {
      return [`rows ${start} to ${end - 1} of ${height} hold one value: blank, or missing`];
    }
    start = end - 1;
  }
  return [];
}

// Windows

function chooseWindow(shown, tags, option, name) {
  if (option) return { window: option, notes: [] };
  const [centre, width] = [number(tags.WindowCenter), number(tags.WindowWidth)];
  if (centre === null || width === null) {
    if (tags.VOILUTSequence) throw new Refusal(name, "a DICOM file shown by a lookup table of its own", ELSEWHERE);
    return { window: LUNG, notes: [`no window in the file: lung ${LUNG.centre}/${LUNG.width} shown`] };
  }
  const lung = `no window in the file: lung ${LUNG.centre}/${LUNG.width} shown`;
  if (!(width >= 1 && width <= 1e9)) return { window: LUNG, notes: [`the file's window ${centre}/${width} is unusable`, lung] };
  const notes = [];
  if (tags.WindowCenter.length > 1) notes.push(`the first of the file's ${tags.WindowCenter.length} windows shown`);
  const asked = text(tags.VOILUTFunction) || "LINEAR";
  if (asked !== "LINEAR") notes.push(`shown by the LINEAR function, where the file asks for ${asked}`);
  const [low, high] = extremes(shown);
  const [black, white] = [centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2];
  if (low < high && (high <= black || low > white)) {
    notes.push(`the file's window ${centre}/${width} shows nothing of its values, ${low} to ${high} HU`, lung);
    return { window: LUNG, notes };
  }
  return { window: { centre, width }, notes };
}

/** LINEAR, DICOM PS3.3 C.11.2.1.2.1, rounded half to even; see imaging/windows.py. */
function greyLevels(values, { centre, width }) {
  const [low, steps] = width < 1 ? [centre - width / 2, width] : [centre - 0.5 - (width - 1) / 2, width - 1];
  if (steps === 0) return Uint8Array.from(values, (value) => (value > low ? 255 : 0));
  const scale = 255 / steps;
  return Uint8Array.from(values, (value) => halfEven((Math.min(Math.max(value, low), low + steps) - low) * scale));
}

function halfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

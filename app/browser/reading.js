// One file becomes one grey slice, as Python reads it: 8-bit PNG and JPEG (imaging/decoders/pictures.py), and DICOM of CT
// (dicom.js), and nothing else.
//
// The browser decodes pictures; the file's own bytes say first what it is, since a browser would turn 16 bits into 8 in silence.

import { isDicom, readDicom } from "./dicom.js";
import { ELSEWHERE, Refusal } from "./refusal.js";

const MAX_BYTES = 512 * 2 ** 20;
const MAX_PIXELS = 16_000_000; // what a canvas holds on a phone; beyond, some give back an empty one
const COLOUR_TOLERANCE = 16; // grey levels between channels: JPEG's chroma noise stays below

/**
 * Read a File: {name, pixels (Uint8Array, row after row), height, width, coloured (share in [0, 1]), notes}, and of DICOM
 * what `readDicom` tells too. `window` is the checkpoint's, null for the file's own. Throws Refusal for what is neither an
 * 8-bit PNG or JPEG nor a CT slice in DICOM, is damaged, or would not fit in memory.
 */
export async function readSlice(file, window = null) {
  if (file.size === 0) throw new Refusal(file.name, "an empty file", "copy or download it again");
  if (file.size > MAX_BYTES) throw new Refusal(file.name, "more than 512 MiB", "give one slice");
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (isDicom(bytes)) return readDicom(bytes, file.name, window);
  const found = inspect(bytes, file.name);
  if (found.height * found.width > MAX_PIXELS) {
    const size = `${found.width} x ${found.height} pixels, more than ${MAX_PIXELS / 1e6} million`;
    throw new Refusal(file.name, size, "crop or shrink it to one slice");
  }
  const { data, width, height } = await decode(file, found.type);
  const { pixels, coloured, transparent } = luminance(data);
  const notes = [
    ...(found.turned ? ["turned upright by its orientation tag"] : []),
    "8-bit picture: its grey levels are not HU",
    ...(coloured ? [`colour dropped (${share(coloured)} of pixels coloured)`] : []),
    ...(transparent ? ["alpha composited on black"] : []),
  ];
  return { name: file.name, pixels, height, width, coloured, notes };
}

/** A share in [0, 1] as text. */
export function share(value) {
  return value >= 0.01 ? `${(100 * value).toFixed(0)} %` : "under 1 %";
}

/** What the bytes of a file say of it: {type, width, height, turned}. Throws Refusal. */
export function inspect(bytes, name) {
  if (begins(bytes, "\x89PNG\r\n\x1a\n")) return inspectPng(bytes, name);
  if (begins(bytes, "\xff\xd8\xff")) return inspectJpeg(bytes, name);
  for (const [magic, kind] of [["II*\0", "TIFF"], ["MM\0*", "TIFF"], ["BM", "BMP"]]) {
    if (begins(bytes, magic)) throw new Refusal(name, `a ${kind} file, which this page does not read`, ELSEWHERE);
  }
  throw new Refusal(name, "neither DICOM, PNG nor JPEG, or damaged at its start", "convert or download it again");
}

function begins(bytes, magic, at = 0) {
  return bytes.length >= at + magic.length && [...magic].every((one, i) => bytes[at + i] === one.charCodeAt(0));
}

function inspectPng(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = { type: "image/png", width: 0, height: 0, turned: false };
  let at = 8;
  while (at + 12 <= bytes.length) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (at + 12 + length > bytes.length) break;
    if (kind === "IHDR") {
      found.width = view.getUint32(at + 8);
      found.height = view.getUint32(at + 12);
      if (bytes[at + 16] > 8) {
        throw new Refusal(name, `a ${bytes[at + 16]}-bit picture, of which a browser would keep 8 bits`, ELSEWHERE);
      }
    }
    if (kind === "eXIf" && orientation(bytes.subarray(at + 8, at + 8 + length)) !== 1) {
      throw new Refusal(name, "a PNG with an orientation tag, which browsers read differently", "export it upright");
    }
    if (kind === "IEND") return found;
    at += 12 + length;
  }
  throw new Refusal(name, "a PNG that is cut off or damaged", "export or download it again");
}

function inspectJpeg(bytes, name) {
  const damaged = new Refusal(name, "a JPEG that is cut off or damaged", "export it again as PNG");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = { type: "image/jpeg", width: 0, height: 0, turned: false };
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at += 1; // a fill byte
      continue;
    }
    const length = view.getUint16(at + 2);
    const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (frame && at + 10 <= bytes.length) Object.assign(found, frameHeader(bytes, view, at, name));
    if (marker === 0xe1 && begins(bytes, "Exif\0\0", at + 4)) {
      found.turned = orientation(bytes.subarray(at + 10, at + 2 + length)) !== 1;
    }
    if (marker === 0xda) {
      if (!found.width || !endsWell(bytes, at)) throw damaged;
      return found;
    }
    at += 2 + length;
  }
  throw damaged;
}

function frameHeader(bytes, view, at, name) {
  if (bytes[at + 4] !== 8) throw new Refusal(name, `a JPEG of ${bytes[at + 4]} bits`, ELSEWHERE);
  if (bytes[at + 9] > 3) throw new Refusal(name, "a CMYK picture", "export it again as grey PNG");
  return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
}

/** Whether the end marker follows the picture; browsers show what there is of a JPEG that was cut off. */
function endsWell(bytes, from) {
  for (let at = bytes.length - 2; at > from; at -= 1) if (bytes[at] === 0xff && bytes[at + 1] === 0xd9) return true;
  return false;
}

/** The orientation tag of EXIF data, 1 (upright) where it has none. */
function orientation(exif) {
  const little = begins(exif, "II*\0");
  if (exif.length < 14 || (!little && !begins(exif, "MM\0*"))) return 1;
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const directory = view.getUint32(4, little);
  if (directory + 2 > exif.length) return 1;
  const end = Math.min(directory + 2 + 12 * view.getUint16(directory, little), exif.length);
  for (let at = directory + 2; at + 12 <= end; at += 12) {
    const value = view.getUint16(at + 8, little);
    if (view.getUint16(at, little) === 0x0112) return value >= 2 && value <= 8 ? value : 1;
  }
  return 1;
}

// Decoding

/** RGBA as stored: no colour profile, no gamma; upright. */
async function decode(file, type) {
  checkCanvas(file.name);
  let bitmap;
  try {
    const stored = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    bitmap = await createImageBitmap(new Blob([file], { type }), stored);
  } catch (error) {
    throw new Refusal(file.name, `cannot be decoded (${error.message})`, "export it again as PNG");
  }
  const context = newContext(bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, context.canvas.width, context.canvas.height);
}

function newContext(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  return canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" }); // read often: kept off the GPU
}

/** Some browsers add noise to what a page reads from a canvas, against tracking: the answer would be of other pixels. */
function checkCanvas(name) {
  const context = newContext(256, 16);
  const ramp = context.createImageData(256, 16);
  for (let i = 0; i < ramp.data.length; i += 1) ramp.data[i] = i % 4 === 3 ? 255 : (i >> 2) % 256;
  context.putImageData(ramp, 0, 0);
  const back = context.getImageData(0, 0, 256, 16).data;
  if (!ramp.data.every((value, i) => value === back[i])) {
    const found = "this browser changes the pixels that a page reads (a protection against tracking)";
    throw new Refusal(name, found, "allow this page to read a canvas, or use another browser");
  }
}

/** Luminance (ITU-R 601) in Pillow's own integers; what is transparent lies on black. */
export function luminance(rgba) {
  const pixels = new Uint8Array(rgba.length / 4);
  let colours = 0;
  let transparent = false;
  for (let i = 0, at = 0; i < pixels.length; i += 1, at += 4) {
    const [red, green, blue, alpha] = [rgba[at], rgba[at + 1], rgba[at + 2], rgba[at + 3]];
    const grey = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    if (Math.max(red, green, blue) - Math.min(red, green, blue) > COLOUR_TOLERANCE) colours += 1;
    if (alpha < 255) transparent = true;
    pixels[i] = alpha === 255 ? grey : Math.round(grey * (alpha / 255));
  }
  return { pixels, coloured: colours / pixels.length, transparent };
}

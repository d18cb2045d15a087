// From slice to the network's input, number for number as Python does it: ct_xception/imaging/body/crop.py (the body crop),
// imaging/preprocessing.py (resize, crop or pad, normalise) and Pillow's resampling in 22-bit fixed point.
//
// A picture here is {pixels: Uint8Array, row after row, height, width}; a mask is {on: Uint8Array of 0 and 1, ...}.

import { findOutline } from "./outline.js";

const PRECISION = 22; // bits behind the point in Pillow's weights of 8-bit pictures

/**
 * What the network takes of a slice, by a preprocessing record {size, mean, std, interpolation, crop_pct, crop_mode,
 * body_crop, filters}: {values (Float32Array, 3 x size x size), crop: {picture, box, found, notes}}.
 */
export function prepare(slice, wanted) {
  const notes = [];
  let picture = { pixels: slice.pixels, height: slice.height, width: slice.width, body: slice.body ?? null };
  for (const name of wanted.filters) {
    if (name !== "median") throw new Error(`filter ${name} is not known to this page`);
    picture = { ...medianFilter(picture), body: picture.body };
    notes.push("median filter 3 x 3");
  }
  const crop = wanted.body_crop ? cropBody(picture) : { picture, box: wholeBox(picture), found: false, notes: [] };
  return { values: networkInput(crop.picture, wanted), crop: { ...crop, notes: [...notes, ...crop.notes] } };
}

function wholeBox({ height, width }) {
  return { top: 0, left: 0, bottom: height, right: width };
}

/** The middle one of each pixel's 3 x 3; beyond the edge the edge is repeated. */
function medianFilter({ pixels, height, width }) {
  const found = new Uint8Array(pixels.length);
  const near = new Uint8Array(9);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      for (let k = 0; k < 9; k += 1) {
        const r = Math.min(Math.max(row + Math.floor(k / 3) - 1, 0), height - 1);
        const c = Math.min(Math.max(column + (k % 3) - 1, 0), width - 1);
        near[k] = pixels[r * width + c];
      }
      found[row * width + column] = near.sort()[4];
    }
  }
  return { pixels: found, height, width };
}

// The body crop

/** The slice without what lies outside the body, cut to its box; left as it is where no body is found. */
export function cropBody(picture) {
  const { mask, reason } = picture.body ? { mask: picture.body, reason: "" } : findOutline(picture); // in HU, where it has any
  if (!mask) {
    const notes = [`no body found, not cropped: ${reason}`];
    return { picture, box: wholeBox(picture), found: false, reason, notes };
  }
  const box = maskBox(mask);
  const [height, width] = [box.bottom - box.top, box.right - box.left];
  const pixels = new Uint8Array(height * width);
  const on = new Uint8Array(height * width);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const from = (row + box.top) * picture.width + column + box.left;
      if (!mask.on[from]) continue;
      on[row * width + column] = 1;
      pixels[row * width + column] = picture.pixels[from];
    }
  }
  const body = { on, height, width };
  return { picture: { pixels, height, width }, body, box, found: true, reason, notes: ["cropped to the body"] };
}

/** Erosions, then as many dilations, by the cross of four neighbours; outside the picture counts as off. */
export function opened(mask, times) {
  let found = mask;
  for (let k = 0; k < times; k += 1) found = crossed(found, 5);
  for (let k = 0; k < times; k += 1) found = crossed(found, 1);
  return found;
}

/** On where at least `least` of a pixel and its four neighbours are: 5 erodes, 1 dilates. */
function crossed({ on, height, width }, least) {
  const found = new Uint8Array(on.length);
  for (let row = 0, i = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1, i += 1) {
      const up = row > 0 ? on[i - width] : 0;
      const down = row < height - 1 ? on[i + width] : 0;
      const left = column > 0 ? on[i - 1] : 0;
      const right = column < width - 1 ? on[i + 1] : 0;
      found[i] = on[i] + up + down + left + right >= least ? 1 : 0;
    }
  }
  return { on: found, height, width };
}

/** The smallest box around a mask that has some: half-open, rows top..bottom - 1, columns left..right - 1. */
export function maskBox({ on, height, width }) {
  const box = { top: height, left: width, bottom: 0, right: 0 };
  for (let row = 0, i = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1, i += 1) {
      if (!on[i]) continue;
      box.top = Math.min(box.top, row);
      box.left = Math.min(box.left, column);
      box.bottom = row + 1;
      box.right = Math.max(box.right, column + 1);
    }
  }
  return box;
}

// Resampling, as Pillow's Resample.c: support grows with the shrinkage, which is its antialiasing

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));
const within = (reach, kernel) => (x) => (Math.abs(x) < reach ? kernel(Math.abs(x)) : 0);

function cubic(x) {
  const a = -0.5;
  return x < 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : (((x - 5) * x + 8) * x - 4) * a;
}

const KERNELS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, within(1, (x) => 1 - x)],
  hamming: [1, within(1, (x) => sinc(x) * (0.54 + 0.46 * Math.cos(x * Math.PI)))],
  bicubic: [2, within(2, cubic)],
  lanczos: [3, within(3, (x) => sinc(x) * sinc(x / 3))],
};

/** A picture at another size. */
export function resize(picture, height, width, interpolation) {
  if (interpolation === "nearest") return resizeNearest(picture, height, width);
  const across = width === picture.width ? picture : resampleRows(picture, width, interpolation);
  if (height === picture.height) return across;
  return transposed(resampleRows(transposed(across), height, interpolation));
}

function resizeNearest({ pixels, height, width }, rows, columns) {
  const places = (length, count) => {
    let at = (length / count) * 0.5; // Pillow adds up, and so must we
    return Array.from({ length: count }, () => {
      const place = Math.min(Math.floor(at), length - 1);
      at += length / count;
      return place;
    });
  };
  const [down, across] = [places(height, rows), places(width, columns)];
  const found = new Uint8Array(rows * columns);
  down.forEach((row, r) => across.forEach((column, c) => (found[r * columns + c] = pixels[row * width + column])));
  return { pixels: found, height: rows, width: columns };
}

function transposed({ pixels, height, width }) {
  const found = new Uint8Array(pixels.length);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) found[column * height + row] = pixels[row * width + column];
  }
  return { pixels: found, height: width, width: height };
}

function resampleRows({ pixels, height, width }, columns, interpolation) {
  const windows = weights(width, columns, interpolation);
  const found = new Uint8Array(height * columns);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const { first, factors } = windows[column];
      let sum = 2 ** (PRECISION - 1);
      for (let k = 0; k < factors.length; k += 1) sum += pixels[row * width + first + k] * factors[k];
      found[row * columns + column] = Math.min(Math.max(Math.floor(sum / 2 ** PRECISION), 0), 255);
    }
  }
  return { pixels: found, height, width: columns };
}

function weights(length, count, interpolation) {
  const [reach, kernel] = KERNELS[interpolation];
  const scale = length / count;
  const stretch = Math.max(scale, 1);
  const support = reach * stretch;
  return Array.from({ length: count }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), length);
    const exact = Array.from({ length: end - first }, (_, k) => kernel((k + first - centre + 0.5) * (1 / stretch)));
    const total = exact.reduce((sum, one) => sum + one, 0);
    const fixed = (one) => Math.trunc((one < 0 ? -0.5 : 0.5) + one * 2 ** PRECISION);
    return { first, factors: exact.map((one) => fixed(total === 0 ? one : one / total)) };
  });
}

// The network's input

/** Round as Python does: halves to the even neighbour. */
function roundEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

function networkInput(picture, wanted) {
  const [rows, columns] = resizedShape(picture, wanted);
  const grey = resize(picture, rows, columns, wanted.interpolation);
  const { size } = wanted;
  const values = new Float32Array(3 * size * size);
  for (let channel = 0; channel < 3; channel += 1) {
    const [mean, std] = [Math.fround(wanted.mean[channel]), Math.fround(wanted.std[channel])];
    const levels = Float32Array.from({ length: 256 }, (_, level) => Math.fround(Math.fround(level / 255) - mean) / std);
    const fill = wanted.crop_mode === "border" ? roundEven(255 * wanted.mean[channel]) : 0;
    const middle = centred(grey, size, fill);
    for (let i = 0; i < middle.length; i += 1) values[channel * size * size + i] = levels[middle[i]];
  }
  return values;
}

/** Rows and columns before the middle is cut out or padded. */
function resizedShape({ height, width }, { size, crop_pct, crop_mode }) {
  const side = Math.floor(size / crop_pct);
  if (crop_mode === "squash") return [side, side];
  if (crop_mode !== "border") {
    const longer = Math.trunc((side * Math.max(height, width)) / Math.min(height, width));
    return width <= height ? [longer, side] : [side, longer];
  }
  const ratio = Math.max(height / side, width / side);
  return [Math.max(1, roundEven(height / ratio)), Math.max(1, roundEven(width / ratio))];
}

/** The middle (size x size) of a picture, padded with `fill` where it is too small. */
function centred({ pixels, height, width }, size, fill) {
  const start = (found) => (found < size ? -Math.floor((size - found) / 2) : roundEven((found - size) / 2));
  const [top, left] = [start(height), start(width)];
  const middle = new Uint8Array(size * size).fill(fill);
  for (let row = Math.max(0, -top); row < size && row + top < height; row += 1) {
    for (let column = Math.max(0, -left); column < size && column + left < width; column += 1) {
      middle[row * size + column] = pixels[(row + top) * width + column + left];
    }
  }
  return middle;
}

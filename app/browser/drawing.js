// A class's map over its slice, placed and coloured as ct_xception/explain/placement.py and overlay.py do.

const [FAINT, FULL] = [0.08, 0.5]; // shares of the peak from which colour begins, and is opaque

/** A map {values, height, width}, what speaks for the class alone, scaled to a peak of 1: {cells, height, width, strength}. */
export function scaledMap({ values, height, width }) {
  const cells = Float64Array.from(values, (value) => Math.max(value, 0));
  const strength = Math.max(...cells);
  return { cells: strength > 0 ? cells.map((value) => value / strength) : cells, height, width, strength };
}

/** A class map over a slice: Float32Array, 0 outside the box; `wanted` is the preprocessing, with `first_centre`. */
export function placeInSlice(map, slice, box, wanted) {
  const region = seenRegion(box, wanted);
  const rows = axisWeights(region.top, region.bottom, box.top, box.bottom, map.height, slice.height, wanted);
  const columns = axisWeights(region.left, region.right, box.left, box.right, map.width, slice.width, wanted);
  const found = new Float32Array(slice.height * slice.width);
  const line = new Float64Array(map.width);
  rows.forEach((weights, row) => {
    if (!weights) return;
    line.fill(0);
    for (const [cell, weight] of weights) {
      for (let k = 0; k < map.width; k += 1) line[k] += weight * map.cells[cell * map.width + k];
    }
    columns.forEach((own, column) => {
      if (own) found[row * slice.width + column] = own.reduce((sum, [cell, weight]) => sum + weight * line[cell], 0);
    });
  });
  return found;
}

/** The part of the slice that fills the network's input. */
function seenRegion(box, { crop_mode, crop_pct }) {
  let [height, width] = [box.bottom - box.top, box.right - box.left];
  if (crop_mode === "border") height = width = Math.max(height, width);
  else if (crop_mode !== "squash") height = width = Math.min(height, width);
  const [middle, centre, half] = [(box.top + box.bottom) / 2, (box.left + box.right) / 2, crop_pct / 2];
  return {
    top: middle - height * half,
    left: centre - width * half,
    bottom: middle + height * half,
    right: centre + width * half,
  };
}

/** For each pixel of an axis the cells that it shows, [[cell, weight], ...]; null where the network saw nothing. */
function axisWeights(start, stop, first, last, cells, length, { size, first_centre }) {
  const stride = 2 ** Math.round(Math.log2(size / cells));
  const step = (stop - start) / size;
  const begin = start + ((stride > 1 ? first_centre : 0) + 0.5 - stride / 2) * step;
  const span = cells * stride * step;
  const reach = Math.max(1, cells / span);
  return Array.from({ length }, (_, i) => {
    const middle = i + 0.5;
    if (middle < Math.max(start, first) || middle >= Math.min(stop, last)) return null;
    let place = ((middle - begin) / span) * cells - 0.5;
    if (reach === 1) place = Math.min(Math.max(place, 0), cells - 1);
    const near = [];
    for (let cell = 0; cell < cells; cell += 1) {
      const weight = 1 - Math.abs(place - cell) / reach;
      if (weight > 0) near.push([cell, weight]);
    }
    const total = near.reduce((sum, [, weight]) => sum + weight, 0);
    return near.map(([cell, weight]) => [cell, weight / total]);
  });
}

/** The slice in grey, as ImageData. */
export function greyPicture({ pixels, height, width }) {
  const image = new ImageData(width, height);
  for (let i = 0; i < pixels.length; i += 1) image.data.set([pixels[i], pixels[i], pixels[i], 255], 4 * i);
  return image;
}

/** The slice under a heat map in [0, 1], as ImageData; `palette` is 256 colours [red, green, blue]. */
export function overlayPicture({ pixels, height, width }, heat, palette, opacity) {
  const image = new ImageData(width, height);
  for (let i = 0; i < pixels.length; i += 1) {
    const level = Math.round(Math.min(Math.max(heat[i], 0), 1) * 255);
    const clear = Math.min(Math.max((level / 255 - FAINT) / (FULL - FAINT), 0), 1) * opacity;
    const alpha = Math.round(clear * 255);
    for (let channel = 0; channel < 3; channel += 1) {
      const mixed = pixels[i] * (255 - alpha) + alpha * palette[level][channel] + 127;
      image.data[4 * i + channel] = Math.floor(mixed / 255);
    }
    image.data[4 * i + 3] = 255;
  }
  return image;
}

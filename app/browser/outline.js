// The outline of the body in a picture, whatever its window, step for step as Python finds it:
// ct_xception/imaging/body/outline.py, imaging/body/surroundings.py and imaging/body/morphology.py, whose words explain the numbers.
//
// A picture is {pixels: Uint8Array, row after row, height, width}; a mask is {on: Uint8Array of 0 and 1, height, width}.

const GRID = 256;
const SMALLEST = 16;
const DIRECTIONS = 72;
const DOWN = 34;
const SPECK = 6;
const [LEAST_AREA, SPARSE] = [0.03, 0.85];
const [SOLID, RAGGED] = [[0.86, 0.925], 0.06];
const ASPECTS = [0.55, 4.0];
const DARKER_THAN_AIR = 0.03;
const [TOUCHED, SHORT] = [[0.25, 0.4], [0.12, 0.3]];
const CUT = [0.55, 0.63];
const AROUND = 0.15;
const BEYOND = [0.15, 0.35];
const WHITE = 245;
const [SURROUNDED, GRAIN] = [0.55, 0.05];
const RINGED = 0.9;
const LAYERS = 1.25;
const [WALL, SOLID_WALL, LIT] = [0.56, 0.7, 0.6];
const [THIN_WALL, THIN] = [0.35, 0.45];
const FULL = 0.97;
const CLOTHED = 0.78;
const BLACK = 3;
const [DIM, DARKER] = [100, 0.65];
const [UNEVEN, GRAINLESS] = [0.24, 0.16];
const [FAT_STEP, FAT_SPREAD] = [4, 1.5];
const ALL_SIDES = 0.8;
const NOISY = 1.3;
const [SMOOTH, LINE] = [0.965, 0.77];
const GROWN = [1.11, 10];
const FRAME_REACH = 0.06;
const [FRAME_EVEN, FRAME_STEP] = [16, 12];
const PADDING = 4;
const ROUND = 0.012;
const LEAST_ARC = 0.1;
const CIRCLES = [0.3, 0.998];
const SMALLEST_CIRCLE = 0.35;
const [EVEN_AIR, BODY_STEP, SMALLEST_BODY] = [30, 12, 0.05];
const AIR_SPREAD = 24;
const [NOISE, LEAST_ABOVE] = [3, 5];

export const CUT_INSIDE = "no air lies around it: the picture is cut inside the body";
export const NOTHING = "nothing stands out from the background";
export const A_PART =
  "what stands out is a part (bones, muscle, a table), and the skin around it is not seen in this window";

/** Where the body is, or why none was found: {mask (null for none), reason}. */
export function findOutline(picture) {
  const step = Math.ceil(Math.max(picture.height, picture.width) / GRID);
  const small = shrink(picture, step);
  if (Math.min(small.height, small.width) < SMALLEST) return { mask: null, reason: NOTHING };
  const scene = clearSurroundings(small);
  const inner = innerShape(scene);
  if (!inner) return { mask: null, reason: NOTHING };
  const shape = withSkin(scene, inner);
  const reason = shape ? objection(scene, shape) : A_PART;
  return reason ? { mask: null, reason } : { mask: inFull(picture, shape, step), reason };
}

/** Means of step x step blocks, rounded down. */
const [HU_SKIN, HU_OPENING, HU_LEAST] = [-400, 1 / 170, 0.02];

/** The body {on, height, width} in HU {values, height, width}, its lungs filled in; null where there is none. */
export function outlineInHu({ values, height, width }) {
  const dense = { on: Uint8Array.from(values, (value) => (value > HU_SKIN ? 1 : 0)), height, width };
  const exact = Math.min(height, width) * HU_OPENING;
  const steps = exact % 1 === 0.5 ? 2 * Math.round(exact / 2) : Math.round(exact); // half to even
  const body = largest(cleared(dense, Math.max(1, steps)));
  if (!body || body.on.reduce((sum, on) => sum + on, 0) / body.on.length < HU_LEAST) return null;
  return enclosed(both(dense, grow(body, 1)), 0);
}

export function shrink({ pixels, width: full, height: tall }, step) {
  const [height, width] = [Math.floor(tall / step), Math.floor(full / step)];
  const found = new Uint8Array(height * width);
  for (let row = 0, at = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1, at += 1) {
      let sum = 0;
      for (let i = 0; i < step; i += 1) {
        for (let j = 0; j < step; j += 1) sum += pixels[(row * step + i) * full + column * step + j];
      }
      found[at] = Math.floor(sum / step ** 2);
    }
  }
  return { pixels: found, height, width };
}

// Shapes

function withSkin(scene, shape) {
  const beyond = around(scene, shape.mask);
  const fat = fatOf(scene, shape, beyond);
  if (fat === "lit") return beyond > AROUND && blackLungs(scene, shape.mask) ? withNoise(scene, shape) : shape;
  const lowest = shapes(scene, above(scene, scene.threshold), scene.threshold, [[0, 0, 8]]).next().value;
  if (lowest && fatOf(scene, lowest, around(scene, lowest.mask)) === "lit") return lowest;
  const closed = beyond > AROUND ? outerShape(scene, shape) : null;
  return closed === null && fat === "even" && beyond <= CLOTHED ? shape : closed;
}

function withNoise(scene, shape) {
  const lit = without(above(scene, scene.threshold), below(scene, shape.mask));
  const least = Math.max(SOLID[1], shape.solid - 0.01);
  for (const whole of shapes(scene, lit, scene.threshold, [[0, 0, 8], [0, 1, 8]])) {
    const added = without(whole.mask, shape.mask);
    const small = count(whole.mask) <= NOISY * count(shape.mask);
    const fat = small && count(both(lit, added)) >= LIT * count(added);
    if (fat && whole.solid >= least && around(scene, whole.mask) <= AROUND) return whole;
  }
  return shape;
}

function innerShape(scene) {
  let [best, penalty] = [null, 0];
  for (const shape of innerShapes(scene)) {
    if (best === null || score(shape) - 0.01 * penalty > score(best)) best = shape;
    if (score(best) > 0.945) break;
    penalty += 1;
  }
  return best;
}

function score({ solid, covered, strong, beyond }) {
  const faint = 0.3 * Math.max(0, 0.95 - covered) + 0.3 * Math.max(0, 0.95 - strong);
  return solid - faint - 0.3 * Math.max(0, beyond - 0.2);
}

function* innerShapes(scene) {
  const first = shapes(scene, above(scene, scene.threshold), scene.threshold, [[0, 0, 8]]).next().value;
  if (!first) return;
  const rim = band(first.mask, 2, Math.max(4, Math.floor(widthOf(first.mask) / 25)));
  const levels = [(scene.air + median(select(scene.pixels, rim))) / 2, (scene.air + scene.otsu) / 2];
  const wanted = [...new Set(levels)].filter((level) => level > scene.threshold + 3).sort((a, b) => a - b);
  for (const level of wanted) yield* shapes(scene, above(scene, level), level, [[3, 0, 6], [1, 1, 6], [0, 0, 8]]);
  yield first;
}

function outerShape(scene, inner) {
  const lit = without(above(scene, scene.threshold), below(scene, inner.mask));
  const plans = [0, 1, 2, 4, 7].map((gap) => [0, gap, 8]);
  for (const shape of shapes(scene, lit, scene.threshold, plans, true)) {
    const growth = count(shape.mask) / count(inner.mask);
    const line = share(lit, band(shape.mask, 0, 2));
    const whole = shape.covered >= SPARSE && shape.solid >= SMOOTH && line >= LINE;
    if (whole && GROWN[0] <= growth && growth <= GROWN[1] && around(scene, shape.mask) <= AROUND) return shape;
  }
  return null;
}

/** What lies whole below a mask. */
function below(scene, mask) {
  const { on, height, width } = mask;
  const bottom = new Int32Array(width).fill(-1);
  on.forEach((value, i) => {
    if (value) bottom[i % width] = Math.floor(i / width);
  });
  const columns = [...bottom.keys()].filter((column) => bottom[column] >= 0);
  const nearest = (column) => bottom[Math.min(Math.max(column, columns[0]), columns[columns.length - 1])];
  const reach = Array.from({ length: width }, (_, column) => {
    const row = nearest(column);
    return row < 0 ? height - 1 : row; // a column without mask, as Python's argmax has it
  });
  const { labels, sizes } = components(above(scene, scene.threshold), true);
  const kept = new Uint8Array(sizes.length + 1);
  labels.forEach((label, i) => {
    if (Math.floor(i / width) <= reach[i % width]) kept[label] = 1;
  });
  return { on: Uint8Array.from(labels, (label) => (kept[label] ? 0 : 1)), height, width };
}

function* shapes(scene, lit, threshold, plans, closed = false) {
  const strong = above(scene, scene.air + 0.35 * (scene.otsu - scene.air));
  for (const [before, gap, after] of plans) {
    const filled = enclosed(before ? cleared(lit, before) : lit, gap);
    const largestPart = largest(cleared(filled, after));
    if (!largestPart) continue;
    const mask = both(filled, grow(largestPart, 2));
    const outside = both(without(lit, grow(mask, 3)), aboveFoot(mask));
    yield {
      mask,
      threshold,
      closed,
      solid: count(mask) / convexArea(mask),
      covered: coverage(band(mask, 0, 4), lit),
      strong: share(strong, band(mask, 0, 3)),
      beyond: count(outside) / count(mask),
    };
  }
}

function aboveFoot(mask) {
  const [first, last] = rowsOf(mask);
  const limit = last - 0.1 * (last - first);
  return { ...mask, on: mask.on.map((_, i) => (Math.floor(i / mask.width) < limit ? 1 : 0)) };
}

function fatOf(scene, shape, beyond) {
  if (!blackLungs(scene, shape.mask)) return "lit";
  const width = widthOf(shape.mask);
  const lit = above(scene, scene.threshold);
  const rim = band(shape.mask, 2, Math.max(4, Math.floor(width / 25)));
  const wall = band(shape.mask, Math.floor(width / 20), Math.floor(width / 8));
  const [fat, muscle] = [rim, wall].map((place) => median(select(scene.pixels, both(place, lit))));
  const [walled, whole] = [share(lit, wall), share(lit, shape.mask)];
  if (fat >= WHITE) {
    const grain = beyond > RINGED || (beyond > SURROUNDED && shape.beyond > GRAIN);
    return walled < THIN_WALL || whole < THIN || grain ? "black" : "lit";
  }
  const spread = Math.max(1, deviation(select(scene.pixels, rim)));
  const deeper = fat <= Math.max(DIM, DARKER * muscle) && muscle - fat > LAYERS * spread && walled > WALL;
  const grainless = quartiles(select(scene.pixels, band(shape.mask, 1, 4))) <= GRAINLESS * fat;
  const firm = (grainless || fat <= DARKER * muscle) && beyond <= AROUND && walled > SOLID_WALL && whole > LIT;
  if (deeper || firm || (beyond <= CLOTHED && whole > FULL) || isLayered(scene, shape.mask)) return "lit";
  return spread <= UNEVEN * fat && (grainless || muscle >= WHITE) ? "even" : "black";
}

function blackLungs(scene, mask) {
  const deep = wither(mask, Math.max(2, Math.floor(widthOf(mask) / 33)));
  const levels = select(scene.pixels, deep).sort();
  return levels.length > 0 && levels[Math.floor(levels.length / 50)] <= BLACK;
}

function isLayered(scene, mask) {
  const layers = [];
  for (let depth = 1; depth < Math.max(10, Math.floor(widthOf(mask) / 8)); depth += 1) {
    const layer = select(scene.pixels, band(mask, depth, depth + 1)).sort();
    if (layer.length) layers.push(layer);
  }
  if (layers.length < 5) return false;
  const fat = layers.slice(0, 3).reduce((best, layer) => (median(layer) < median(best) ? layer : best));
  if (fat[Math.floor(fat.length / 20)] <= scene.threshold) return false;
  const limit = median(fat) + Math.max(FAT_STEP, FAT_SPREAD * quartiles(fat));
  return layers.slice(2).some((layer) => layer.filter((level) => level > limit).length / layer.length >= ALL_SIDES);
}

function objection(scene, shape) {
  const { mask } = shape;
  if (isCut(scene, shape) || lacksAir(scene, mask)) return CUT_INSIDE;
  const [first, last] = rowsOf(mask);
  const aspect = widthOf(mask) / (last - first + 1);
  const ragged = shape.solid < SOLID[1] && shape.beyond > RAGGED;
  const arms = shape.beyond <= BEYOND[0] || (shape.beyond <= BEYOND[1] && around(scene, mask) <= 0.35);
  const whole = shape.solid >= SOLID[0] && shape.covered >= SPARSE && arms && !ragged;
  const fits = count(mask) / mask.on.length >= LEAST_AREA && ASPECTS[0] <= aspect && aspect <= ASPECTS[1];
  return whole && fits ? "" : A_PART;
}

function isCut(scene, { mask, solid }) {
  const { on, height, width } = mask;
  let edge = 0;
  for (let column = 0; column < width; column += 1) edge += on[column] + on[(height - 1) * width + column];
  for (let row = 0; row < height; row += 1) edge += on[row * width] + on[(row + 1) * width - 1];
  edge /= 2 * (height + width);
  const side = Math.max(2, Math.floor(Math.min(height, width) / 25));
  let free = 0;
  for (const top of [0, height - side]) {
    for (const left of [0, width - side]) {
      let lit = 0;
      for (let i = 0; i < side ** 2; i += 1) {
        const at = (top + Math.floor(i / side)) * width + left + (i % side);
        if (on[at] || scene.pixels[at] > scene.threshold) lit += 1;
      }
      if (lit / side ** 2 < 0.65) free += 1;
    }
  }
  return edge > CUT[solid > 0.95 ? 1 : 0] || free < 2 || (free === 2 && edge > 0.3);
}

function lacksAir(scene, { on, height, width }) {
  const least = scene.air - Math.max(8, scene.threshold - scene.air);
  let dark = 0;
  for (const level of scene.pixels) if (level < least) dark += 1;
  if (dark / on.length > DARKER_THAN_AIR) return true;
  // Of the edges top, bottom, left and right: a line along each, counted from it, and whether the mask is at a place of it.
  const sides = [
    [height, width, (line, place) => on[line * width + place]],
    [height, width, (line, place) => on[(height - 1 - line) * width + place]],
    [width, height, (line, place) => on[place * width + line]],
    [width, height, (line, place) => on[place * width + width - 1 - line]],
  ];
  const touched = sides.map(([, places, at]) => {
    let met = 0;
    for (let place = 0; place < places; place += 1) if (at(0, place) || at(1, place)) met += 1;
    return met / places;
  });
  const left = sides.map(([lines, places, at]) => {
    for (let line = 0; line < lines; line += 1) {
      for (let place = 0; place < places; place += 1) if (at(line, place)) return line / lines;
    }
    return 0;
  });
  const three = touched.filter((share) => share > TOUCHED[0]).length >= 3 && Math.max(...left) > SHORT[0];
  return three || touched.some((share, k) => share > TOUCHED[1] && left[k ^ 1] > SHORT[1]);
}

function around(scene, mask) {
  const lit = above(scene, scene.threshold);
  const { labels, sizes } = components(lit, true);
  const near = grow(mask, 3);
  const far = lit.on.map((value, i) => (value && sizes[labels[i] - 1] >= SPECK && !near.on[i] ? 1 : 0));
  const seen = directions(mask, { ...mask, on: far }).map((found) => found > 0);
  const beside = seen.filter((_, k) => Math.abs(k + 0.5 - 0.75 * DIRECTIONS) >= DOWN / 2);
  return beside.filter(Boolean).length / beside.length;
}

function coverage(rim, lit) {
  const [whole, shown] = [directions(rim, rim), directions(rim, both(rim, lit))];
  const there = [...whole.keys()].filter((k) => whole[k] > 0);
  return there.filter((k) => 7 * shown[k] >= whole[k]).length / there.length;
}

/** How many of some points lie in each direction from a mask's middle. */
function directions(mask, points) {
  let [rows, columns, total] = [0, 0, 0];
  mask.on.forEach((value, i) => {
    if (!value) return;
    rows += Math.floor(i / mask.width);
    columns += i % mask.width;
    total += 1;
  });
  const found = new Array(DIRECTIONS).fill(0);
  points.on.forEach((value, i) => {
    if (!value) return;
    const angle = Math.atan2(Math.floor(i / mask.width) - rows / total, (i % mask.width) - columns / total);
    found[Math.floor(((angle + Math.PI) / (2 * Math.PI)) * DIRECTIONS) % DIRECTIONS] += 1;
  });
  return found;
}

function inFull(picture, shape, step) {
  if (step === 1) return shape.mask;
  const { height, width } = picture;
  const { mask: small } = shape;
  const on = new Uint8Array(height * width);
  for (let row = 0, i = 0; row < height; row += 1) {
    const from = Math.min(Math.floor(row / step), small.height - 1) * small.width;
    for (let column = 0; column < width; column += 1, i += 1) {
      on[i] = small.on[from + Math.min(Math.floor(column / step), small.width - 1)];
    }
  }
  const mask = { on, height, width };
  if (shape.closed) return mask;
  const rim = without(grow(mask, step), wither(mask, step));
  const refined = on.map((value, i) => (rim.on[i] ? (picture.pixels[i] > shape.threshold ? 1 : 0) : value));
  return fillEnclosed({ on: refined, height, width });
}

// Surroundings

function clearSurroundings({ pixels, height, width }) {
  const line = (start, along, count) => Array.from({ length: count }, (_, k) => pixels[start + k * along]);
  const row = (at) => line(at * width, 1, width);
  const column = (at) => line(at, width, height);
  const top = frame((k) => row(k), height);
  const bottom = frame((k) => row(height - 1 - k), height);
  const left = frame((k) => column(k), width);
  const right = frame((k) => column(width - 1 - k), width);
  const [rows, columns] = [height - top - bottom, width - left - right];
  let inner = { pixels: new Uint8Array(rows * columns), height: rows, width: columns };
  inner.pixels.forEach((_, i) => {
    inner.pixels[i] = pixels[(top + Math.floor(i / columns)) * width + left + (i % columns)];
  });
  inner = fillCircle(inner);
  const { air, threshold } = airOf(inner);
  const found = new Uint8Array(height * width).fill(air);
  inner.pixels.forEach((value, i) => {
    found[(top + Math.floor(i / columns)) * width + left + (i % columns)] = value;
  });
  return { pixels: found, height, width, air, threshold, otsu: otsuThreshold(found) };
}

function frame(lineAt, count) {
  const reach = Math.min(Math.max(3, Math.trunc(count * FRAME_REACH)), count - 3);
  let taken = 0;
  for (let k = 0; k < reach; k += 1) {
    const [levels, within] = [lineAt(k), lineAt(k + 2)].map((levels) => levels.sort((a, b) => a - b));
    const [total, tenth] = [levels.length, Math.floor(levels.length / 10)];
    const middle = Math.floor(total / 2);
    const even = levels[total - 1 - tenth] - levels[tenth] <= FRAME_EVEN;
    if (even && levels[middle] - within[middle] > FRAME_STEP) taken = k + 2;
  }
  return taken;
}

function airOf({ pixels, height, width }) {
  const at = (i) => {
    const [row, column] = [Math.floor(i / width), i % width];
    return row === 0 || row === height - 1 || column === 0 || column === width - 1;
  };
  const edge = pixels.filter((_, i) => at(i)).sort();
  const limit = edge[Math.floor(edge.length / 20)] + AIR_SPREAD;
  const dark = edge.filter((level) => level <= limit);
  const air = dark[Math.floor(dark.length / 2)];
  const spread = dark[Math.floor((dark.length * 21) / 25)] - air;
  return { air, threshold: air + Math.max(LEAST_ABOVE, NOISE * spread) };
}

function fillCircle(picture) {
  const { pixels, height, width } = picture;
  const inside = largest(cleared(inverse(padding(picture)), 2));
  if (!inside) return picture;
  const [size, area] = [pixels.length, count(inside)];
  if (!(CIRCLES[0] * size < area && area < CIRCLES[1] * size) || !isCircle(inside)) return picture;
  const deep = wither(inside, 4);
  const rim = without(inside, deep);
  const levels = select(pixels, rim).sort();
  const outside = select(pixels, inverse(inside)).sort();
  const level = levels[Math.floor(levels.length / 2)];
  const even =
    levels[Math.floor((levels.length * 3) / 4)] - levels[Math.floor(levels.length / 4)] <= EVEN_AIR;
  const bright = select(pixels, deep).filter((value) => value > level + BODY_STEP).length;
  if (!even || bright <= SMALLEST_BODY * count(deep)) return picture;
  if (level <= outside[Math.floor(outside.length / 2)] + PADDING) return picture;
  const found = pixels.map((value, i) => (!inside.on[i] || (rim.on[i] && value < level) ? level : value));
  return { pixels: found, height, width };
}

function padding({ pixels, height, width }) {
  const corner = (top, left) => {
    const levels = [];
    for (let i = 0; i < 9; i += 1) levels.push(pixels[(top + Math.floor(i / 3)) * width + left + (i % 3)]);
    return levels.sort((a, b) => a - b)[4];
  };
  const [down, across] = [height - 3, width - 3];
  const darkest = Math.min(corner(0, 0), corner(0, across), corner(down, 0), corner(down, across));
  const dark = { on: Uint8Array.from(pixels, (level) => (level <= darkest + PADDING ? 1 : 0)), height, width };
  const wide = padded(dark, 1, 1);
  const { labels } = components(wide);
  return unpadded({ ...wide, on: Uint8Array.from(labels, (label) => (label === labels[0] ? 1 : 0)) }, 1);
}

function isCircle(mask) {
  let points = outlinePoints(mask);
  if (points.length < LEAST_ARC * (mask.height + mask.width)) return false;
  const strays = (circle) => points.map(([x, y]) => Math.hypot(x - circle[0], y - circle[1]) - circle[2]);
  const first = strays(fitCircle(points)).map(Math.abs);
  const limit = Math.max(1.5, [...first].sort((a, b) => a - b)[Math.floor((first.length * 4) / 5)]);
  points = points.filter((_, i) => first[i] <= limit);
  const circle = fitCircle(points);
  const square = strays(circle).reduce((sum, one) => sum + one * one, 0) / points.length;
  const large = circle[2] >= SMALLEST_CIRCLE * Math.max(mask.height, mask.width);
  return large && Math.sqrt(square) <= ROUND * circle[2];
}

function outlinePoints({ on, height, width }) {
  const points = [];
  for (let row = 0; row < height; row += 1) {
    const line = on.subarray(row * width, (row + 1) * width);
    const [first, last] = [line.indexOf(1), line.lastIndexOf(1)];
    if (first > 0 && first < width - 1) points.push([first, row]);
    if (first >= 0 && last > 0 && last < width - 1) points.push([last, row]);
  }
  for (let column = 0; column < width; column += 1) {
    let [first, last] = [-1, -1];
    for (let row = 0; row < height; row += 1) {
      if (!on[row * width + column]) continue;
      if (first < 0) first = row;
      last = row;
    }
    if (first > 0 && first < height - 1) points.push([column, first]);
    if (first >= 0 && last > 0 && last < height - 1) points.push([column, last]);
  }
  return points;
}

function fitCircle(points) {
  const middle = [0, 1].map((k) => points.reduce((sum, point) => sum + point[k], 0) / points.length);
  let [xx, yy, xy, xs, ys, squares] = [0, 0, 0, 0, 0, 0];
  for (const point of points) {
    const [x, y] = [point[0] - middle[0], point[1] - middle[1]];
    const square = x * x + y * y;
    [xx, yy, xy] = [xx + x * x, yy + y * y, xy + x * y];
    [xs, ys, squares] = [xs + x * square, ys + y * square, squares + square];
  }
  const determinant = xx * yy - xy * xy;
  if (determinant <= 0) return [0, 0, 0];
  const a = (xs * yy - ys * xy) / (2 * determinant);
  const b = (ys * xx - xs * xy) / (2 * determinant);
  return [a + middle[0], b + middle[1], Math.sqrt(a * a + b * b + squares / points.length)];
}

// Masks and levels

function above({ pixels, height, width }, level) {
  return { on: Uint8Array.from(pixels, (value) => (value > level ? 1 : 0)), height, width };
}

const both = (one, other) => ({ ...one, on: one.on.map((value, i) => value & other.on[i]) });
const without = (one, other) => ({ ...one, on: one.on.map((value, i) => value & (1 - other.on[i])) });
const inverse = (mask) => ({ ...mask, on: mask.on.map((value) => 1 - value) });
const count = ({ on }) => on.reduce((sum, value) => sum + value, 0);
const select = (pixels, mask) => pixels.filter((_, i) => mask.on[i]);
const share = (mask, place) => count(both(mask, place)) / count(place);
const median = (levels) => (levels.length ? levels.sort()[Math.floor(levels.length / 2)] : 0);

function quartiles(levels) {
  const [ordered, total] = [levels.sort(), levels.length];
  return total ? ordered[Math.floor((total * 3) / 4)] - ordered[Math.floor(total / 4)] : 0;
}

function deviation(levels) {
  const mean = levels.reduce((sum, level) => sum + level, 0) / levels.length;
  return Math.sqrt(levels.reduce((sum, level) => sum + (level - mean) ** 2, 0) / levels.length);
}

function rowsOf({ on, width }) {
  return [Math.floor(on.indexOf(1) / width), Math.floor(on.lastIndexOf(1) / width)];
}

function widthOf({ on, width }) {
  let [first, last] = [width, -1];
  on.forEach((value, i) => {
    if (!value) return;
    first = Math.min(first, i % width);
    last = Math.max(last, i % width);
  });
  return last - first + 1;
}

function band(mask, first, last) {
  const outer = wither(mask, first);
  return without(outer, wither(outer, last - first));
}

/** What lies within so many steps: the cross of four neighbours and the square of eight in turn. */
function grow(mask, steps) {
  const { height, width } = mask;
  let { on } = mask;
  for (let step = 0; step < steps; step += 1) {
    const near = on.slice();
    for (let i = 0; i < on.length; i += 1) {
      if (i >= width) near[i] |= on[i - width];
      if (i < on.length - width) near[i] |= on[i + width];
    }
    const across = step % 2 ? near : on;
    const wider = near.slice();
    for (let row = 0, i = 0; row < height; row += 1) {
      for (let column = 0; column < width; column += 1, i += 1) {
        if (column > 0) wider[i] |= across[i - 1];
        if (column < width - 1) wider[i] |= across[i + 1];
      }
    }
    on = wider;
  }
  return { on, height, width };
}

function wither(mask, steps) {
  return inverse(grow(inverse(mask), steps));
}

function cleared(mask, steps) {
  return both(grow(wither(mask, steps), steps), mask);
}

function largest(mask) {
  const { labels, sizes } = components(mask);
  if (!sizes.length) return null;
  const best = sizes.reduce((most, size, k) => (size > sizes[most] ? k : most), 0) + 1;
  return { ...mask, on: Uint8Array.from(labels, (label) => (label === best ? 1 : 0)) };
}

function enclosed(mask, gap) {
  const reach = gap + 2;
  const free = inverse(grow(padded(mask, reach, 0), gap));
  const { labels } = components(free);
  const outside = grow({ ...free, on: Uint8Array.from(labels, (label) => (label === labels[0] ? 1 : 0)) }, gap);
  return inverse(unpadded(outside, reach));
}

function padded({ on, height, width }, margin, value) {
  const [tall, wide] = [height + 2 * margin, width + 2 * margin];
  const found = new Uint8Array(tall * wide).fill(value);
  for (let row = 0; row < height; row += 1) {
    found.set(on.subarray(row * width, (row + 1) * width), (row + margin) * wide + margin);
  }
  return { on: found, height: tall, width: wide };
}

function unpadded({ on, height, width }, margin) {
  const [rows, columns] = [height - 2 * margin, width - 2 * margin];
  const found = new Uint8Array(rows * columns);
  for (let row = 0; row < rows; row += 1) {
    const start = (row + margin) * width + margin;
    found.set(on.subarray(start, start + columns), row * columns);
  }
  return { on: found, height: rows, width: columns };
}

function convexArea({ on, height, width }) {
  const [left, right] = [[], []];
  for (let row = 0; row < height; row += 1) {
    const line = on.subarray(row * width, (row + 1) * width);
    const first = line.indexOf(1);
    if (first < 0) continue;
    const last = line.lastIndexOf(1) + 1;
    left.push([row, first], [row + 1, first]);
    right.push([row, last], [row + 1, last]);
  }
  const corners = [...chain(left, -1), ...chain(right, 1).reverse()];
  const twice = corners.reduce((sum, a, k) => {
    const b = corners[(k + 1) % corners.length];
    return sum + a[0] * b[1] - b[0] * a[1];
  }, 0);
  return Math.abs(twice) / 2;
}

function chain(points, side) {
  const kept = [];
  const last = (k) => kept[kept.length - k];
  const turn = (a, b, c) => (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]);
  for (const point of points.sort((a, b) => a[0] - b[0] || side * (a[1] - b[1]))) {
    while (kept.length && last(1)[0] === point[0]) kept.pop();
    while (kept.length > 1 && side * turn(last(2), last(1), point) >= 0) kept.pop();
    kept.push(point);
  }
  return kept;
}

/** What hangs together by edges, or by corners too: labels (Int32Array, 0 where off, else from 1), the size of each. */
export function components({ on, height, width }, corners = false) {
  const labels = new Int32Array(on.length);
  const waiting = new Int32Array(on.length);
  const sizes = [];
  for (let start = 0; start < on.length; start += 1) {
    if (!on[start] || labels[start]) continue;
    sizes.push(0);
    let last = 0;
    const visit = (i) => {
      if (!on[i] || labels[i]) return;
      labels[i] = sizes.length;
      waiting[last] = i;
      last += 1;
    };
    visit(start);
    for (let next = 0; next < last; next += 1) {
      const i = waiting[next];
      const column = i % width;
      const [left, right] = [column > 0, column < width - 1];
      if (left) visit(i - 1);
      if (right) visit(i + 1);
      if (i >= width) {
        visit(i - width);
        if (corners && left) visit(i - width - 1);
        if (corners && right) visit(i - width + 1);
      }
      if (i < on.length - width) {
        visit(i + width);
        if (corners && left) visit(i + width - 1);
        if (corners && right) visit(i + width + 1);
      }
    }
    sizes[sizes.length - 1] = last;
  }
  return { labels, sizes };
}

/** Otsu's threshold of grey levels; the mean of all that part them as well; 0 where all are equal. */
export function otsuThreshold(pixels) {
  const counts = new Float64Array(256);
  for (const level of pixels) counts[level] += 1;
  const total = pixels.length;
  const whole = counts.reduce((sum, count, level) => sum + count * level, 0);
  let [below, weighted, best, sum, ties] = [0, 0, 0, 0, 0];
  for (let level = 0; level < 255; level += 1) {
    below += counts[level];
    weighted += counts[level] * level;
    const above = total - below;
    if (below === 0 || above === 0) continue;
    const between = below * above * (weighted / below - (whole - weighted) / above) ** 2;
    if (between > best) [best, sum, ties] = [between, 0, 0];
    if (between === best && best > 0) [sum, ties] = [sum + level, ties + 1];
  }
  return ties ? sum / ties : 0;
}

/** Fill what has mask on its left, right, above and below. */
function fillEnclosed({ on, height, width }) {
  const seen = new Uint8Array(on.length); // how many of the four sides have been seen to hold mask
  const sweep = (start, step, count) => {
    for (let k = 0, i = start, any = 0; k < count; k += 1, i += step) seen[i] += any |= on[i];
  };
  for (let row = 0; row < height; row += 1) {
    sweep(row * width, 1, width);
    sweep((row + 1) * width - 1, -1, width);
  }
  for (let column = 0; column < width; column += 1) {
    sweep(column, width, height);
    sweep((height - 1) * width + column, -width, height);
  }
  return { on: seen.map((sides) => (sides === 4 ? 1 : 0)), height, width };
}

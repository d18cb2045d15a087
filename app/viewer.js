// The viewer of the page: slices as 16-bit values, windowed, zoomed and overlaid here and not on the server.
// gr.HTML runs this text once with `element`, `props` and `watch`, after the constant CONSTANTS (layout.py); `props.value`
// is the scene, JSON as actions.py writes it.
// What a hand holds (slice, window, zoom, opacity) is written here alone: a scene of the same case changes none of it.

const part = (name) => element.querySelector(`[data-part="${name}"]`);
const { palettes, presets } = CONSTANTS;
const [FAINT, FULL] = [0.08, 0.5]; // shares of the peak from which colour begins, and is opaque (overlay.py)
const REST = 400; // milliseconds without a move from which the hand rests
const KEPT = 160; // slices held by the browser
const NETWORK = "network";

const view = { scene: null, index: 0, window: null, zoom: 1, x: 0, y: 0, opacity: 0.6, cursor: null };
let [slices, maps, failures] = [new Map(), new Map(), new Map()];
let [drawing, resting, drawn, asked] = [0, 0, {}, ""];

// Slices and maps

/** The slice at an index, once it is here; asks for it otherwise, but for a file that the server could not read. */
function sliceAt(index, wanted = true) {
  const { scene } = view;
  const key = `${scene.case}/${index}`;
  const held = slices.get(key);
  if (held || !wanted || scene.unread[index]) return held instanceof Promise ? null : held;
  const asked = fetchSlice(key).then(
    (slice) => { slices.set(key, slice); trim(); failures.delete(key); },
    (error) => { slices.delete(key); failures.set(key, error.message); },
  );
  slices.set(key, asked);
  asked.then(() => { if (view.scene === scene) { draw(); ahead(); thumbnails(); } });
  return null;
}

function trim() {
  for (const key of slices.keys()) {
    if (slices.size <= KEPT) return;
    if (key !== `${view.scene?.case}/${view.index}`) slices.delete(key);
  }
}

/** The nearest slice that is not here yet: one at a time, so that the one that is looked at never waits. */
function ahead() {
  const { scene, index } = view;
  if (!scene || [...slices.values()].some((one) => one instanceof Promise)) return;
  for (let step = 1; step < Math.min(scene.count, KEPT / 2); step += 1) {
    for (const next of [index + step, index - step]) {
      const key = `${scene.case}/${next}`;
      if (next >= 0 && next < scene.count && !slices.has(key) && !failures.has(key)) return void sliceAt(next);
    }
  }
}

async function fetchSlice(key) {
  const answer = await fetch(new URL(`slices/${key}`, document.baseURI));
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `The slice did not come (${answer.status}).`);
  const content = await answer.arrayBuffer();
  const length = new DataView(content).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 4, length)));
  const Codes = header.bits === 16 ? Uint16Array : Uint8Array;
  return { ...header, codes: new Codes(content, 4 + length) };
}

async function unpackMap(map) {
  const bytes = Uint8Array.from(atob(map.levels), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return { ...map, levels: new Int16Array(await new Response(stream).arrayBuffer()) };
}

/** The value of a code, in the slice's own unit; null where it holds none. */
const valueOf = (slice, code) =>
  slice.bits === 8 ? code : code === 0 ? null : slice.offset + slice.scale * (code - 1);

// Windows

/** The window through which a slice is seen: [centre, width], or null where its grey levels are fixed. */
const windowOf = (slice) => (slice.bits === 8 ? null : view.window ?? view.scene.window ?? slice.window);

/** Grey levels of codes: LINEAR, DICOM PS3.3 C.11.2.1.2.1, rounded half to even, as imaging/windows.py. */
function greyLevels(slice) {
  if (slice.bits === 8) return slice.codes;
  const [centre, width] = windowOf(slice);
  const exact = slice.scale !== 1 || width < 1;
  const [low, steps] = exact ? [centre - width / 2, width] : [centre - 0.5 - (width - 1) / 2, width - 1];
  const levels = new Uint8Array(65536);
  for (let code = 1; code < 65536; code += 1) {
    const value = valueOf(slice, code);
    const level = steps === 0 ? (value > low ? 255 : 0)
      : halfEven((Math.min(Math.max(value, low), low + steps) - low) * (255 / steps));
    levels[code] = slice.inverted ? 255 - level : level;
  }
  const grey = new Uint8Array(slice.codes.length);
  for (let i = 0; i < grey.length; i += 1) grey[i] = levels[slice.codes[i]];
  return grey;
}

function halfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

// Drawing

/** A picture of grey levels, under a map where one of the same size is given. */
function paint(slice, grey, map) {
  const picture = new OffscreenCanvas(slice.width, slice.height);
  const context = picture.getContext("2d");
  const image = context.createImageData(slice.width, slice.height);
  const share = Array.from({ length: 256 }, (_, level) =>
    Math.round(Math.min(Math.max((level / 255 - FAINT) / (FULL - FAINT), 0), 1) * view.opacity * 255));
  const pixels = new Uint32Array(image.data.buffer); // little-endian, as every browser's machine is
  if (!map) for (let i = 0; i < grey.length; i += 1) pixels[i] = 0xff000000 | (grey[i] * 0x10101);
  for (let i = 0; map && i < grey.length; i += 1) {
    const level = map.levels[i];
    const [alpha, colour] = [share[Math.abs(level)], (level < 0 ? palettes.against : palettes.for)[Math.abs(level)]];
    for (let channel = 0; channel < 3; channel += 1) {
      image.data[4 * i + channel] = Math.floor((grey[i] * (255 - alpha) + alpha * colour[channel] + 127) / 255);
    }
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return picture;
}

function mapOf(slice) {
  const map = maps.get(view.index);
  return map && map.height === slice.height && map.width === slice.width ? map : null;
}

/** What is drawn is kept until what it is made of changes: a pan costs no pixel. */
function pictures(slice) {
  const map = mapOf(slice);
  const window = String(windowOf(slice));
  if (drawn.slice !== slice || drawn.window !== window) {
    drawn = { slice, window, grey: greyLevels(slice) };
    drawn.plain = paint(slice, drawn.grey, null);
  }
  if (drawn.map !== map || drawn.opacity !== view.opacity) {
    Object.assign(drawn, { map, opacity: view.opacity, heated: map ? paint(slice, drawn.grey, map) : drawn.plain });
  }
  return drawn;
}

/** From pixels of the slice to those of a canvas. */
function placement(canvas, slice) {
  const scale = Math.min(canvas.width / slice.width, canvas.height / slice.height) * view.zoom;
  return {
    scale,
    left: canvas.width / 2 - (slice.width / 2 - view.x * slice.width) * scale,
    top: canvas.height / 2 - (slice.height / 2 - view.y * slice.height) * scale,
  };
}

function drawPane(canvas, picture, slice, map) {
  const ratio = window.devicePixelRatio || 1;
  const side = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== side[0] || canvas.height !== side[1]) [canvas.width, canvas.height] = side;
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (!slice) return;
  const { scale, left, top } = placement(canvas, slice);
  context.imageSmoothingEnabled = scale < 4;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left, top, slice.width * scale, slice.height * scale);
  context.font = `${Math.round(13 * ratio)}px system-ui, sans-serif`;
  if (map) drawSeen(context, map, slice, { scale, left, top }, ratio);
  drawSides(context, slice, canvas, ratio);
  drawScale(context, slice, canvas, scale, ratio);
  if (view.cursor) drawCursor(context, view.cursor, { scale, left, top }, ratio);
}

function letter(context, text, x, y, ratio) {
  context.lineWidth = 3 * ratio;
  context.strokeStyle = "#000";
  context.fillStyle = "#fff";
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

/** The rectangle that the network saw, named. */
function drawSeen(context, map, slice, { scale, left, top }, ratio) {
  const [first, start, last, stop] = map.seen;
  const [x, y] = [left + start * slice.width * scale, top + first * slice.height * scale];
  const [width, height] = [(stop - start) * slice.width * scale, (last - first) * slice.height * scale];
  context.setLineDash([5 * ratio, 4 * ratio]);
  context.lineWidth = ratio;
  context.strokeStyle = "rgba(255, 255, 255, 0.8)";
  context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
  context.setLineDash([]);
  context.textAlign = "left";
  letter(context, "what the network saw", Math.max(x, 0) + 6 * ratio, Math.max(y, 0) + 17 * ratio, ratio);
}

function drawSides(context, slice, canvas, ratio) {
  const sides = { axial: "RL", coronal: "RL", sagittal: "AP" }[slice.plane];
  if (!sides) return;
  const middle = canvas.height / 2;
  context.textAlign = "left";
  letter(context, sides[0], 8 * ratio, middle, ratio);
  context.textAlign = "right";
  letter(context, sides[1], canvas.width - 8 * ratio, middle, ratio);
}

/** A bar of 1, 2 or 5 times a power of ten millimetres, about a quarter of the picture long. */
function drawScale(context, slice, canvas, scale, ratio) {
  if (!slice.spacing) return;
  const most = (canvas.width / 4 / scale) * slice.spacing;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].find((step) => step * power <= most) * power;
  const [width, right, base] = [(length / slice.spacing) * scale, canvas.width - 12 * ratio, canvas.height - 14 * ratio];
  for (const [colour, line] of [["#000", 5], ["#fff", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = line * ratio;
    context.beginPath();
    context.moveTo(right - width, base);
    context.lineTo(right, base);
    context.stroke();
  }
  context.textAlign = "right";
  letter(context, length >= 10 ? `${length / 10} cm` : `${length} mm`, right, base - 6 * ratio, ratio);
}

function drawCursor(context, { row, column }, { scale, left, top }, ratio) {
  const [x, y] = [left + (column + 0.5) * scale, top + (row + 0.5) * scale];
  context.strokeStyle = "rgba(120, 230, 210, 0.9)";
  context.lineWidth = ratio;
  context.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.moveTo(x + 4 * dx * ratio, y + 4 * dy * ratio);
    context.lineTo(x + 12 * dx * ratio, y + 12 * dy * ratio);
  }
  context.stroke();
}

function draw() {
  drawing ||= requestAnimationFrame(() => { drawing = 0; drawNow(); });
}

function drawNow() {
  const { scene, index } = view;
  part("root").classList.toggle("empty", !scene);
  part("root").classList.toggle("alone", Boolean(scene?.refused) && index === scene.index); // it has no map
  const slice = scene && sliceAt(index);
  const found = slice ? pictures(slice) : {};
  drawPane(part("slice"), found.plain, slice, null);
  drawPane(part("heat"), found.heated, slice, slice && mapOf(slice));
  if (!scene) return;
  tell(slice);
  markCurve();
  markRow();
}

// Words and controls

function tell(slice) {
  const { scene, index } = view;
  const map = slice && mapOf(slice);
  const window = slice && windowOf(slice);
  const unit = slice?.hu ? " HU" : "";
  const shown = window ? `window ${window.map((value) => +value.toFixed(1)).join("/")}${unit}` : slice ? `${slice.depth}-bit picture` : "";
  const failed = failures.get(`${scene.case}/${index}`);
  part("left").textContent = slice ? `Slice, ${shown}` : failed ? "Slice" : "Slice, on its way …";
  part("right").textContent = map ? `Evidence for ${map.label} (${map.title})` : "Evidence: no map of this slice yet";
  const which = scene.count > 1 ? `${scene.noun} ${index + 1} of ${scene.count}` : "";
  part("caption").textContent = failed ?? [which, scene.answers[index]].filter(Boolean).join(": ");
  part("caption").hidden = !part("caption").textContent;
  part("slice").setAttribute("aria-label", `${which || "The slice"}, ${shown}`);
  Object.assign(part("root").dataset, {
    case: scene.case, index, window: shown, zoom: view.zoom.toFixed(2), ready: Boolean(slice), map: map ? map.label : "",
    maps: maps.size, method: map ? map.title : "", opacity: view.opacity,
  });
  setControls(slice, window);
  readCursor(slice, map);
}

/** A control that a hand holds is left alone. */
function set(name, value) {
  const input = part(name);
  if (document.activeElement !== input && String(input.value) !== String(value)) input.value = value;
}

function setControls(slice, window) {
  const { scene } = view;
  part("slices").hidden = scene.count < 2;
  part("noun").textContent = scene.noun;
  part("number").max = scene.count;
  part("number").value = view.index + 1;
  part("count").textContent = `${view.index + 1} of ${scene.count}`;
  const fixed = slice ? !window : false;
  part("root").classList.toggle("fixed", fixed);
  for (const name of ["preset", "centre", "width", "centre-number", "width-number", "seen"]) part(name).disabled = fixed || !slice;
  part("switch").hidden = fixed || (!view.window && !part("seen").checked);
  if (!slice) return;
  part("window-note").textContent = windowNote(slice);
  if (!window) return;
  const ends = slice.hu ? [-1000, 1000, 4000] : [slice.offset, slice.offset + slice.scale * 65534, slice.scale * 65534];
  const [centre, width] = window;
  for (const [name, low, high, value] of [["centre", ends[0], ends[1], centre], ["width", slice.scale === 1 ? 1 : 0, ends[2], width]]) {
    Object.assign(part(name), { min: Math.min(low, value), max: Math.max(high, value), step: slice.scale === 1 ? 1 : "any" });
    part(name).value = value;
    set(`${name}-number`, +value.toFixed(3));
  }
  set("preset", view.window ? presetOf(view.window) : NETWORK);
}

const presetOf = (window) => presets.findIndex((one) => String(one.window) === String(window));

function windowNote(slice) {
  if (slice.bits === 8) return `${slice.depth}-bit picture: its window is fixed.`;
  if (view.scene.window) return "The network saw this window too: a check, not its answer.";
  return view.window ? "For your eyes: the answer and the map are of the network's own window." : "";
}

function readCursor(slice, map) {
  const { cursor } = view;
  if (!slice || !cursor || cursor.row >= slice.height || cursor.column >= slice.width) {
    part("reading").textContent = "";
    return;
  }
  const place = cursor.row * slice.width + cursor.column;
  const value = valueOf(slice, slice.codes[place]);
  const told = value === null ? "no value" : slice.hu ? `${Math.round(value)} HU` : slice.bits === 8 ? `grey ${value}` : `${+value.toFixed(2)} stored`;
  const [row, column] = [cursor.row, cursor.column].map((one) => Math.floor((one * slice.full[0]) / slice.height));
  const heat = map ? `, map ${(map.levels[place] / 255).toFixed(2)}` : "";
  part("reading").textContent = `Row ${row}, column ${column}: ${told}${heat}`;
}

function markCurve() {
  const [plot, line] = [document.querySelector("#curve svg"), document.querySelector("#curve .here")];
  if (!plot || !line || Number(plot.dataset.count) !== view.scene.count) return;
  const [left, right, count] = [plot.dataset.left, plot.dataset.right, plot.dataset.count].map(Number);
  const x = left + ((right - left) * view.index) / Math.max(count - 1, 1);
  if (line.getAttribute("x1") !== x.toFixed(1)) for (const end of ["x1", "x2"]) line.setAttribute(end, x.toFixed(1));
}

function markRow() {
  for (const row of document.querySelectorAll("#answer tr[data-row]")) {
    row.classList.toggle("shown", Number(row.dataset.row) === view.index);
  }
}

/** The small pictures of a table of files, from the slices that are here. */
function thumbnails() {
  for (const canvas of document.querySelectorAll("#answer canvas[data-slice]")) {
    const slice = view.scene && sliceAt(Number(canvas.dataset.slice), false);
    if (!slice || canvas.dataset.done === view.scene.case) continue;
    const picture = paint(slice, slice.bits === 8 ? slice.codes : greyLevels(slice), null);
    const scale = Math.min(canvas.width / slice.width, canvas.height / slice.height);
    const [width, height] = [slice.width * scale, slice.height * scale];
    canvas.getContext("2d").drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    canvas.dataset.done = view.scene.case;
  }
}

// Moves

function go(index) {
  if (!view.scene) return;
  const next = Math.min(Math.max(index, 0), view.scene.count - 1);
  if (next === view.index) return;
  view.index = next;
  draw();
  rest();
}

function look(window) {
  const followed = part("seen").checked;
  if (!window) part("seen").checked = false;
  view.window = window;
  draw();
  if (followed) rest();
}

function zoomBy(factor, place = null) {
  const before = view.zoom;
  view.zoom = Math.min(Math.max(view.zoom * factor, 1), 20);
  const slice = view.scene && sliceAt(view.index, false);
  if (place && slice) {
    // What is under the hand stays there.
    const [x, y] = [place.column / slice.width - 0.5, place.row / slice.height - 0.5];
    const change = 1 - before / view.zoom;
    view.x += (-x - view.x) * change;
    view.y += (-y - view.y) * change;
  }
  hold();
}

function panBy(x, y) {
  [view.x, view.y] = [view.x + x, view.y + y];
  hold();
}

/** The picture is never pushed out of sight. */
function hold() {
  const most = (1 - 1 / view.zoom) / 2;
  view.x = Math.min(Math.max(view.x, -most), most);
  view.y = Math.min(Math.max(view.y, -most), most);
  draw();
}

function fit() {
  Object.assign(view, { zoom: 1, x: 0, y: 0 });
  draw();
}

/** Once the hand rests, the server is asked for what is now looked at, if it has not answered it. */
function rest() {
  clearTimeout(resting);
  resting = setTimeout(ask, REST);
}

function ask() {
  const { scene, index } = view;
  if (!scene) return;
  const window = part("seen").checked ? view.window : null;
  const wish = JSON.stringify({ case: scene.case, index, window });
  if (wish === asked) return;
  asked = wish;
  globalThis.ctXceptionWish?.(wish);
}

const placeOf = (canvas, event) => {
  const slice = view.scene && sliceAt(view.index, false);
  if (!slice) return null;
  const [ratio, box, { scale, left, top }] = [window.devicePixelRatio || 1, canvas.getBoundingClientRect(), placement(canvas, slice)];
  const column = Math.floor(((event.clientX - box.left) * ratio - left) / scale);
  const row = Math.floor(((event.clientY - box.top) * ratio - top) / scale);
  return row >= 0 && column >= 0 && row < slice.height && column < slice.width ? { row, column } : null;
};

function pullWindow(x, y) {
  const slice = view.scene && sliceAt(view.index, false);
  const now = slice && windowOf(slice);
  if (!now) return;
  const [speed, least] = slice.hu ? [2, 1] : [Math.max(now[1] / 400, slice.scale), slice.scale];
  const whole = slice.scale === 1 ? Math.round : (value) => value;
  look([whole(now[0] - y * speed), Math.max(least, whole(now[1] + x * speed))]);
}

for (const canvas of [part("slice"), part("heat")]) {
  const held = new Map(); // fingers, or the mouse
  let [apart, moved] = [0, 0];
  canvas.addEventListener("pointerdown", (event) => {
    part("stage").focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, event);
    [apart, moved] = [0, 0];
    if (event.pointerType === "mouse") event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    view.cursor = placeOf(canvas, event);
    const before = held.get(event.pointerId);
    if (before) {
      const [x, y] = [event.clientX - before.clientX, event.clientY - before.clientY];
      held.set(event.pointerId, event);
      if (held.size === 2) {
        const [one, other] = [...held.values()];
        const now = Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
        if (apart) zoomBy(now / apart, view.cursor);
        apart = now;
        panBy(x / canvas.clientWidth / view.zoom / 2, y / canvas.clientHeight / view.zoom / 2);
      } else if (event.pointerType === "touch") {
        moved += x;
        if (Math.abs(moved) > 18) { go(view.index + Math.sign(moved)); moved = 0; }
      } else if (event.shiftKey || event.buttons & 6) {
        panBy(x / canvas.clientWidth / view.zoom, y / canvas.clientHeight / view.zoom);
      } else pullWindow(x, y);
    }
    draw();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => held.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => { view.cursor = null; draw(); });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", fit);
  let turned = 0;
  canvas.addEventListener("wheel", (event) => {
    if (!view.scene) return;
    if (event.ctrlKey) {
      event.preventDefault();
      zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, placeOf(canvas, event));
      return;
    }
    const end = event.deltaY > 0 ? view.scene.count - 1 : 0;
    if (view.scene.count < 2 || (view.index === end && Math.abs(turned) < 40)) return; // the page scrolls on
    event.preventDefault();
    turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    const steps = Math.trunc(turned / 40);
    if (steps) { turned = 0; go(view.index + Math.sign(steps)); }
  }, { passive: false });
}

const KEYS = {
  ArrowUp: (event) => (event.shiftKey ? panBy(0, 0.05) : go(view.index - 1)),
  ArrowDown: (event) => (event.shiftKey ? panBy(0, -0.05) : go(view.index + 1)),
  ArrowLeft: (event) => (event.shiftKey ? panBy(0.05, 0) : go(view.index - 1)),
  ArrowRight: (event) => (event.shiftKey ? panBy(-0.05, 0) : go(view.index + 1)),
  PageUp: () => go(view.index - 5),
  PageDown: () => go(view.index + 5),
  Home: () => go(0),
  End: () => go(Infinity),
  "+": () => zoomBy(1.2),
  "=": () => zoomBy(1.2),
  "-": () => zoomBy(1 / 1.2),
  0: fit,
  m: () => setOpacity(view.opacity ? 0 : 0.6),
};

part("stage").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const number = Number(event.key);
  const does = KEYS[event.key] ?? (number > 0 && number <= presets.length + 1 ? () => choose(number - 2) : null);
  if (!does) return;
  event.preventDefault();
  does(event);
});

/** A window of the list; -1 is the network's own. */
const choose = (number) => look(number < 0 ? null : presets[number].window);

function setOpacity(value) {
  view.opacity = value;
  set("opacity", value);
  part("opacity-told").textContent = `${Math.round(100 * value)} %`;
  draw();
}

part("number").addEventListener("input", (event) => go(Number(event.target.value) - 1));
part("opacity").addEventListener("input", (event) => setOpacity(Number(event.target.value)));
part("preset").append(new Option("the network's", NETWORK), ...presets.map(({ name, window }, number) => new Option(`${name} ${window.join("/")}`, number)), new Option("by hand", -1));
part("preset").addEventListener("change", ({ target }) => {
  const slice = view.scene && sliceAt(view.index, false);
  if (target.value === NETWORK) look(null);
  else look(presets[target.value]?.window ?? (slice && windowOf(slice)));
});
for (const [name, position] of [["centre", 0], ["width", 1], ["centre-number", 0], ["width-number", 1]]) {
  part(name).addEventListener("input", (event) => {
    const slice = view.scene && sliceAt(view.index, false);
    const [now, value] = [slice && windowOf(slice), Number(event.target.value)];
    if (!now || event.target.value === "" || !Number.isFinite(value) || (position === 1 && value <= 0)) return;
    look(now.map((one, index) => (index === position ? value : one)));
  });
  part(name).addEventListener("change", draw);
}
part("seen").addEventListener("change", ask);
part("in").addEventListener("click", () => zoomBy(1.4));
part("out").addEventListener("click", () => zoomBy(1 / 1.4));
part("fit").addEventListener("click", fit);
document.addEventListener("click", ({ target, clientX }) => {
  const past = target.closest?.("#history [data-past]");
  if (past) {
    globalThis.ctXceptionWish?.(JSON.stringify({ past: Number(past.dataset.past), asked: Date.now() }));
    document.getElementById("outputs").scrollIntoView({ block: "start" });
  }
  const unit = target.closest?.("#answer [data-unit]");
  if (unit && view.scene) {
    globalThis.ctXceptionWish?.(JSON.stringify({ case: view.scene.case, unit: Number(unit.dataset.unit), asked: Date.now() }));
  }
  const row = target.closest?.("#answer [data-go]");
  if (row) {
    go(Number(row.dataset.go));
    part("caption").scrollIntoView({ block: "nearest" });
  }
  const plot = target.closest?.("#curve svg");
  if (!plot || !view.scene) return;
  const [box, { left, right, count, width }] = [plot.getBoundingClientRect(), plot.dataset];
  const x = ((clientX - box.left) / box.width) * width;
  go(Math.round(((x - left) / (right - left)) * (count - 1)));
});
new ResizeObserver(draw).observe(part("stage"));
for (const place of ["answer", "curve"]) {
  const seen = document.getElementById(place);
  if (seen) new MutationObserver(() => { draw(); thumbnails(); }).observe(seen, { childList: true, subtree: true });
}

// Scenes

async function show(text) {
  const scene = text ? JSON.parse(text) : null;
  if (!scene) {
    Object.assign(view, { scene: null, window: null });
    [slices, maps, failures, drawn] = [new Map(), new Map(), new Map(), {}];
    draw();
    return;
  }
  const another = view.scene?.case !== scene.case;
  if (another) {
    [slices, maps, failures, drawn] = [new Map(), new Map(), new Map(), {}];
    Object.assign(view, { index: scene.index, window: scene.window, zoom: 1, x: 0, y: 0, cursor: null });
    part("seen").checked = Boolean(scene.window);
    asked = JSON.stringify({ case: scene.case, index: scene.index, window: scene.window });
  } else if (view.scene.choice !== scene.choice) maps = new Map(); // maps of another class, method or window
  view.scene = scene;
  for (const [index, why] of Object.entries(scene.unread)) failures.set(`${scene.case}/${index}`, why);
  draw();
  ahead();
  if (!scene.map) return;
  const map = await unpackMap(scene.map);
  if (view.scene.case === scene.case && view.scene.choice === scene.choice) maps.set(scene.index, map);
  draw();
}

part("root").viewer = { grey: () => drawn.grey, heated: () => drawn.heated, view };
watch("value", () => show(props.value));
show(props.value);

// The page: a file in, an answer out. What is computed is in classifier.js; here is only what is shown.

import { Classifier } from "./classifier.js";
import { abstention, decide, decidePoints, percent } from "./decisions.js";
import { greyPicture, overlayPicture, placeInSlice, scaledMap } from "./drawing.js";
import { Refusal } from "./refusal.js";
import { areOneScan, dropped, inOrder, pool, unpack } from "./series.js";

const $ = (id) => document.getElementById(id);
// What pixels are missing by, or not what they are taken for: as in imaging/slice.py.
const DOUBT = /blank, or missing$|^hardly anything denser|^no air: |shows nothing of its values/;
const GATE_REFUSAL = "Not answered: this does not look like a slice that the model knows.";
const RESTED = 120; // milliseconds without a move of the slider, before its slice is answered
const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);

let given = []; // the slices of several files, in their order: {file, ranking, refused, error}
let shown = null; // the answer on the page
let heat = null; // its map, once it is made: {placed, slice, palette}
let latest = 0; // the number of the last file given: an answer to an earlier one is not shown

export const classifier = load();

async function load() {
  const bar = document.querySelector("#status progress");
  $("stuck").remove();
  try {
    const found = await Classifier.load((done, total) => {
      Object.assign(bar, { value: done, max: total });
      $("status").firstElementChild.textContent = `Fetching the network: ${megabytes(done)} of ${megabytes(total)} MB`;
    });
    bar.remove();
    if (latest || !document.querySelector("#examples button")) say("Ready.");
    return found;
  } catch (error) {
    bar.remove();
    say("");
    show(refusal("This page cannot answer.", [error.message]));
    throw error;
  }
}

/** Answer what is given: one file, or each slice of several, folders' and zips' among them. `greeting`: the first example. */
export async function give(files, { greeting = false } = {}) {
  if (!files.length) return;
  latest += 1;
  const number = latest;
  say(`Reading ${files[0].name} …`);
  $("series").hidden = true;
  $("pooled").replaceChildren();
  try {
    const found = await unpack(files);
    if (found.length > 1) await giveSeveral(found, number);
    else await giveOne(found[0].file, number, greeting);
  } catch (error) {
    if (number === latest) refuse(files[0], error);
  }
}

async function giveOne(file, number, greeting = false) {
  const answer = await (await classifier).answer(file);
  if (number !== latest) return;
  const seconds = (answer.milliseconds / 1000).toFixed(1);
  const done = answer.gate?.verdict === "refused" ? "refused after" : "answered in";
  const ready = greeting ? "Ready. This is an example; give a slice of your own. " : "";
  say(`${ready}${file.name}: ${done} ${seconds} s, in this browser.`);
  showAnswer(answer, greeting);
}

function refuse(file, error) {
  say("");
  hidePictures();
  show(refusal("Not answered.", [error instanceof Refusal ? error.message : `${file.name}: ${error.message}.`]));
}

// Several files

/** Answer each, in turn, and show what they say together and the most telling of them. */
async function giveSeveral(found, number) {
  const slices = [];
  for (const one of found) {
    say(`Answering ${slices.length + 1} of ${found.length}: ${one.file.name} …`);
    slices.push(await inShort(one));
    if (number !== latest) return;
  }
  const voting = slices.filter(({ ranking }) => ranking);
  const related = areOneScan(slices.filter(({ error }) => !error));
  given = related ? inOrder(slices) : slices;
  say(`${found.length} files, ${voting.length} of them answered, in this browser.`);
  const { pooling } = (await classifier).record.rules;
  const together = related && voting.length ? pool(voting.map(({ ranking }) => ranking), pooling) : null;
  $("pooled").replaceChildren(...(together ? pooled(together, pooling, voting.length) : [unpooled(related, voting.length)]));
  const telling = together ? given.map(({ ranking }) => new Map(ranking).get(together[0][0]) ?? -1) : given.map(({ ranking }) => (ranking ? 1 : 0));
  $("place").max = given.length;
  $("place").value = 1 + telling.indexOf(Math.max(...telling));
  $("series").hidden = false;
  await goTo();
}

/** A slice's answer without its pixels: of hundreds nothing more would fit in memory. */
async function inShort({ file, scan }) {
  try {
    const { ranking, gate, slice } = await (await classifier).answer(file);
    const refused = gate?.verdict === "refused";
    return { file, scan, place: slice.place, ranking: refused ? null : ranking, refused };
  } catch (error) {
    return { file, scan, ranking: null, error };
  }
}

function pooled(ranking, { how, rules }, voting) {
  const more = voting < given.length ? "; the others were refused, and have no part in it" : "";
  const sentences = [`${how}. From ${voting} of ${given.length} slices of one scan${more}.`, ...decide(ranking, rules)];
  return [make("h2", {}, "The slices together"), verdict({ ranking, sentences, gate: null, rules })];
}

function unpooled(related, voting) {
  const why = related ? "None of the slices is answered." : "Nothing says that these files are slices of one scan: each has its own answer, and none together.";
  return make("p", { className: "quiet" }, voting || related ? why : "None of the files is answered.");
}

/** Show the slice that the slider stands on. */
async function goTo() {
  const place = Number($("place").value);
  const slice = given[place - 1];
  const share = slice.ranking ? `${slice.ranking[0][0]} ${percent(slice.ranking[0][1])}` : "refused";
  $("where").textContent = `${place} of ${given.length}: ${slice.file.name}, ${share}`;
  latest += 1;
  const number = latest;
  await new Promise((done) => setTimeout(done, RESTED));
  if (number !== latest) return; // the hand has moved on
  try {
    if (slice.error) throw slice.error;
    const answer = await (await classifier).answer(slice.file);
    if (number === latest) showAnswer(answer, true);
  } catch (error) {
    if (number === latest) refuse(slice.file, error);
  }
}

function say(sentence) {
  $("status").firstElementChild.textContent = sentence;
}

function show(...nodes) {
  $("answer").replaceChildren(...nodes);
}

/** An element with properties and children. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function refusal(title, reasons) {
  const [only] = reasons;
  const body = reasons.length > 1 ? make("ul", {}, ...reasons.map((one) => make("li", {}, one))) : make("p", {}, only);
  const element = make("div", { className: "refusal" }, make("strong", {}, title), body);
  element.setAttribute("role", "alert");
  return element;
}

function showAnswer(answer, greeting) {
  shown = answer;
  const refused = answer.gate?.verdict === "refused";
  show(refused ? refusal(GATE_REFUSAL, answer.gate.reasons) : verdict(answer));
  drawSlice(answer.slice);
  $("heat-figure").hidden = $("controls").hidden = refused;
  if (!refused) offerMaps(answer);
  $("notes").replaceChildren(...answer.notes.map((note) => make("li", {}, DOUBT.test(note) ? make("strong", {}, note) : note)));
  $("pictures").hidden = $("done").hidden = false;
  // On a phone the answer stands below what was given.
  if (!greeting && $("answer").getBoundingClientRect().top > window.innerHeight / 2) $("status").scrollIntoView();
}

function hidePictures() {
  shown = null;
  $("pictures").hidden = $("done").hidden = true;
}

// The answer

function verdict({ ranking, sentences, gate, rules }) {
  const [name, probability] = ranking[0];
  const none = abstention(ranking, rules);
  const told = none ? [make("span", {}, none)] : [make("span", {}, name), make("b", {}, percent(probability))];
  const first = make("p", { className: "first" }, ...told);
  const doubt = gate?.verdict === "doubtful" ? [doubtful(gate)] : [];
  const said = sentences.map((one) => make("li", {}, one));
  const points = pointsTable(decidePoints(ranking, rules).filter((point) => point.kind === "class"));
  if (points) said.push(make("li", {}, points));
  const list = said.length ? [make("ul", { className: "rules" }, ...said)] : [];
  return make("div", { className: "verdict" }, ...doubt, first, probabilityTable(ranking), ...list);
}

function doubtful({ reasons }) {
  return make("p", { className: "doubt" }, make("strong", {}, "Doubtful input. "), reasons.join("; "));
}

function probabilityTable(ranking) {
  const rows = ranking.map(([name, probability]) => {
    const bar = make("i");
    bar.style.width = `${100 * probability}%`;
    const head = make("th", { scope: "row" }, name);
    const drawn = make("td", { className: "bar" }, bar);
    drawn.setAttribute("aria-hidden", "true");
    return make("tr", {}, head, drawn, make("td", {}, percent(probability)));
  });
  return make("table", {}, make("caption", {}, "Probability of each class"), make("tbody", {}, ...rows));
}

function pointsTable(points) {
  if (!points.length) return null;
  const rows = points.map(({ name, positive, score, threshold }) => {
    const sign = `${percent(score)} ${positive ? "≥" : "<"} ${percent(threshold)}`;
    const cells = [positive ? "yes" : "no", sign].map((text) => make("td", {}, text));
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
  });
  const title = make("summary", {}, "Operating point of each class");
  return make("details", {}, title, make("table", { className: "points" }, make("tbody", {}, ...rows)));
}

// The pictures

function drawSlice(slice) {
  draw($("slice"), greyPicture(slice));
  $("slice").setAttribute("aria-label", `The slice ${slice.name}, ${slice.width} by ${slice.height} pixels`);
  const window = slice.window ? `, window ${slice.window.centre}/${slice.window.width} HU` : "";
  $("slice-words").textContent = `${slice.name}, ${slice.width} x ${slice.height} pixels${window}`;
}

function draw(canvas, image) {
  Object.assign(canvas, { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function offerMaps({ ranking }) {
  const options = ranking.map(([name]) => make("option", { value: name }, name));
  $("target").replaceChildren(...options);
  mapOrSay();
}

/** A map that cannot be made is said where it would stand. */
function mapOrSay() {
  makeMap().catch((error) => {
    $("heat-words").textContent = `The map could not be made (${error.message}).`;
  });
}

/** Make the map of the class chosen, unless another answer or class comes before it is done. */
async function makeMap() {
  const answer = shown;
  const name = $("target").value;
  if (!answer || answer.gate?.verdict === "refused") return;
  heat = null;
  draw($("heat"), greyPicture(answer.slice));
  $("heat-words").textContent = `Mapping the evidence for ${name} …`;
  const found = await classifier;
  const map = scaledMap(await found.map(answer, found.record.label_names.indexOf(name)));
  if (shown !== answer || $("target").value !== name) return;
  const placed = placeInSlice(map, answer.slice, answer.crop.box, found.record.preprocessing);
  heat = { placed, slice: answer.slice, palette: found.record.palette };
  const title = found.record.model.unmapped ? "class activation map" : "Grad-CAM";
  const where = map.strength > 0 ? `strongest ${peak(placed, answer.slice)}` : "there is none anywhere";
  $("heat").setAttribute("aria-label", `${title} of ${name}: evidence for it is ${where}`);
  $("heat-words").textContent = `Evidence for ${name} (${title}): ${where}`;
  drawScale(found.record.palette);
  drawHeat();
}

function drawHeat() {
  if (heat) draw($("heat"), overlayPicture(heat.slice, heat.placed, heat.palette, Number($("opacity").value)));
}

/** Where a map is highest, in words: thirds of the picture, as it is seen. */
function peak(heat, { width, height }) {
  const at = heat.reduce((best, value, i) => (value > heat[best] ? i : best), 0);
  const third = (place, length) => Math.min(Math.floor((3 * place) / length), 2);
  const down = ["at the top", "in the middle", "at the bottom"][third(Math.floor(at / width), height)];
  const across = ["on the picture's left", "", "on the picture's right"][third(at % width, width)];
  return across ? `${down}, ${across}` : down;
}

function drawScale(palette) {
  const image = new ImageData(256, 1);
  palette.forEach((colour, k) => image.data.set([...colour, 255], 4 * k));
  $("scale").getContext("2d").putImageData(image, 0, 0);
}

// What the visitor does

async function giveExample({ file }, options = {}) {
  try {
    const response = await fetch(file);
    if (!response.ok) throw new Error(`status ${response.status}`);
    const content = await response.blob();
    if (options.greeting && latest) return;
    await give([new File([content], file.split("/").pop())], options);
  } catch (error) {
    show(refusal("Not answered.", [`${file} could not be fetched (${error.message}); load the page again.`]));
  }
}

function acceptDrops() {
  const mark = (on) => $("drop").classList.toggle("over", on);
  document.addEventListener("dragover", (event) => {
    event.preventDefault(); // without this the browser would open the file, in place of the page
    mark(true);
  });
  document.addEventListener("dragleave", (event) => mark(event.relatedTarget !== null));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    dropped(event.dataTransfer).then(give);
  });
}

$("file").addEventListener("change", async (event) => {
  await give([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
});
$("place").addEventListener("input", goTo);
$("target").addEventListener("change", mapOrSay);
$("opacity").addEventListener("input", drawHeat);
for (const button of document.querySelectorAll("#examples button")) {
  button.addEventListener("click", () => giveExample(button.dataset));
}
acceptDrops();
greet().catch(() => undefined); // it has been shown

/** At first sight: an example, answered, unless the visitor was quicker. */
async function greet() {
  await classifier;
  const example = document.querySelector("#examples button");
  if (latest || !example) return;
  await giveExample(example.dataset, { greeting: true });
}

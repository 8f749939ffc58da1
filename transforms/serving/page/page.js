// The page: what a person does becomes a state, the state an address, and the address a search.

import * as api from "./api.js";
import { card, labelOf } from "./cards.js";
import { open } from "./detail.js";
import * as pictures from "./pictures.js";
import { PAGE, addressOf, asks, filters, read } from "./state.js";

const at = (id) => document.getElementById(id);
const KINDS = { image: "Pictures", text: "Texts", keyword: "Keywords", any: "Anything" };
const number = new Intl.NumberFormat("en");

let about = { takes: ["text", "image"], upload_bytes: 16 << 20, results: 1000, scores: "score" };
let state = read();
let running = null; // the search that goes on, to be given up for another
let shown = new Map(); // results by id
const names = new Map(); // of items, by their keys

const actions = { open: (hit) => open(hit, actions.like), like: (hit) => go({ ...filtersOf(), like: hit.key }) };

// --- what is asked ---

function filtersOf() {
  return { where: at("where").value.trim(), modality: at("modality").value, min: at("min").value.trim() };
}

/** Goes to a state; the one before stays in the history. */
function go(next) {
  const wanted = { q: "", like: "", picture: "", where: "", modality: "", min: "", n: PAGE, ...next };
  const address = addressOf(wanted);
  if (address !== location.pathname + location.search) history.pushState(null, "", address);
  state = wanted;
  run();
}

function questionOf(offset, k) {
  const question = { k, offset };
  if (state.picture) {
    const picture = pictures.of(state.picture);
    if (!picture) throw new api.Refusal("The picture of this search is no longer here: choose it again.");
    question.image = picture.base64;
  } else if (state.like) question.key = state.like;
  else question.text = state.q;
  if (state.where) question.where = state.where;
  if (state.modality) question.modality = state.modality;
  if (state.min) {
    question.min_score = Number(state.min);
    if (!Number.isFinite(question.min_score)) throw new api.Refusal(`${state.min.slice(0, 40)} is no score.`);
  }
  return question;
}

// --- what is shown ---

async function run() {
  fill();
  shown = new Map();
  await look(async (signal) => {
    const began = performance.now();
    const wanted = Math.min(state.n, about.results);
    const answer = asks(state)
      ? await api.search(questionOf(0, Math.min(wanted + 1, about.results)), signal)
      : await api.sample(signal);
    at("results").replaceChildren();
    const added = add(answer.results, wanted);
    if (state.like) fill(); // its name is known now
    if (answer.generation !== about.generation) await tell();
    const took = Math.max(1, Math.round(performance.now() - began));
    at("status").textContent = summary(added.length, took);
  });
}

function summary(count, took) {
  if (!asks(state)) {
    if (filters(state)) return "Say what to look for: filters narrow what is found.";
    return count ? "Search by words, or with a picture: drop or paste one anywhere." : "There is nothing here yet.";
  }
  if (count) return `${number.format(count)} nearest by ${about.scores}, in ${took} ms`;
  return filters(state) ? "Nothing found: a filter may leave nothing. Widen or clear it." : "Nothing found.";
}

async function more() {
  await look(async (signal) => {
    const before = shown.size;
    const room = Math.min(PAGE, about.results - before);
    const answer = await api.search(questionOf(before, Math.min(room + 1, about.results - before)), signal);
    const added = add(answer.results, room);
    state.n = shown.size;
    history.replaceState(null, "", addressOf(state));
    at("status").textContent = added.length ? `${number.format(shown.size)} shown` : "That is all.";
    added[0]?.querySelector("button").focus();
  });
}

/** Adds results to the grid, so many at most; there are more if it was given more. */
function add(results, most) {
  const fresh = results.slice(0, most).filter((hit) => !shown.has(hit.id));
  for (const hit of fresh) {
    shown.set(hit.id, hit);
    names.set(hit.key, labelOf(hit));
  }
  const cards = fresh.map((hit) => card(hit, actions));
  at("results").append(...cards);
  at("more").hidden = !asks(state) || results.length <= most || shown.size >= about.results;
  const columns = [...new Set([...shown.values()].flatMap((hit) => Object.keys(hit.columns)))].slice(0, 30);
  if (columns.length) at("columns").textContent = `Columns: ${columns.join(", ")}`;
  return cards;
}

/** Does one thing at a time: another gives the one before up, and what goes wrong is told. */
async function look(work) {
  running?.abort();
  const mine = (running = new AbortController());
  at("problem").hidden = true;
  at("found").setAttribute("aria-busy", "true");
  at("status").textContent = "Searching …";
  try {
    await work(mine.signal);
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    if (!shown.size) {
      at("results").replaceChildren();
      at("more").hidden = true;
    }
    at("status").textContent = "";
    complain(error.message, error.canRetry);
    if (!(error instanceof api.Refusal)) throw error;
  } finally {
    if (running === mine) at("found").setAttribute("aria-busy", "false");
  }
}

function complain(message, canRetry = false) {
  at("problem-text").textContent = message;
  at("again").hidden = !canRetry;
  at("problem").hidden = false;
}

/** Has form and heading say what the state does. */
function fill() {
  const picture = state.picture ? pictures.of(state.picture) : undefined;
  at("text").value = state.q;
  at("where").value = state.where;
  at("min").value = state.min;
  if (state.modality && ![...at("modality").options].some((one) => one.value === state.modality)) addKind(state.modality);
  at("modality").value = state.modality;
  at("filtered").hidden = filters(state) === 0;
  at("filtered").textContent = String(filters(state));
  if (filters(state)) at("filters").open = true;
  const name = state.picture ? (picture?.title ?? "a picture") : state.like ? nameOf(state.like) : "";
  at("chip").hidden = !name;
  at("chip-name").textContent = state.like ? `Like ${name}` : name;
  const preview = at("chip-picture");
  preview.hidden = !picture;
  if (picture) preview.src = picture.preview;
  else preview.removeAttribute("src");
  at("text").placeholder = name ? "or words" : "Describe a picture";
  const what = state.q || (name && `Like ${name}`);
  at("heading").textContent = what || "From this collection";
  document.title = what ? `${what.slice(0, 100)} · pixdex` : "pixdex";
}

const nameOf = (key) => names.get(key) ?? key.split("/").pop() ?? key;

function addKind(kind) {
  const option = document.createElement("option");
  option.value = kind;
  option.textContent = kind ? (KINDS[kind] ?? kind) : "As usual";
  at("modality").append(option);
}

async function takePicture(file) {
  if (file.size > about.upload_bytes) {
    complain(`${file.name || "The picture"} is too large: it has ${pictures.sizeOf(file.size)}, and up to ${pictures.sizeOf(about.upload_bytes)} can be searched with. Make it smaller, and try again.`);
    return;
  }
  try {
    go({ ...filtersOf(), picture: await pictures.keep(file) });
  } catch {
    complain(`${file.name || "The picture"} cannot be read.`);
  }
}

// --- what a person does ---

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = at("text").value.trim();
  const { like, picture } = q ? { like: "", picture: "" } : state;
  go({ q, like, picture, ...filtersOf() });
});
at("chip-remove").addEventListener("click", () => {
  go({ q: at("text").value.trim(), ...filtersOf() });
  at("text").focus();
});
at("choose").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  at("file").value = "";
  if (file) takePicture(file);
});
at("more").addEventListener("click", more);
at("again").addEventListener("click", run);
addEventListener("popstate", () => {
  state = read();
  run();
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea") || at("detail").open) return;
  event.preventDefault();
  at("text").focus();
});
pictures.listen(takePicture, complain);

/** Says what is searched, which another generation changes. */
async function tell() {
  about = await api.about();
  const encoder = about.encoder ? ` · ${about.encoder}` : "";
  at("about").textContent = `${number.format(about.items)} items · generation ${about.generation}${encoder}`;
}

async function begin() {
  addKind("");
  try {
    await tell();
  } catch (error) {
    complain(error.message, true);
  }
  for (const [kind, count] of [["image", about.images], ["text", about.texts], ["keyword", about.keywords]]) {
    if (count) addKind(kind);
  }
  addKind("any");
  if (!["cosine", "inner product"].includes(about.scores)) at("min-label").textContent = "Most distance";
  at("choose").hidden = !about.takes.includes("image");
  await run();
}

begin();

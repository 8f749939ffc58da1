// Results as cards. All that comes from a root is text here, and never markup.

import { pictureOf, whyNoPicture } from "./api.js";

const template = document.getElementById("card");
const filled = (value) => value !== null && value !== undefined && value !== "";

/** What a person calls a result: its name, its caption, or the last part of where it is. */
export function labelOf(hit) {
  if (filled(hit.columns.name)) return String(hit.columns.name);
  if (filled(hit.caption)) return hit.caption;
  const place = isOfNoPicture(hit) ? hit.key : hit.uri;
  return place.replace(/\/+$/, "").split("/").pop() || hit.key;
}

/** The score as it is shown; a sample has none. */
export const scoreOf = (hit) => (hit.rank ? hit.score.toFixed(3) : "");

/** A list item of a result; `open` and `like` are called with it. */
export function card(hit, { open, like }) {
  const item = template.content.cloneNode(true).querySelector("li");
  const [tile, name, caption, score, more] = ["tile", "name", "caption", "score", "like"].map((kind) =>
    item.querySelector(`.${kind}`),
  );
  const label = labelOf(hit);
  const isWorded = show(tile, hit, 320);
  tile.setAttribute("aria-label", `${label.slice(0, 200)}${hit.rank ? `, score ${scoreOf(hit)}` : ""}: details`);
  tile.addEventListener("click", () => open(hit));
  name.textContent = isWorded && label === hit.caption ? "" : label;
  const words = [hit.caption, ...hit.captions].filter((text) => filled(text) && text !== label);
  caption.textContent = isWorded ? "" : [...new Set(words)].join(" · ");
  score.textContent = scoreOf(hit);
  score.title = hit.rank ? `${hit.rank}. ${hit.score}${hit.exact ? "" : ", by its code"}` : "";
  more.setAttribute("aria-label", `Like this: ${label.slice(0, 200)}`);
  more.addEventListener("click", () => like(hit));
  return item;
}

/** Puts the picture of a result into a box, or its words where it has none; tells whether it has none. */
export function show(box, hit, size) {
  const words = () => box.replaceChildren(span("words", hit.caption || labelOf(hit)));
  if (hit.modality !== "image" && isOfNoPicture(hit)) {
    words();
    return true;
  }
  const picture = document.createElement("img");
  picture.alt = hit.caption || labelOf(hit);
  picture.loading = size > 320 ? "eager" : "lazy";
  picture.decoding = "async";
  picture.addEventListener("error", async () => {
    if (hit.modality !== "image") return words();
    const missing = span("missing", "Picture not readable");
    box.replaceChildren(missing);
    if (size > 320) missing.textContent = (await whyNoPicture(hit.id)) || missing.textContent;
    return undefined;
  });
  picture.src = pictureOf(hit.id, size);
  box.replaceChildren(picture);
  return false;
}

/** A row of a file that names no picture. */
const isOfNoPicture = (hit) => hit.key.startsWith(`${hit.uri}#`);

function span(kind, text) {
  const made = document.createElement("span");
  made.className = kind;
  made.dir = "auto";
  made.textContent = text;
  return made;
}

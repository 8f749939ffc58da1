// One result, large, with all that is known of it.

import { labelOf, scoreOf, show } from "./cards.js";

const at = (id) => document.getElementById(id);
const dialog = at("detail");
let like = () => {};
let shown = null;

at("detail-close").addEventListener("click", () => dialog.close());
at("detail-like").addEventListener("click", () => {
  dialog.close();
  like(shown);
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

/** Opens it; `likeThis` is called with the result if that is asked for. */
export function open(hit, likeThis) {
  [shown, like] = [hit, likeThis];
  show(at("detail-tile"), hit, 1024);
  at("detail-name").textContent = labelOf(hit);
  const address = addressOf(hit.uri);
  at("detail-open").hidden = !address;
  if (address) at("detail-open").href = address;
  else at("detail-open").removeAttribute("href");
  const facts = [
    ["score", hit.rank ? `${scoreOf(hit)}${hit.exact ? "" : " (by its code)"}` : ""],
    ["caption", [...new Set([hit.caption, ...hit.captions])].filter(Boolean).join("\n")],
    ...Object.entries(hit.columns),
    ["key", hit.key],
    ["address", hit.uri === hit.key ? "" : hit.uri],
    ["kind", hit.modality],
  ];
  at("detail-facts").replaceChildren(
    ...facts
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .flatMap(([name, value]) => [made("dt", name), made("dd", typeof value === "object" ? JSON.stringify(value) : String(value))]),
  );
  dialog.showModal();
  dialog.scrollTop = 0;
}

function made(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  element.dir = "auto";
  return element;
}

/** The address of a picture on the web; others no browser opens from here. */
function addressOf(uri) {
  try {
    const url = new URL(uri);
    return ["http:", "https:"].includes(url.protocol) ? url.href : "";
  } catch {
    return "";
  }
}

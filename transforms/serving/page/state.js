// What is looked for, as the address of the page says it: so going back, reloading and sending a link work.

export const PAGE = 24;

const NAMES = ["q", "like", "picture", "where", "modality", "min"];

/** What the address says: {q, like, picture, where, modality, min} as texts, "" where there is none, and n results. */
export function read(address = location.search) {
  const words = new URLSearchParams(address);
  const state = Object.fromEntries(NAMES.map((name) => [name, words.get(name) ?? ""]));
  const wanted = Number.parseInt(words.get("n") ?? "", 10);
  state.n = Number.isFinite(wanted) ? Math.max(PAGE, wanted) : PAGE;
  return state;
}

/** The address of a state. */
export function addressOf(state) {
  const words = new URLSearchParams();
  for (const name of NAMES) if (state[name]) words.set(name, state[name]);
  if (state.n > PAGE) words.set("n", String(state.n));
  const text = words.toString();
  return text ? `/?${text}` : "/";
}

/** Whether anything is asked. */
export const asks = (state) => Boolean(state.q || state.like || state.picture);

/** How many filters are set. */
export const filters = (state) => [state.where, state.modality, state.min].filter(Boolean).length;

// Pictures to search with: chosen, dropped or pasted. They have a name in the address, and are kept while the page is
// open; small ones live through a reload, too.

const KEPT_LETTERS = 3_000_000;
const kept = new Map();

/** Keeps a picture, and returns its name: {name, title, base64, preview} is what `of` returns for that. */
export async function keep(file) {
  const base64 = await base64Of(file);
  const name = Math.random().toString(36).slice(2, 10);
  kept.set(name, { name, title: file.name || "Pasted picture", base64, preview: URL.createObjectURL(file) });
  try {
    if (base64.length < KEPT_LETTERS) {
      sessionStorage.setItem(`picture-${name}`, JSON.stringify({ title: file.name, type: file.type, base64 }));
    }
  } catch {
    // There is no room for it: it is gone after a reload, and the page says so.
  }
  return name;
}

/** The picture of a name, or undefined. */
export function of(name) {
  if (!kept.has(name)) {
    try {
      const { title, type, base64 } = JSON.parse(sessionStorage.getItem(`picture-${name}`));
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      const preview = URL.createObjectURL(new Blob([bytes], { type }));
      kept.set(name, { name, title: title || "Pasted picture", base64, preview });
    } catch {
      return undefined;
    }
  }
  return kept.get(name);
}

function base64Of(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => done(String(reader.result).split(",", 2)[1] ?? ""));
    reader.addEventListener("error", () => failed(reader.error));
    reader.readAsDataURL(file);
  });
}

/** Bytes for a person. */
export function sizeOf(bytes) {
  const [size, unit] = bytes >= 1 << 20 ? [bytes / (1 << 20), "MB"] : [bytes / 1024, "KB"];
  return `${size >= 10 ? Math.round(size) : Math.round(10 * size) / 10} ${unit}`;
}

/** Has pictures that are dropped on, or pasted into, the page given to `take`; what is neither is told to `refuse`. */
export function listen(take, refuse) {
  const sign = document.getElementById("drop");
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].some((type) => type === "Files" || type === "text/uri-list");
  let depth = 0;
  const over = (change) => {
    depth = Math.max(0, depth + change);
    sign.hidden = depth === 0;
  };
  addEventListener("dragenter", (event) => hasFiles(event) && over(1));
  addEventListener("dragleave", (event) => hasFiles(event) && over(-1));
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    over(-depth);
    const file = event.dataTransfer.files[0];
    if (file) take(file);
    else refuse("What was dropped is an address, which this page does not fetch: save the picture, and drop its file.");
  });
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    take(file);
  });
}

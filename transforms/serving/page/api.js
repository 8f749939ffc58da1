// Asks the server. What goes wrong is a Refusal, whose message a person can read.

const TRIES = 3;

export class Refusal extends Error {
  constructor(message, canRetry = false) {
    super(message);
    this.canRetry = canRetry;
  }
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

async function fetched(address, options, tries = TRIES) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server cannot be reached, or has cut the connection.", true);
  }
  if (answer.status === 503 && tries > 1) {
    await pause(Number(answer.headers.get("retry-after")) || 1);
    return fetched(address, options, tries - 1);
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refusal(said.error ?? `The server answered ${answer.status}.`, answer.status >= 500);
  return said;
}

export const about = () => fetched("/api/about");

/** Returns the same of no question: its results have no rank, for their scores say nothing. */
export async function sample(signal) {
  const answer = await fetched("/api/sample", { signal });
  for (const hit of answer.results) hit.rank = 0;
  return answer;
}

/** Returns {generation, results} of a question. */
export function search(question, signal) {
  return fetched("/api/search", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(question),
    signal,
  });
}

export const pictureOf = (id, size) => `/api/items/${id}/picture?size=${size}`;

/** Says why a picture is not shown. */
export async function whyNoPicture(id) {
  try {
    await fetched(pictureOf(id, 320), {}, 1);
  } catch (error) {
    return error.message;
  }
  return "";
}

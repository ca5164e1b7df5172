// Requests to this server, with its token where it wants one.

const KEY = "headstart-token";

/** An answer that says why there is none. */
export class Refused extends Error {
  constructor(status, message, hint) {
    super(hint ? `${message} (${hint})` : message);
    this.status = status;
  }
}

/** Whether this tab has a token, which links do not send. */
export const hasToken = () => sessionStorage.getItem(KEY) !== null;

/** Keeps the token for this tab. */
export function useToken(token) {
  sessionStorage.setItem(KEY, token);
}

async function answer(path, options = {}) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem(KEY);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer.", "");
  }
  if (response.ok) return response;
  let said = {};
  try {
    said = await response.json();
  } catch {
    // An answer that is no JSON has nothing to add.
  }
  throw new Refused(response.status, said.error ?? `The server answered ${response.status}.`, said.hint);
}

/** The JSON of an answer. */
export async function json(path, options) {
  return (await answer(path, options)).json();
}

/** The bytes of an answer. */
export async function blob(path, options) {
  return (await answer(path, options)).blob();
}

/** An element with these properties and children; text is never read as HTML. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** The server-sent events of an address, as they come. */
export async function* follow(path, signal) {
  const response = await answer(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n");
      const field = (name) => lines.filter((l) => l.startsWith(`${name}:`)).map((l) => l.slice(name.length + 1).trimStart());
      if (field("data").length) yield { event: field("event")[0] ?? "message", data: field("data").join("\n") };
    }
  }
}

// Requests to the server, with the token.

const KEY = "onecopy-token";

export class Problem extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

// The URL that the command prints has the token behind "#", so no server and no log gets it. It is
// taken out of the address, and kept for this tab.
export function takeToken() {
  const words = new URLSearchParams(location.hash.slice(1));
  const token = words.get("token");
  if (token !== null) {
    sessionStorage.setItem(KEY, token);
    words.delete("token");
    history.replaceState(null, "", words.size > 0 ? `#${words}` : location.pathname);
  }
  return words;
}

export async function ask(path, { method = "GET", signal } = {}) {
  const token = sessionStorage.getItem(KEY);
  if (token === null) throw new Problem("This page needs a token: open the URL that `onecopy web` printed.", 403);
  let answer;
  try {
    answer = await fetch(path, { method, signal, headers: { "X-Onecopy-Token": token }, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Is `onecopy web` still running?", 0);
  }
  let body;
  try {
    body = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(`The server's answer cannot be read (status ${answer.status}).`, answer.status);
  }
  if (!answer.ok) throw new Problem(sentence(body.problem ?? `status ${answer.status}`), answer.status);
  return { body, every: Number(answer.headers.get("x-onecopy-every") ?? 1) };
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

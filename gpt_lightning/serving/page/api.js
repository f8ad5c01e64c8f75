// Parler au serveur : une question et sa réponse, ou un flux d'objets. Une faute est une phrase.

export class Fault extends Error {
  constructor(sentence, status = 0, code = null) {
    super(sentence);
    this.status = status;
    this.code = code;
  }
}

let key = sessionStorage.getItem("key") ?? "";

export function useKey(given) {
  key = given;
  sessionStorage.setItem("key", given);
}

async function send(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const method = body === undefined ? "GET" : "POST";
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault("", 0); // plus de serveur
  }
  if (answer.ok) return answer;
  let said = { message: String(answer.status), code: null };
  try {
    said = (await answer.json()).error;
  } catch { /* ce n'était pas du JSON */ }
  throw new Fault(said.message, answer.status, said.code);
}

export async function ask(path, body, signal) {
  return (await send(path, body, signal)).json();
}

// Les objets d'un flux, un par un. Une coupure, ou une erreur dans le flux, est une faute.
export async function* flow(path, body, signal) {
  const reader = (await send(path, body, signal)).body.getReader();
  const decoder = new TextDecoder();
  let waiting = "";
  try {
    for (;;) {
      let read;
      try {
        read = await reader.read();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Fault("", 0);
      }
      waiting += decoder.decode(read.value ?? new Uint8Array(), { stream: !read.done });
      const lines = waiting.split("\n\n");
      waiting = lines.pop();
      for (const line of lines) {
        const data = line.replace(/^data: /, "");
        if (data === "[DONE]") return;
        const found = JSON.parse(data);
        if (found.error) throw new Fault(found.error.message, 500);
        yield found;
      }
      if (read.done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export function floats(base64) {
  const raw = atob(base64);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}

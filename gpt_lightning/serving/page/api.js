// Parler au serveur : une question et sa réponse, ou un flux d'objets. Une faute est une phrase.

import { ROOT, passing } from "./browser.js";
import { say } from "./words.js";

export class Fault extends Error {
  constructor(sentence, status = 0, code = null) {
    super(sentence);
    this.status = status;
    this.code = code;
  }
}

let key = passing.get("key") ?? "";
let server = null; // celui à qui l'on parle, d'un démarrage à son arrêt
let onRestart = () => {};

export function useKey(given) {
  key = given;
  passing.set("key", given);
}

let other = false; // l'autre des deux modèles répond, ou l'adaptateur est éteint
let film = null; // le pas du film dont le modèle répond ; null : le modèle lui-même

export function useOther(chosen) {
  other = chosen;
}

export function useFilm(step) {
  film = step;
}

// Le chemin d'une demande au modèle que la page montre.
function routed(path) {
  if (!/^(api|v1)/.test(path)) return path;
  if (other) return `other/${path}`;
  return film === null || ["api/model", "api/film"].includes(path) ? path : `film/${film}/${path}`;
}

// Dans un fichier seul, `answers` répond à la place du serveur : `ask` et `flow`, aux mêmes chemins.
let here = null;

export function answerHere(answers) {
  here = answers;
}

// `told` est appelée quand un autre serveur, et peut-être un autre modèle, répond à la place du premier.
export function openServer(told) {
  onRestart = told;
}

async function send(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (/^[!-~]+$/.test(key)) headers.Authorization = `Bearer ${key}`; // fetch refuse les autres, qui n'ouvrent rien
  const method = body === undefined ? "GET" : "POST";
  const answer = await unlessGone(() => fetch(new URL(routed(path), ROOT), { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) }));
  if (!answer.ok) throw await faultOf(answer);
  if (!/json|event-stream/.test(answer.headers.get("content-type"))) throw new Fault(say("not_ours", { n: answer.status }));
  const answering = answer.headers.get("x-gpt-lightning"); // null partout, si un proxy l'ôte
  if (path === "api/model") server = answering;
  if (server !== answering) {
    onRestart();
    throw new Fault(say("restarted"));
  }
  return answer;
}

// Ce que donne `work` ; une connexion qui rompt est une faute, un arrêt demandé reste ce qu'il est.
async function unlessGone(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault(say("gone"));
  }
}

async function faultOf(answer) {
  const said = await answer.json().catch(() => null);
  if (!said?.error?.message) return new Fault(say("not_ours", { n: answer.status }));
  const sentence = answer.status === 401 ? say(key ? "wrong_key" : "need_key") : said.error.message;
  return new Fault(sentence, answer.status, said.error.code);
}

export async function ask(path, body, signal) {
  if (here) return here.ask(routed(path), body, signal);
  const answer = await send(path, body, signal);
  return unlessGone(() => answer.json());
}

// Les objets d'un flux, un par un. Une coupure, ou une erreur dans le flux, est une faute.
export async function* flow(path, body, signal) {
  if (here) return yield* here.flow(routed(path), body, signal);
  const reader = (await send(path, body, signal)).body.getReader();
  const decoder = new TextDecoder();
  let [waiting, ended] = ["", false];
  try {
    for (;;) {
      const read = await unlessGone(() => reader.read());
      waiting += decoder.decode(read.value ?? new Uint8Array(), { stream: !read.done });
      const lines = waiting.split(/\r?\n/);
      waiting = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue; // une ligne vide, ou le commentaire d'un proxy
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const found = JSON.parse(data);
        if (found.error) throw new Fault(found.error.message, 500);
        ended ||= Boolean(found.finish_reason);
        yield found;
      }
      if (read.done && ended) return;
      if (read.done) throw new Fault(say("gone")); // coupé, même proprement
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export function floats(base64) {
  if (base64 instanceof Float32Array) return base64;
  const raw = atob(base64);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}

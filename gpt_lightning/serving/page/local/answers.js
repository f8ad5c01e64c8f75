// Répondre à la page sans serveur : les mêmes chemins que serving/app.py, et les mêmes objets.

import { Fault } from "../api.js";
import { DEFAULTS, filtered, smallest, softmax } from "../filters.js";
import { number, say } from "../words.js";
import { breathe } from "./forward.js";
import { inside } from "./inside.js";
import { Unreadable } from "./tokenizer.js";
import { draw, uniforms } from "./uniforms.js";

const CANDIDATES = 10; // montrés pour un jeton écrit ; voir serving/playground.py
const WINDOWS = 8; // contextes qu'un texte mesuré peut remplir
const DRAWN = 96; // jetons dont l'attention se dessine
const TAIL = 16; // jetons qui suffisent à savoir ce qu'un de plus ajoute au texte
const LONGEST = 16; // caractères par jeton, plus qu'aucun texte : au-delà, on ne lit pas

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// Les réponses d'un modèle : `at(pas)` est le modèle, tel qu'il était à ce pas de l'entraînement ou à la fin.
export class Answers {
  constructor(described, tokenizer, at) {
    this.described = described;
    this.tokenizer = tokenizer;
    this.at = at;
    this.context = described.context;
    this.read = new Map(); // par modèle, ce qui vient d'être lu : un texte qui grandit n'est pas relu
  }

  async ask(path, body = {}, signal = undefined) {
    const [model, route] = this.asked(path);
    const answers = {
      "api/model": () => this.described, "api/film": () => ({ steps: this.described.film }),
      "api/tokens": () => this.tokensOf(this.idsOf(body.text)), "api/next": () => this.next(model, body, signal),
      "api/score": () => this.score(model, body, signal), "api/attention": () => this.attention(model, body, signal),
      "api/inside": () => inside(this, model, body, signal),
    };
    if (!answers[route]) throw new Fault(route, 404);
    return answers[route]();
  }

  flow(path, body, signal) {
    return this.continued(this.asked(path)[0], body, signal);
  }

  // Le modèle et le chemin d'une demande : « film/120/api/next » est le modèle au pas 120.
  asked(path) {
    const [, step, route] = path.match(/^(?:film\/(\d+)\/)?(.*)$/);
    return [this.at(step === undefined ? null : Number(step)), route];
  }

  // Les jetons d'un texte, ou d'une liste d'identifiants ; un texte vide commence par la fin de texte.
  idsOf(text) {
    if (typeof text !== "string") return text;
    const most = WINDOWS * this.context;
    if (text.length > LONGEST * most) throw new Fault(say("too_much", { most: number(most) }));
    const ids = this.encode(text);
    return ids.length ? ids : [this.tokenizer.end ?? 0];
  }

  encode(text) {
    try {
      return this.tokenizer.encode(text);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      throw new Fault(say(error.key, { n: error.what }), 400);
    }
  }

  token(id) {
    const bytes = this.tokenizer.bytes(id);
    return { id, token: textOf(bytes), bytes };
  }

  tokensOf(ids) {
    const text = this.tokenizer.decode(ids);
    let faithful = false;
    try {
      const again = this.tokenizer.encode(text);
      faithful = again.length === ids.length && again.every((id, rank) => id === ids[rank]);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error; // un mot que le texte n'a pas tel quel
    }
    const tokens = ids.map((id, place) => ({ ...this.token(id), text: this.increment(ids, place) }));
    return { tokens, unread: 0, text, faithful };
  }

  // Le texte que le jeton `place` ajoute à ceux d'avant ; vide, tant qu'un caractère n'est pas entier.
  increment(ids, place) {
    const part = ids.slice(Math.max(0, place + 1 - TAIL), place + 1);
    const [before, after] = [part.slice(0, -1), part].map((one) => whole(this.tokenizer.decode(one)));
    return after.startsWith(before) ? after.slice(before.length) : this.tokenizer.decode(part.slice(-1));
  }

  // Lit un texte, en reprenant ce que ce modèle vient d'en lire : le flux de ses jetons nouveaux, et le cache.
  async reading(model, ids, signal) {
    const before = this.read.get(model) ?? { ids: [], cache: model.newCache() };
    this.read.delete(model); // une autre demande, pendant celle-ci, lit dans un autre cache
    let same = 0;
    while (same < ids.length - 1 && ids[same] === before.ids[same]) same++;
    before.cache.length = same;
    const x = await model.read(ids.slice(same), before.cache, { signal });
    return { x, cache: before.cache, ids: [...ids] };
  }

  keep(model, { ids, cache }) {
    this.read.set(model, { ids, cache });
  }

  async next(model, { text, candidates = 50, ...values }, signal) {
    const ids = this.idsOf(text);
    const window = ids.slice(-this.context);
    const state = await this.reading(model, window, signal);
    const logits = await model.logits(state.x.subarray(-model.config.emb_dim), signal);
    this.keep(model, state);
    const after = filtered(logits, { ...DEFAULTS, ...values }, window);
    const traces = logSoftmax(logits);
    const rows = best(traces, candidates).map((id) => ({ ...this.token(id), logit: logits[id], logprob: traces[id], filtered: after[id] }));
    return { ...this.tokensOf(window), unread: ids.length - window.length, vocabulary: logits.length, candidates: rows, logits };
  }

  // Le texte qui s'écrit, un objet par jeton, chacun avec ses candidats.
  async *continued(model, { text, seed = null, max_tokens: most = 40, ...values }, signal) {
    const ids = this.idsOf(text);
    if (ids.length + (ids.length === this.context) > this.context) {
      const sentence = say("too_long", { n: number(ids.length), most: number(this.context) });
      throw new Fault(sentence, 400, "context_length_exceeded");
    }
    const settings = { ...DEFAULTS, ...values };
    const next = uniforms(seed ?? Math.floor(Math.random() * 2 ** 32));
    const grown = this.growing(text, ids);
    const all = [...ids];
    yield this.tokensOf(ids);
    const state = await this.reading(model, ids, signal);
    for (let { x } = state; ; x = await model.read([all.at(-1)], state.cache, { signal })) {
      const logits = await model.logits(x.subarray(-model.config.emb_dim), signal);
      const after = filtered(logits, settings, all);
      const uniform = next();
      const id = settings.temperature === 0 ? after.indexOf(Math.max(...best(after, 1).map((one) => after[one]))) : draw(after, uniform);
      state.ids = [...all];
      all.push(id);
      const full = all.length - ids.length === most || all.length > this.context; // le dernier jeton écrit n'est pas lu
      const reason = id === this.tokenizer.end ? "stop" : full ? "length" : null;
      const shown = { ...this.token(id), text: grown(reason === "stop" ? null : id, reason !== null), ...this.measured(logits, id, CANDIDATES, after) };
      yield { text: shown.text, tokens: reason === "stop" ? [] : [shown], finish_reason: reason };
      if (reason) return this.keep(model, state);
    }
  }

  // Une fonction qui donne le texte qu'ajoute chaque jeton à `text` : un mot y prend une espace, un caractère s'y complète.
  // Sans jeton, à la fin, ce qui reste d'un caractère coupé.
  growing(text, ids) {
    const { decode } = this.tokenizer;
    const tail = text === "" ? [] : ids.slice(-TAIL);
    const raw = Uint8Array.from(tail.flatMap((id) => this.tokenizer.bytes(id)));
    const lenient = () => new TextDecoder("utf-8", { ignoreBOM: true });
    const begun = lenient().decode(raw).length - lenient().decode(raw, { stream: true }).length; // un caractère coupé
    const before = decode(tail).length - begun;
    const fresh = [];
    let shown = 0;
    return (id, final) => {
      if (id !== null) fresh.push(id);
      const grown = decode([...tail, ...fresh]).slice(before);
      const sure = final ? grown : whole(grown);
      const added = sure.slice(shown);
      shown = Math.max(shown, sure.length);
      return added;
    };
  }

  // La mesure d'un jeton : sa log-probabilité, son rang, et ses rivaux ; `after` : ce que les filtres leur laissent.
  measured(logits, id, count, after = null) {
    const traces = logSoftmax(logits);
    let rank = 1;
    for (const one of traces) rank += one > traces[id];
    const rival = (other) => ({ ...this.token(other), logprob: traces[other], ...(after ? { filtered: after[other] } : {}) });
    return { logprob: traces[id], rank, candidates: best(traces, count).map(rival) };
  }

  // La surprise de chaque jeton ; au-delà du contexte, la fenêtre avance par moitiés.
  async score(model, { text, candidates = CANDIDATES }, signal) {
    const ids = this.idsOf(text);
    const { vocab_size: V, emb_dim: C } = model.config;
    if (ids.length > WINDOWS * this.context) throw new Fault(say("too_much", { most: number(WINDOWS * this.context) }));
    const tokens = [{ ...this.token(ids[0]), logprob: null, rank: null, candidates: [] }];
    for (let start = 0; tokens.length < ids.length; start = tokens.length - 1 - Math.floor(this.context / 2)) {
      const window = ids.slice(start, start + this.context);
      const x = await model.read(window, model.newCache(), { signal });
      for (let t = tokens.length - 1 - start; t < window.length && tokens.length < ids.length; t++) {
        const logits = await model.logits(x.subarray(t * C, (t + 1) * C), signal);
        const id = ids[tokens.length];
        tokens.push({ ...this.token(id), ...this.measured(logits.subarray(0, V), id, candidates) });
        await breathe(signal);
      }
    }
    const total = tokens.reduce((sum, { logprob }) => sum - (logprob ?? 0), 0);
    return { tokens, loss: tokens.length > 1 ? total / (tokens.length - 1) : null };
  }

  // Les poids d'attention d'une couche sur la fin d'un texte, (H, T, T).
  async attention(model, { text, layer = 0 }, signal) {
    const ids = this.idsOf(text);
    const window = ids.slice(-Math.min(DRAWN, this.context));
    let weights = null;
    const told = (name, where, value) => name === "weights" && where === layer && (weights = value);
    await model.read(window, model.newCache(), { signal, told });
    return { ...this.tokensOf(window), unread: ids.length - window.length, heads: model.config.n_heads, length: window.length, weights };
  }
}

// Un texte sans le caractère de remplacement qui le finit : le caractère n'est pas entier.
const whole = (text) => text.replace(/\ufffd+$/u, "");

// Le texte de ces octets, écrits un à un s'ils ne sont qu'un morceau de caractère.
function textOf(bytes) {
  try {
    return UTF8.decode(Uint8Array.from(bytes));
  } catch {
    return `bytes:${bytes.map((one) => `\\x${one.toString(16).padStart(2, "0")}`).join("")}`;
  }
}

const best = (values, count) => smallest(Float64Array.from(values, (one) => -one), count).slice(0, count);

function logSoftmax(logits) {
  let top = -Infinity;
  for (const one of logits) if (one > top) top = one;
  let total = 0;
  for (const one of logits) total += Math.exp(one - top);
  const shift = top + Math.log(total);
  return Float64Array.from(logits, (one) => one - shift);
}

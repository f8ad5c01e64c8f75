// « Dedans », sans serveur : le même objet que serving/inside.py, calculé par forward.js. Les noms et les formes y sont dits.

import { Fault } from "../api.js";
import { smallest, softmax } from "../filters.js";
import { say } from "../words.js";
import { breathe } from "./forward.js";

const LONGEST = 256; // jetons que l'on regarde ensemble
const [STREAM, STRONGEST, PUSHED, NEAREST, COLUMNS, ANSWERS] = [128, 10, 5, 8, 16, 20];

export async function inside(answers, model, body, signal) {
  const { n_layers: L, n_heads: H, head_width: D, emb_dim: C } = model.config;
  const { text, layer = L - 1, head = 0, ablate = [], lens = 3 } = body;
  const ids = answers.idsOf(text);
  const window = ids.slice(-Math.min(LONGEST, answers.context));
  const T = window.length;
  const position = body.position ?? T - 1;
  if (position >= T) throw new Fault(say("no_position", { n: position, most: T }), 400, "invalid_value");
  const seen = await walk(model, window, ablate, signal);
  const plain = ablate.length ? await walk(model, window, [], signal) : seen;
  const here = (array, width) => array.subarray(position * width, (position + 1) * width);
  const last = (trace) => model.logits(here(trace.streams[L], C), signal);
  const token = (id) => answers.token(id);
  return {
    ...answers.tokensOf(window), unread: ids.length - T,
    length: T, layers: L, heads: H, head_width: D, width: C, hidden: seen.neurons[layer].length / T, layer, head, position, ablate,
    embedding: {
      token: lengths(seen.tokens, C), position: seen.places && lengths(seen.places, C),
      nearest: nearest(model, window[position]).map(([id, cosine]) => ({ ...token(id), cosine })),
    },
    stream: {
      lengths: joined(seen.streams.map((one) => lengths(one, C))), shown: Math.min(STREAM, C),
      vectors: joined(seen.streams.map((one) => here(one, C).subarray(0, STREAM))),
    },
    added: joined(seen.added.flatMap((both) => both.map((one) => lengths(one, C)))),
    attention: headOf(model, seen, layer, head, position, T),
    neurons: await neuronsOf(answers, model, seen.neurons[layer], layer, position, T, signal),
    lens: lens ? await lensOf(answers, model, seen.streams, position, lens, signal) : null,
    candidates: candidatesOf(answers, await last(seen), await last(plain)),
  };
}

// Le passage d'un texte dans chaque couche, et ce qu'on y note ; `ablate` : ce que l'on éteint.
async function walk(model, window, ablate, signal) {
  const { n_layers: L, n_heads: H, head_width: D, emb_dim: C, hidden_width: F } = model.config;
  const T = window.length;
  const blank = (width) => Array.from({ length: L }, () => new Float32Array(T * width));
  const seen = { tokens: null, places: null, streams: [], added: blank(C).map((one) => [one, new Float32Array(T * C)]), context: blank(H * D), neurons: blank(F), qkv: [], weights: [] };
  const only = (test) => ablate.filter(test);
  const off = {
    layers: new Set(only(({ layer, head }) => layer !== undefined && head === undefined).map(({ layer }) => layer)),
    heads: new Set(only(({ head }) => head !== undefined).map(({ layer, head }) => `${layer}:${head}`)),
    positions: new Set(only(({ position }) => position !== undefined).map(({ position }) => position)),
  };
  const notes = {
    tokens: (_, x) => (seen.tokens = x.slice()), stream: (_, x) => seen.streams.push(x.slice()),
    embedding(_, x) {
      seen.streams.push(x.slice());
      if (model.weights["pos_emb.weight"]) seen.places = x.map((one, i) => one - seen.tokens[i]);
    },
    attention: (layer, x) => (seen.added[layer][0] = x), network: (layer, x) => (seen.added[layer][1] = x),
    context: (layer, x) => (seen.context[layer] = x), neurons: (layer, x) => (seen.neurons[layer] = x),
    qkv: (layer, x) => (seen.qkv[layer] = x), weights: (layer, x) => (seen.weights[layer] = x),
  };
  await model.read(window, model.newCache(), { signal, off, told: (name, layer, x) => notes[name]?.(layer, x) });
  for (const layer of off.layers) {
    // éteinte, elle n'écrit rien ; ses poids d'attention se calculent quand même
    const told = (name, _, x) => (name === "qkv" || name === "weights" || name === "neurons") && notes[name](layer, x);
    await model.block(layer, seen.streams[layer].slice(), T, model.newCache(), { signal, off: { ...off, heads: new Set() }, told });
  }
  return seen;
}

// Le calcul d'une tête : ses requêtes et ses clés, leurs produits, ses poids, et ce qu'elle ajoute au flux.
function headOf(model, seen, layer, head, position, T) {
  const { n_heads: H, kv_heads: K, head_width: D } = model.config;
  const { q, k, v } = seen.qkv[layer];
  const pick = (x, heads, one) => {
    const out = new Float32Array(T * D);
    for (let t = 0; t < T; t++) out.set(x.subarray((t * heads + one) * D, (t * heads + one + 1) * D), t * D);
    return out;
  };
  const group = Math.floor((head * K) / H);
  const [query, key] = [pick(q, H, head), pick(k, K, group)];
  const scores = new Float32Array(T * T);
  for (let i = 0; i < T; i++) for (let j = 0; j < T; j++) scores[i * T + j] = product(query, i * D, key, j * D, D) / Math.sqrt(D);
  const weights = seen.weights[layer];
  const project = model.weights[`trf_blocks.${layer}.att.out_proj.weight`];
  const write = (t, one) => added(project, seen.context[layer].subarray((t * H + one) * D, (t * H + one + 1) * D), H * D, one * D);
  return {
    query, key, scores, weights: weights.slice(head * T * T, (head + 1) * T * T), values: lengths(pick(v, K, group), D),
    added: Float32Array.from({ length: T }, (_, t) => write(t, head)),
    rows: joined(Array.from({ length: H }, (_, one) => weights.subarray((one * T + position) * T, (one * T + position + 1) * T))),
    shares: Float32Array.from({ length: H }, (_, one) => write(position, one)),
  };
}

// La longueur de W x, où x n'occupe que les colonnes `from` et suivantes de W.
function added(weight, x, inner, from) {
  let total = 0;
  for (let row = 0; row < weight.length / inner; row++) total += product(weight, row * inner + from, x, 0, x.length) ** 2;
  return Math.sqrt(total);
}

// Les neurones les plus forts à chaque position, et les jetons vers lesquels poussent ceux de la position regardée.
async function neuronsOf(answers, model, activations, layer, position, T, signal) {
  const F = activations.length / T;
  const { emb_dim: C } = model.config;
  const shown = Math.min(STRONGEST, F);
  const rows = Array.from({ length: T }, (_, t) => activations.subarray(t * F, (t + 1) * F));
  const ids = rows.map((row) => smallest(row.map((one) => -Math.abs(one)), shown).slice(0, shown));
  const down = model.weights[`trf_blocks.${layer}.ff.layers.2.weight`]; // (C, F)
  const pushes = [];
  for (const id of ids[position]) {
    const written = Float32Array.from({ length: C }, (_, c) => down[c * F + id] * rows[position][id]);
    pushes.push(first(await model.logits(written, signal), PUSHED).map((one) => answers.token(one)));
  }
  return { shown, ids, values: Float32Array.from(ids.flatMap((row, t) => row.map((id) => rows[t][id]))), pushes };
}

// La réponse qu'aurait déjà chaque couche, de l'embedding à la dernière.
async function lensOf(answers, model, streams, position, count, signal) {
  const { emb_dim: C, vocab_size: V } = model.config;
  const T = streams[0].length / C;
  const start = Math.min(Math.max(0, T - COLUMNS), position);
  const [columns, top] = [Math.min(COLUMNS, T - start), Math.min(count, V)];
  const [ids, probabilities] = [[], []];
  for (const stream of streams) {
    const logits = await model.logits(stream.subarray(start * C, (start + columns) * C), signal);
    const row = [];
    for (let t = 0; t < columns; t++) {
      const shares = softmax(logits.subarray(t * V, (t + 1) * V));
      row.push(first(shares, top));
      probabilities.push(...row[t].map((id) => shares[id]));
      await breathe(signal);
    }
    ids.push(row);
  }
  const names = [...new Set(ids.flat(2))].sort((a, b) => a - b).map((id) => answers.token(id));
  return { first: start, columns, top, ids, probabilities: Float32Array.from(probabilities), names };
}

// Les premiers avec les ablations, puis ceux que l'on avait sans elles.
function candidatesOf(answers, logits, before) {
  const [after, plain] = [softmax(logits), softmax(before)].map((one) => one.map(Math.log));
  const ids = new Set([...first(logits, ANSWERS), ...first(before, ANSWERS)]);
  return [...ids].map((id) => ({ ...answers.token(id), logit: logits[id], logprob: after[id], plain: plain[id] }));
}

// Les jetons dont le plongement a la direction la plus proche, et leur cosinus.
function nearest(model, id) {
  const { emb_dim: C, vocab_size: V } = model.config;
  const table = model.weights["tok_emb.weight"].subarray(0, V * C);
  const sizes = lengths(table, C).map((one) => Math.max(one, 1e-12));
  const cosines = Float64Array.from({ length: V }, (_, one) => (one === id ? -2 : product(table, one * C, table, id * C, C) / sizes[one] / sizes[id]));
  return first(cosines, Math.min(NEAREST, V - 1)).map((one) => [one, cosines[one]]);
}

const first = (values, count) => smallest(Float64Array.from(values, (one) => -one), count).slice(0, count);

function product(a, i, b, j, length) {
  let total = 0;
  for (let d = 0; d < length; d++) total += a[i + d] * b[j + d];
  return total;
}

function lengths(x, width) {
  return Float32Array.from({ length: x.length / width }, (_, t) => Math.sqrt(product(x, t * width, x, t * width, width)));
}

function joined(arrays) {
  const out = new Float32Array(arrays.reduce((sum, one) => sum + one.length, 0));
  let at = 0;
  for (const one of arrays) {
    out.set(one, at);
    at += one.length;
  }
  return out;
}

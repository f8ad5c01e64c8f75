// Les filtres de gpt_lightning/decoding/filters.py, récrits pour la page : les mêmes règles, dans le même ordre.
// Un logit écarté vaut -Infinity. Les sommes se font en double précision. Cinquante mille jetons se filtrent entre deux
// images : des boucles, et jamais de tri entier par une fonction.

export const DEFAULTS = {
  temperature: 1, top_k: null, top_p: null, min_p: null, typical_p: null, repetition_penalty: 1,
  presence_penalty: 0, frequency_penalty: 0, no_repeat_ngram: null,
};
const FIRST = 256; // les plus proches que l'on range d'abord

function map(values, change) {
  const found = new Float64Array(values.length);
  for (let i = 0; i < found.length; i++) found[i] = change(values[i], i);
  return found;
}

function highest(values) {
  let found = -Infinity;
  for (let i = 0; i < values.length; i++) if (values[i] > found) found = values[i];
  return found;
}

export function softmax(logits) {
  const top = highest(logits);
  let total = 0;
  const found = map(logits, (one) => {
    const weight = Math.exp(one - top);
    total += weight;
    return weight;
  });
  for (let i = 0; i < found.length; i++) found[i] /= total;
  return found;
}

export function entropy(probabilities) {
  let bits = 0;
  for (let i = 0; i < probabilities.length; i++) if (probabilities[i] > 0) bits -= probabilities[i] * Math.log2(probabilities[i]);
  return bits;
}

// Les rangs des `count` plus petites valeurs (et de leurs ex æquo), de la plus petite à la plus grande.
export function smallest(values, count) {
  const limit = Float64Array.from(values).sort()[Math.min(count, values.length) - 1];
  const found = [];
  for (let i = 0; i < values.length; i++) if (values[i] <= limit) found.push(i);
  return found.sort((a, b) => values[a] - values[b] || a - b);
}

export function penalise(logits, ids, penalty) {
  const found = map(logits, (one) => one);
  for (const id of new Set(ids)) {
    if (id < found.length) found[id] = Math.fround(found[id] > 0 ? found[id] / Math.fround(penalty) : found[id] * Math.fround(penalty));
  }
  return found;
}

const keep = (logits, kept) => map(logits, (one, i) => (kept(one, i) ? one : -Infinity));

export function topK(logits, k) {
  const threshold = Float64Array.from(logits).sort()[logits.length - Math.min(k, logits.length)];
  return keep(logits, (one) => one >= threshold);
}

// Les plus proches d'abord, jusqu'à ce que leur probabilité atteigne `mass`, celui qui la franchit et ses ex æquo compris.
function within(logits, distance, probabilities, mass) {
  for (const count of [FIRST, distance.length]) {
    let total = 0;
    for (const i of smallest(distance, count)) {
      total += probabilities[i];
      if (total >= mass) return keep(logits, (_, j) => distance[j] <= distance[i]);
    }
  }
  return logits; // les arrondis gardent tout
}

export function topP(logits, p) {
  if (p >= 1) return logits;
  const top = highest(logits);
  return within(logits, map(logits, (one) => top - one), softmax(logits), p);
}

export function minP(logits, p) {
  if (p <= 0) return logits;
  const least = highest(logits) + Math.log(p);
  return keep(logits, (one) => one >= least);
}

export function typicalP(logits, p) {
  if (p >= 1) return logits;
  const probabilities = softmax(logits);
  let mean = 0;
  for (let i = 0; i < probabilities.length; i++) if (probabilities[i] > 0) mean -= probabilities[i] * Math.log(probabilities[i]);
  return within(logits, map(probabilities, (one) => Math.abs(mean + Math.log(one))), probabilities, p);
}

// Chaque étape de la stratégie : son nom, les logits et les probabilités après elle, ce qu'elle a écarté de probabilité.
// `ids` sont les jetons du texte.
export function stages(logits, settings, ids) {
  const found = [];
  let before = softmax(logits);
  const step = (name, after) => {
    const probabilities = softmax(after);
    let [mass, kept] = [0, 0];
    for (let i = 0; i < after.length; i++) {
      if (after[i] === -Infinity) mass += before[i];
      else kept += 1;
    }
    logits = after;
    before = probabilities;
    found.push({ name, logits, probabilities, mass, kept });
  };
  if (settings.repetition_penalty !== 1) step("repetition_penalty", penalise(logits, ids, settings.repetition_penalty));
  if (settings.temperature === 0) {
    step("temperature", topK(logits, 1));
    return found;
  }
  if (settings.temperature !== 1) {
    const temperature = Math.fround(settings.temperature); // Python divise en float32
    step("temperature", map(logits, (one) => Math.fround(one / temperature)));
  }
  if (settings.top_k !== null) step("top_k", topK(logits, settings.top_k));
  if (settings.top_p !== null) step("top_p", topP(logits, settings.top_p));
  if (settings.min_p !== null) step("min_p", minP(logits, settings.min_p));
  if (settings.typical_p !== null) step("typical_p", typicalP(logits, settings.typical_p));
  return found;
}

export function filtered(logits, settings, ids) {
  return stages(logits, settings, ids).at(-1)?.probabilities ?? softmax(logits);
}

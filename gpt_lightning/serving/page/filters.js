// Les filtres de gpt_lightning/decoding/filters.py, récrits pour la page : les mêmes règles, dans le même ordre.
// Un logit écarté vaut -Infinity. Les sommes se font en double précision.

export const DEFAULTS = {
  temperature: 1, top_k: null, top_p: null, min_p: null, typical_p: null, repetition_penalty: 1,
  presence_penalty: 0, frequency_penalty: 0, no_repeat_ngram: null,
};

export function softmax(logits) {
  let highest = -Infinity;
  for (const one of logits) if (one > highest) highest = one;
  const found = new Float64Array(logits.length);
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += found[i] = Math.exp(logits[i] - highest);
  for (let i = 0; i < found.length; i++) found[i] /= total;
  return found;
}

export function entropy(probabilities) {
  let bits = 0;
  for (const p of probabilities) if (p > 0) bits -= p * Math.log2(p);
  return bits;
}

export function penalise(logits, ids, penalty) {
  const found = Float64Array.from(logits);
  for (const id of new Set(ids)) {
    if (id < found.length) found[id] = found[id] > 0 ? Math.fround(found[id] / penalty) : Math.fround(found[id] * penalty);
  }
  return found;
}

function keep(logits, kept) {
  return Float64Array.from(logits, (one, i) => (kept(one, i) ? one : -Infinity));
}

export function topK(logits, k) {
  const threshold = Float64Array.from(logits).sort()[logits.length - Math.min(k, logits.length)];
  return keep(logits, (one) => one >= threshold);
}

// Les plus proches d'abord, jusqu'à ce que leur probabilité atteigne `mass`, celui qui la franchit et ses ex æquo compris.
function within(logits, distance, probabilities, mass) {
  const order = Array.from(distance.keys()).sort((a, b) => distance[a] - distance[b]);
  let total = 0;
  let reach = Infinity;
  for (const i of order) {
    total += probabilities[i];
    if (total >= mass) {
      reach = distance[i];
      break;
    }
  }
  return keep(logits, (_, i) => distance[i] <= reach);
}

export function topP(logits, p) {
  if (p >= 1) return logits;
  const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  return within(logits, Float64Array.from(logits, (one) => highest - one), softmax(logits), p);
}

export function minP(logits, p) {
  if (p <= 0) return logits;
  const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  return keep(logits, (one) => one >= highest + Math.log(p));
}

export function typicalP(logits, p) {
  if (p >= 1) return logits;
  const probabilities = softmax(logits);
  let mean = 0;
  for (const one of probabilities) if (one > 0) mean -= one * Math.log(one);
  const distance = probabilities.map((one) => Math.abs(mean + Math.log(one)));
  return within(logits, distance, probabilities, p);
}

// Chaque étape de la stratégie : son nom, et les logits après elle. `ids` sont les jetons du texte.
export function stages(logits, settings, ids) {
  const found = [];
  const step = (name, after) => {
    logits = after;
    found.push({ name, logits });
  };
  if (settings.repetition_penalty !== 1) step("repetition_penalty", penalise(logits, ids, settings.repetition_penalty));
  if (settings.temperature === 0) {
    step("temperature", topK(logits, 1));
    return found;
  }
  if (settings.temperature !== 1) {
    const temperature = Math.fround(settings.temperature); // Python divise en float32
    step("temperature", Float64Array.from(logits, (one) => Math.fround(one / temperature)));
  }
  if (settings.top_k !== null) step("top_k", topK(logits, settings.top_k));
  if (settings.top_p !== null) step("top_p", topP(logits, settings.top_p));
  if (settings.min_p !== null) step("min_p", minP(logits, settings.min_p));
  if (settings.typical_p !== null) step("typical_p", typicalP(logits, settings.typical_p));
  return found;
}

export function filtered(logits, settings, ids) {
  const all = stages(logits, settings, ids);
  return softmax(all.length ? all[all.length - 1].logits : logits);
}

// La masse que chaque étape retire : la probabilité, avant elle, de ce qu'elle écarte.
export function removed(logits, settings, ids) {
  let before = logits;
  return stages(logits, settings, ids).map(({ name, logits: after }) => {
    const probabilities = softmax(before);
    let mass = 0;
    let kept = 0;
    for (let i = 0; i < after.length; i++) {
      if (after[i] === -Infinity) mass += before[i] === -Infinity ? 0 : probabilities[i];
      else kept += 1;
    }
    before = after;
    return { name, mass, kept };
  });
}

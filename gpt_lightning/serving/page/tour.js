// La visite : quinze étapes dans « Dedans », chacune une phrase et les nombres de ce texte-ci. Elle se projette.

import { $ } from "./dom.js";
import { change, looked, onSeen } from "./inside.js";
import { best, brought, early, here, named, row, settled } from "./parts.js";
import { number, percent, say } from "./words.js";

const short = (value) => number(value, 2);

// L'étape du calcul que chaque arrêt montre, et les nombres de sa phrase.
export const STOPS = [
  ["tokens", (seen) => ({ n: seen.length })],
  ["tokens", (seen, model) => ({ token: named(here(seen)), id: number(here(seen).id), v: number(model.vocabulary) })],
  ["embedding", (seen) => ({ token: named(here(seen)), c: number(seen.width) })],
  ["embedding", (seen) => ({ token: named(here(seen)), near: named(seen.embedding.nearest[0] ?? here(seen)) })],
  ["position", (seen) => ({ token: named(here(seen)), place: seen.position + 1 })],
  ["scores", (seen) => {
    const scores = row(seen, seen.attention.scores).subarray(0, seen.position + 1);
    return { ...where(seen), to: named(seen.tokens[best(scores)]), n: short(scores[best(scores)]) };
  }],
  ["mask", (seen) => ({ token: named(here(seen)), n: seen.position + 1 })],
  ["softmax", (seen) => {
    const shares = row(seen, seen.attention.weights);
    return { token: named(here(seen)), to: named(seen.tokens[best(shares)]), share: percent(shares[best(shares)]) };
  }],
  ["values", (seen) => {
    const all = brought(seen);
    return { token: named(here(seen)), to: named(seen.tokens[best(all)]), n: short(all[best(all)]) };
  }],
  ["output", (seen) => ({ h: seen.heads, head: best(seen.attention.shares) + 1 })],
  ["neurons", (seen) => ({ n: seen.neurons.ids[seen.position][0], f: number(seen.hidden), pushed: named(seen.neurons.pushes[0][0]) })],
  ["added", (seen) => ({ token: named(here(seen)), l: seen.layers, from: short(length(seen, 0)), to: short(length(seen, seen.layers)) })],
  ["lens", (seen) => {
    const layer = Math.max(0, settled(seen) - 1);
    return { layer, early: named(early(seen, layer)[0]), late: named(early(seen, seen.layers)[0]) };
  }],
  ["output", (seen) => {
    const one = seen.candidates.reduce((a, b) => (b.plain > a.plain ? b : a));
    return { ...where(seen), late: named(one), before: percent(Math.exp(one.plain)), after: percent(Math.exp(one.logprob)) };
  }],
  ["answer", (seen) => ({ late: named(seen.candidates[0]), share: percent(Math.exp(seen.candidates[0].logprob)) })],
];
const ABLATED = 14; // l'arrêt qui éteint une tête

const where = (seen) => ({ token: named(here(seen)), layer: seen.layer + 1, head: seen.head + 1 });
const length = (seen, layer) => seen.stream.lengths[layer * seen.length + seen.position];

let stop = 0; // de 1 à 15 ; 0, pas de visite
let model = null;
let opened = () => {};

// `show()` montre « Dedans ».
export function openTour(met, show) {
  model = met;
  opened = show;
  $("tour-start").onclick = () => go(1);
  $("tour-back").onclick = () => go(stop - 1);
  $("tour-next").onclick = () => go(stop === STOPS.length ? 0 : stop + 1);
  $("tour-end").onclick = () => go(0);
  onSeen(speakOf);
}

export const toured = () => stop;

export function go(next) {
  if (next < 0 || next > STOPS.length) return;
  const ablated = stop === ABLATED;
  stop = next;
  $("tour").hidden = !stop;
  document.body.classList.toggle("touring", Boolean(stop));
  if (stop) opened();
  change({ ...(stop ? { part: STOPS[stop - 1][0] } : {}), ...(ablated ? { off: [] } : {}) });
  if (looked().seen) speakOf(looked().seen);
  document.querySelector('#tower [aria-pressed="true"]')?.scrollIntoView({ block: "nearest" });
}

function speakOf(seen) {
  if (!stop) return;
  if (stop === ABLATED && !seen.ablate.length) {
    const head = best(seen.attention.shares);
    return change({ head, off: [{ layer: seen.layer, head }] }); // la réponse sans cette tête arrive
  }
  $("tour-title").textContent = say(`tour_${stop}`);
  $("tour-text").textContent = say(`tour_said_${stop}`, STOPS[stop - 1][1](seen, model));
  Object.assign($("tour-progress"), { max: STOPS.length, value: stop });
  $("tour-count").textContent = say("tour_count", { n: stop, all: STOPS.length });
  $("tour-back").disabled = stop === 1;
}

// Les touches d'un clavier, ou d'une télécommande de projection.
addEventListener("keydown", (event) => {
  if (!stop || event.target.closest?.('input, textarea, select, [role="tablist"], .tokens')) return;
  const next = { ArrowRight: stop + 1, PageDown: stop + 1, ArrowLeft: stop - 1, PageUp: stop - 1, Escape: 0 }[event.key];
  if (next === undefined || (next === 0 && event.key !== "Escape") || next > STOPS.length) return;
  event.preventDefault();
  go(next);
});

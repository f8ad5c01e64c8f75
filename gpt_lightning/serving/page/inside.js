// « Dedans » : tout le calcul d'un texte, de haut en bas ; chaque étape s'ouvre, chaque pièce s'éteint.

import { ask } from "./api.js";
import { $, arrows, bar, make, tell, tokenRow } from "./dom.js";
import { followText, pulse } from "./live.js";
import { PARTS, decode, explained, here, named } from "./parts.js";
import { number, say } from "./words.js";

const PAGE = String(Math.random()); // de deux demandes de cette page, le serveur ne finit que la dernière
const state = { layer: 0, head: 0, position: null, off: [], part: "softmax" };
let text = null; // celui que `seen` a lu
let seen = null;
let model = null;
let told = () => {};

const same = (a, b) => a.layer === b.layer && a.head === b.head && a.position === b.position;
const acts = {
  head: (head) => change({ head }),
  position: (position) => change({ position }),
  isOff: (ablation) => state.off.some((one) => same(one, ablation)),
  toggle: (ablation) => change({ off: acts.isOff(ablation) ? state.off.filter((one) => !same(one, ablation)) : [...state.off, ablation] }),
};

export function openInside(met) {
  if (model !== met) Object.assign(state, { layer: Math.floor((met.layers - 1) / 2), head: 0, position: null, off: [] });
  model = met;
  for (const [name, count] of [["layer", met.layers], ["head", met.heads]]) {
    $(`inside-${name}`).max = count - 1;
    $(`inside-${name}`).oninput = () => change({ [name]: Number($(`inside-${name}`).value) });
  }
  $("relight").onclick = () => change({ off: [] });
  followText("inside", () => JSON.stringify([$("text").value, state.layer, state.head, state.position, state.off]), look);
  sliders();
}

// Regarde ailleurs, ou éteint ; une étape qui s'ouvre ne demande rien au serveur.
export function change(values) {
  Object.assign(state, values);
  sliders();
  if (seen) draw();
  pulse(0);
}

export const looked = () => ({ seen, ...state });

// `tells(seen)` est appelée à chaque nouveau dessin.
export function onSeen(tells) {
  told = tells;
}

function sliders() {
  for (const [name, count] of [["layer", model.layers], ["head", model.heads]]) {
    $(`inside-${name}`).value = state[name];
    $(`inside-${name}-said`).textContent = say("head_of", { n: state[name] + 1, all: count });
  }
  $("relight").disabled = !state.off.length;
}

async function look(signal) {
  const asking = $("text").value;
  if (asking !== text) Object.assign(state, { position: null, off: state.off.filter((one) => one.position === undefined) });
  const { layer, head, position, off } = state;
  const found = await ask("api/inside", { text: asking, layer, head, position, ablate: off, lens: 3, page: PAGE }, signal);
  text = asking;
  seen = decode(found);
  draw();
  if (found.unread) tell(say("cut", { n: number(found.length) }));
  told(seen);
}

export function draw() {
  const focused = document.activeElement?.dataset?.part;
  $("inside-tokens").replaceChildren();
  const nodes = tokenRow($("inside-tokens"), seen.tokens.map((one) => ({ ...one, logprob: null })), { visible: true, shade: () => "", chosen: (rank) => rank !== seen.position && change({ position: rank }) });
  nodes.forEach((node, rank) => {
    if (rank === seen.position) node.setAttribute("aria-current", "true");
    if (acts.isOff({ position: rank })) node.classList.add("off");
  });
  $("tower").replaceChildren(...Object.entries(PARTS).map(([name, [, , , figure, thumbnail]]) => {
    const button = make("button", { type: "button", data: { part: name }, onclick: () => change({ part: name }) }, make("b", {}, say(`part_${name}`)), make("span", { className: "figure" }, figure(seen)), thumbnail(seen) ?? "");
    button.setAttribute("aria-pressed", String(name === state.part));
    return make("li", {}, button);
  }));
  if (focused) $("tower").querySelector(`[data-part="${focused}"]`).focus();
  $("part").replaceChildren(...explained(state.part, seen, model, acts));
  const table = $("part").querySelector(".lens");
  if (table) table.scrollLeft = table.scrollWidth * (seen.position < seen.lens.first + seen.lens.columns / 2 ? 0 : 1);
  answer();
}

// Les jetons attendus, avant et après ce que l'on a éteint.
function answer() {
  const off = state.off.map((one) => (one.position !== undefined ? say("off_one_position", { position: one.position + 1 })
    : say(one.head === undefined ? "off_one_layer" : "off_one_head", { layer: one.layer + 1, head: one.head + 1 })));
  const shown = [...seen.candidates].sort((a, b) => Math.max(b.logprob, b.plain) - Math.max(a.logprob, a.plain)).slice(0, 6);
  $("inside-answer").classList.toggle("off", off.length > 0);
  $("inside-answer").replaceChildren(
    make("h3", {}, say(off.length ? "answers_off" : "answers", { token: named(here(seen)) })),
    ...(off.length ? [make("p", { className: "hint" }, say("off_said", { n: off.join(" ; ") }))] : []),
    make("div", { className: "bars", aria: { role: "list" } }, ...shown.map((one) => bar(one, Math.exp(one.plain), off.length ? Math.exp(one.logprob) : null))),
  );
}

arrows($("inside-tokens"), ".token");

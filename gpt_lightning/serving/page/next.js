// « Le jeton suivant » : tous les logits, que les curseurs déforment sur place.

import { ask, flow, floats } from "./api.js";
import { $, bar, make, tell, tellFault, tokenText, working } from "./dom.js";
import { DEFAULTS, entropy, filtered, smallest, softmax, stages } from "./filters.js";
import { followText } from "./live.js";
import { asked, settings } from "./settings.js";
import { number, percent, say } from "./words.js";

const SHOWN = 20;
const PRESETS = {
  greedy: { temperature: 0 }, "temperature 0.8": { temperature: 0.8 }, "top-k 40": { temperature: 0.8, top_k: 40 },
  "nucleus 0.9": { temperature: 0.8, top_p: 0.9 },
};
let reading = null; // le texte lu, ses logits, ses jetons, les noms connus
let waiting = false;
let model;

export function openNext(known) {
  if (model !== known) reading = null; // un autre modèle lirait autre chose
  model = known;
  followText("next", () => $("text").value, read);
  $("strategies").onclick = () => working($("strategies"), "writing", showStrategies);
}

async function read(signal) {
  const text = $("text").value;
  const found = await ask("api/next", { text, candidates: 200 }, signal);
  const logits = floats(found.logits);
  reading = { text, logits, ids: found.tokens.map((one) => one.id), raw: softmax(logits), names: new Map() };
  for (const one of found.candidates) reading.names.set(one.id, one);
  redraw();
  $("compared").replaceChildren();
  if (found.unread) tell(say("unread", { n: number(found.unread) }));
}

// Redessine à la prochaine image, une seule fois par image.
export function redrawSoon() {
  if (!reading || waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    redraw();
  });
}

const best = (probabilities, count) => smallest(probabilities.map((one) => -one), count).slice(0, count);

function redraw() {
  const began = performance.now();
  const values = settings();
  const all = stages(reading.logits, values, reading.ids);
  const after = all.at(-1)?.probabilities ?? reading.raw;
  const kept = all.at(-1)?.kept ?? after.length;
  $("figures").textContent = say("entropy", {
    before: number(entropy(reading.raw)), after: number(entropy(after)), kept: number(kept), all: number(after.length),
  });
  $("masses").replaceChildren(...all.map(({ name, mass, kept: left }) =>
    make("li", {}, say(left === after.length ? "sharpens" : "mass", { name, mass: percent(mass), kept: number(left) })),
  ));
  draw($("bars"), after, SHOWN);
  $("bars").dataset.ms = performance.now() - began;
}

function draw(box, after, count, short = false) {
  const order = best(after, count).filter((id) => after[id] > 0);
  for (const id of best(reading.raw, count)) if (order.length < count && !order.includes(id)) order.push(id);
  box.replaceChildren(...order.map((id) => bar(reading.names.get(id) ?? { id, token: `#${id}`, bytes: [] }, reading.raw[id], after[id], { short })));
  const unknown = order.filter((id) => !reading.names.has(id));
  if (unknown.length) name(unknown);
}

// Le texte de jetons que le serveur n'a pas encore nommés.
async function name(ids) {
  const asking = reading;
  try {
    for (const one of (await ask("api/tokens", { text: ids })).tokens) asking.names.set(one.id, one);
    if (asking === reading) redrawSoon();
  } catch (error) {
    tellFault(error);
  }
}

async function showStrategies() {
  if (reading?.text !== $("text").value) await read();
  const seed = Number($("seed").value) || 0;
  $("compared").replaceChildren();
  for (const [title, preset] of Object.entries(PRESETS)) {
    const values = { ...DEFAULTS, ...preset };
    const bars = make("div", { className: "bars", aria: { role: "list", label: title } });
    const said = make("p", { dir: "auto", className: "said" });
    $("compared").append(make("div", { className: "card", data: { preset: title } }, make("h3", {}, title), bars, said));
    draw(bars, filtered(reading.logits, values, reading.ids), 8, true);
    const text = reading.text;
    for await (const part of flow("api/continue", { text, seed, max_tokens: 25, ...asked(values) })) {
      if (part.unread === undefined) said.append(...part.tokens.map((one) => tokenText(one)));
    }
  }
}

// « Comparer » : le même texte, deux modèles, côte à côte.

import { ask, flow, floats } from "./api.js";
import { $, bar, make, tint, tokenText } from "./dom.js";
import { filtered, smallest, softmax } from "./filters.js";
import { followText } from "./live.js";
import { asked, settings } from "./settings.js";
import { percent, say } from "./words.js";

const SHOWN = 12;
const SIDES = ["./api", "other/api"]; // sans passer par l'interrupteur de la page

export function openCompare(model) {
  $("tab-compare").hidden = !model.other;
  if (!model.other) return;
  const names = model.other.adapter ? [say("with_adapter"), say("without_adapter")] : model.other.names;
  followText("compare", () => JSON.stringify([$("text").value, $("seed").value, $("length").value, asked()]), async (signal) => {
    const boxes = names.map((name) => {
      const said = make("p", { className: "tokens", dir: "auto" });
      return [make("div", { className: "card" }, make("h3", {}, name), said), said];
    });
    $("both").replaceChildren(...boxes.map(([card]) => card));
    await Promise.all([distributions(model, names, signal), ...boxes.map(([, said], side) => write(SIDES[side], said, signal))]);
  });
}

async function write(side, said, signal) {
  const body = { text: $("text").value, seed: Number($("seed").value) || 0, max_tokens: Number($("length").value) || 40, ...asked() };
  for await (const part of flow(`${side}/continue`, body, signal)) {
    if (part.unread !== undefined) continue;
    said.append(...part.tokens.map((one) => make("span", { className: `token ${tint(Math.exp(one.logprob))}` }, tokenText(one))));
  }
}

async function distributions(model, names, signal) {
  if (!model.other.same) {
    $("differ").textContent = say("other_tokens");
    return;
  }
  const both = await Promise.all(SIDES.map((side) => ask(`${side}/next`, { text: $("text").value, candidates: 200 }, signal)));
  const known = new Map(both.flatMap((found) => found.candidates.map((one) => [one.id, one])));
  const ids = both[0].tokens.map((one) => one.id);
  const [first, second] = both.map((found) => filtered(floats(found.logits), settings(), ids));
  const shared = first.reduce((sum, one, id) => sum + Math.min(one, second[id] ?? 0), 0);
  $("differ").textContent = say("both_bars", { first: names[0], second: names[1], shared: percent(shared) });
  const most = first.map((one, id) => -Math.max(one, second[id] ?? 0));
  const order = smallest(most, SHOWN).slice(0, SHOWN).filter((id) => most[id] < 0);
  $("both-bars").replaceChildren(...order.map((id) => bar(known.get(id) ?? { id, token: `#${id}`, bytes: [] }, first[id], second[id])));
}

// « Attention » : une carte par tête d'une couche, et ce que le jeton choisi regarde.

import { ask, floats } from "./api.js";
import { $, make, tell, tokenText } from "./dom.js";
import { greatest, heat, line, pointed } from "./drawing.js";
import { followText, pulse } from "./live.js";
import { number, percent, say } from "./words.js";

export function openAttention(model) {
  const chosen = $("layer").value;
  $("layer").replaceChildren(...Array.from({ length: model.layers }, (_, rank) => make("option", { value: rank }, String(rank + 1))));
  if (chosen) $("layer").value = chosen;
  $("layer").onchange = () => pulse(0);
  followText("attention", () => `${$("layer").value} ${$("text").value}`, look);
}

async function look(signal) {
  const found = await ask("api/attention", { text: $("text").value, layer: Number($("layer").value) }, signal);
  const { heads, length, tokens } = found;
  const weights = floats(found.weights);
  $("seen").replaceChildren(...tokens.map((one, rank) => {
    const node = make("button", { type: "button", className: "token bordered" }, tokenText(one, true));
    node.onclick = () => regard(rank);
    return node;
  }));
  const cells = [];
  $("heads").replaceChildren();
  for (let head = 0; head < heads; head++) {
    const title = say("head", { n: head + 1 });
    const said = make("p", { className: "number" });
    const map = weights.subarray(head * length * length, (head + 1) * length * length);
    const canvas = pointed(heat(map, length, length, { label: title }), (from, to) => {
      said.textContent = `${tokenText(tokens[from], true)} → ${tokenText(tokens[to], true)} : ${percent(map[from * length + to])}`;
    });
    cells.push([map, said]);
    $("heads").append(make("div", { className: "card" }, make("h3", {}, title), canvas, said));
  }
  function regard(row) {
    [...$("seen").children].forEach((node, rank) => (rank === row ? node.setAttribute("aria-current", "true") : node.removeAttribute("aria-current")));
    for (const [map, said] of cells) {
      const seen = line(map, length, row);
      said.textContent = greatest(seen, 3).map((to) => `${tokenText(tokens[to], true)} ${percent(seen[to])}`).join(" ; ");
    }
  }
  regard(length - 1);
  if (found.unread) tell(say("cut", { n: number(length) }));
}

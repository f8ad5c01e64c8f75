// « Attention » : une carte par tête d'une couche, et ce que le jeton choisi regarde.

import { ask, floats } from "./api.js";
import { $, make, tell, tokenText, working } from "./dom.js";
import { number, percent, say } from "./words.js";

export function openAttention(model) {
  const chosen = $("layer").value;
  $("layer").replaceChildren(...Array.from({ length: model.layers }, (_, rank) => make("option", { value: rank }, String(rank))));
  if (chosen) $("layer").value = chosen;
  $("look").onclick = () => working($("look"), "reading", look);
  $("layer").onchange = () => $("heads").childElementCount && $("look").click();
}

async function look() {
  const text = $("text").value;
  const found = await ask("api/attention", { text, layer: Number($("layer").value) });
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
    const title = say("head", { n: head });
    const canvas = make("canvas", { width: length, height: length, aria: { role: "img", label: title } });
    const said = make("p", { className: "number" });
    paint(canvas, weights.subarray(head * length * length, (head + 1) * length * length), length);
    canvas.onpointermove = (event) => {
      const box = canvas.getBoundingClientRect();
      const [from, to] = [event.clientY - box.top, event.clientX - box.left].map((one) => Math.min(length - 1, Math.max(0, Math.floor((one / box.width) * length))));
      said.textContent = `${tokenText(tokens[from], true)} → ${tokenText(tokens[to], true)} : ${percent(weights[(head * length + from) * length + to])}`;
    };
    cells.push(said);
    $("heads").append(make("div", { className: "card" }, make("h3", {}, title), canvas, said));
  }
  function regard(row) {
    [...$("seen").children].forEach((node, rank) => (rank === row ? node.setAttribute("aria-current", "true") : node.removeAttribute("aria-current")));
    cells.forEach((said, head) => {
      const line = weights.subarray((head * length + row) * length, (head * length + row + 1) * length);
      const order = Array.from(line.keys()).sort((a, b) => line[b] - line[a]).slice(0, 3);
      said.textContent = order.map((to) => `${tokenText(tokens[to], true)} ${percent(line[to])}`).join(" ; ");
    });
  }
  regard(length - 1);
  if (found.unread) tell(say("cut", { n: number(length) }));
}

function paint(canvas, weights, length) {
  const context = canvas.getContext("2d");
  if (!context) return; // le navigateur refuse de dessiner : les nombres, dessous, disent tout
  const image = context.createImageData(length, length);
  weights.forEach((one, rank) => {
    const ink = Math.sqrt(one); // la racine rend visibles les petits poids
    image.data.set([255 - 226 * ink, 255 - 176 * ink, 255 - 40 * ink, 255], 4 * rank);
  });
  context.putImageData(image, 0, 0);
}

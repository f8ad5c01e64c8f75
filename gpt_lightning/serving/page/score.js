// « Surprise » : la vue du tokenizer, et ce que le modèle attendait.

import { ask } from "./api.js";
import { $, arrows, bar, bits, current, make, shownBits, tokenRow, tokenText } from "./dom.js";
import { followText } from "./live.js";
import { number, say } from "./words.js";

export function openScore() {
  followText("score", () => $("text").value, measure);
  arrows($("measured"), ".token");
}

async function measure(signal) {
  const { tokens, loss } = await ask("api/score", { text: $("text").value }, signal);
  $("surprise").hidden = true;
  $("measured").replaceChildren();
  $("total").textContent = loss === null ? say("one_token") : say("total", {
    tokens: number(tokens.length), bits: number(bits(-loss * (tokens.length - 1)), 1), mean: number(bits(-loss)),
    perplexity: number(Math.exp(loss)),
  });
  const nodes = tokenRow($("measured"), tokens, { visible: true, shade, chosen: (rank, node) => look(tokens[rank], node) });
  const surprising = tokens.reduce((worst, one, rank) => (one.logprob < (tokens[worst].logprob ?? 0) ? rank : worst), 0);
  look(tokens[surprising], nodes[surprising]); // le plus surprenant, en attendant que l'on en choisisse un
}

function shade({ logprob }) {
  return logprob === null ? "" : `p${[10, 6, 3, 1].filter((one) => bits(logprob) <= one).length}`;
}

function look(one, node) {
  current($("measured"), node);
  const raw = one.bytes.map((value) => value.toString(16).padStart(2, "0")).join(" ");
  const known = one.logprob === null ? say("first") : `${shownBits(one.logprob)}, ${say("rank", { n: number(one.rank) })}`;
  const rows = one.candidates.map((other) => bar(other, Math.exp(other.logprob), null));
  $("surprise").replaceChildren(
    make("h3", {}, `${tokenText(one, true)} : ${known}`), make("p", { className: "raw" }, `id ${one.id} ; ${raw}`),
    make("div", { className: "bars measured", aria: { role: "list", label: say("bars") } }, ...rows),
  );
  $("surprise").hidden = false;
}

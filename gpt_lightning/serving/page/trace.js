// « D'où vient-ce » : les passages du texte qui sont mot pour mot dans le corpus, teintés selon leur longueur.

import { ask } from "./api.js";
import { writtenText } from "./continue.js";
import { $, arrows, current, make, tell } from "./dom.js";
import { followText, pulse } from "./live.js";
import { number, percent, say } from "./words.js";

let searched = false; // l'index du corpus est ouvert

export function openTrace(model) {
  $("tab-trace").hidden = !model.corpus;
  $("least").oninput = () => pulse();
  followText("trace", () => JSON.stringify([writtenText(), $("least").value]), search);
  if (!$("traced").dataset.ready) arrows($("traced"), ".token");
  $("traced").dataset.ready = "true";
}

async function search(signal) {
  if (!searched) tell(say("searching"));
  const text = writtenText();
  const typed = Number($("least").value) || undefined;
  const { covered, shown, share, least, passages, left_out: left } = await ask("api/trace", { text, least: typed }, signal);
  if (!searched) tell("");
  searched = true;
  $("origin").hidden = true;
  const more = left ? ` ${say("more_passages", { n: number(left) })}` : "";
  const said = say("covered", { share: percent(covered), n: number(shown) });
  $("share-copied").textContent = `${said} ${say("copied_share", { share: percent(share), n: number(least) })}${more}`;
  $("traced").replaceChildren(...parts(text, passages));
  const first = $("traced").querySelector(".token");
  if (first) first.tabIndex = 0;
}

// Le texte en morceaux : chacun est à nu, ou dans le plus long passage qui le contient. Le serveur compte en caractères.
function parts(text, passages) {
  const characters = Array.from(text);
  const owner = characters.map(() => null);
  for (const passage of [...passages].sort((a, b) => a.words - b.words)) owner.fill(passage, passage.begin, passage.end);
  const nodes = [];
  for (let begin = 0; begin < owner.length; ) {
    let end = begin + 1;
    while (end < owner.length && owner[end] === owner[begin]) end++;
    nodes.push(part(characters.slice(begin, end).join(""), owner[begin]));
    begin = end;
  }
  return nodes;
}

function part(text, passage) {
  if (!passage) return make("span", { className: "token" }, text);
  const node = make("button", { type: "button", className: `token p${passage.words >= 20 ? 0 : passage.words >= 10 ? 1 : 2}`, tabIndex: -1 }, text);
  node.setAttribute("aria-label", `${text}, ${words(passage)}`);
  node.onclick = node.onfocus = () => show(passage, node);
  return node;
}

const words = ({ words: size, times }) => say(times > 1 ? "passage_times" : "passage", { n: number(size), times: number(times) });

function show(passage, node) {
  current($("traced"), node);
  const name = passage.document ? ` (${passage.document})` : "";
  const where = say("place", { n: number(passage.rank), name, character: number(passage.character) });
  $("origin").replaceChildren(
    make("h3", {}, `${words(passage)} ; ${where}`),
    make("p", {}, `… ${passage.before}`, make("mark", {}, passage.text), `${passage.after} …`),
  );
  $("origin").hidden = false;
}

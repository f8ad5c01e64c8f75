// « Converser » : quand le modèle a appris à répondre.

import { flow } from "./api.js";
import { $, make, tell, tellFault } from "./dom.js";
import { asked } from "./settings.js";
import { number, say } from "./words.js";

const LONGEST = 200; // jetons d'une réponse, au plus

let context = 0; // jetons que le modèle lit
let talk = [];
let stopping = null;

export function openChat(model) {
  $("tab-chat").hidden = !model.chat;
  context = model.context;
  $("ask").onsubmit = (event) => {
    event.preventDefault();
    const question = $("question").value.trim();
    if (question && !stopping) answer(question);
  };
  $("forget").onclick = () => {
    stopping?.abort();
    stopping = null;
    talk = [];
    $("talk").replaceChildren();
  };
}

function line(who, text = "") {
  const said = make("span", { dir: "auto" }, text);
  const box = make("p", {}, make("b", { data: { t: who } }, say(who)), "\u00a0: ", said);
  $("talk").append(box);
  return { said, box };
}

// La question ne quitte le champ que lorsque le serveur l'a prise ; refusée, elle y reste, et rien n'est oublié.
async function answer(question) {
  const control = (stopping = new AbortController());
  const mine = talk; // « Nouvelle conversation » peut en ouvrir une autre entre-temps
  const lines = [line("you", question), line("it")];
  const { said } = lines[1];
  let messages = [...mine, { role: "user", content: question }];
  let accepted = false;
  tell(say("writing"));
  try {
    for (;;) {
      try {
        const end = await hear(messages, control.signal, (text, first) => {
          if (first) said.textContent = "";
          if (!accepted && $("question").value.trim() === question) $("question").value = "";
          accepted = true;
          said.textContent += text;
        });
        if (!end.cut || messages.length === 1) break;
      } catch (error) {
        if (error.code !== "context_length_exceeded" || messages.length === 1) throw error;
      }
      messages = messages.slice(messages[1].role === "assistant" ? 2 : 1); // comme la commande chat
    }
    const gone = mine.length + 1 - messages.length;
    tell(gone ? say("forgotten", { n: number(Math.ceil(gone / 2)) }) : "");
  } catch (error) {
    tellFault(error);
  } finally {
    if (stopping === control) stopping = null;
    if (said.textContent.trim()) mine.splice(0, mine.length, ...messages, { role: "assistant", content: said.textContent });
    else if (!accepted) for (const { box } of lines) box.remove();
  }
}

// Écoute une réponse, bout par bout. `cut` : le contexte l'a coupée avant qu'elle ait eu sa place, la même que pour chat.
async function hear(messages, signal, told) {
  const body = { messages, stream: true, stream_options: { include_usage: true }, seed: Number($("seed").value) || 0, max_tokens: LONGEST, ...asked() };
  const room = Math.max(1, Math.min(LONGEST, Math.floor(context / 4)));
  let reason = null;
  let written = 0;
  let first = true;
  for await (const part of flow("v1/chat/completions", body, signal)) {
    const [choice] = part.choices;
    if (choice) told(choice.delta.content ?? "", first);
    first = false;
    reason = choice?.finish_reason ?? reason;
    written = part.usage?.completion_tokens ?? written;
  }
  return { cut: reason === "length" && written < room };
}

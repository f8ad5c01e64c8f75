// « Converser » : quand le modèle a appris à répondre.

import { flow } from "./api.js";
import { $, make, tell, tellFault } from "./dom.js";
import { asked } from "./settings.js";
import { say } from "./words.js";

let talk = [];
let stopping = null;

export function openChat(model) {
  $("tab-chat").hidden = !model.chat;
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

function line(who) {
  const said = make("span", { dir: "auto" });
  $("talk").append(make("p", {}, make("b", {}, `${say(who)} : `), said));
  return said;
}

async function answer(question) {
  const control = (stopping = new AbortController());
  const mine = talk; // « Nouvelle conversation » peut en ouvrir une autre entre-temps
  $("question").value = "";
  mine.push({ role: "user", content: question });
  line("you").textContent = question;
  const said = line("it");
  tell(say("writing"));
  try {
    const body = { messages: mine, stream: true, seed: Number($("seed").value) || 0, max_tokens: 200, ...asked() };
    for await (const part of flow("/v1/chat/completions", body, control.signal)) {
      said.textContent += part.choices[0]?.delta.content ?? "";
    }
    tell("");
  } catch (error) {
    tellFault(error);
  } finally {
    if (stopping === control) stopping = null;
    if (said.textContent.trim()) mine.push({ role: "assistant", content: said.textContent });
    else mine.pop();
  }
}

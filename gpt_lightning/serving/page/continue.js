// « Continuer » : un texte qui s'écrit jeton par jeton, et ses branches.

import { flow } from "./api.js";
import { $, arrows, bar, copy, current, make, tell, tellFault, tint, tokenRow, tokenText } from "./dom.js";
import { followText, settle } from "./live.js";
import { asked, settings, typed } from "./settings.js";
import { percent, say } from "./words.js";

const branches = [];
let here = null; // la branche montrée
let stopping = null;
let model;

export function openContinue(known) {
  model = known;
  $("write").onclick = () => {
    settle("continue");
    write({ text: $("text").value, kept: [], parent: null });
  };
  followText("continue", wanted, (signal) => write({ text: $("text").value, kept: [], parent: null, signal }));
  $("stop").onclick = () => stopping?.abort();
  $("back").onclick = () => show(here.parent);
  $("copy").onclick = copyCommand;
  arrows($("written"), ".token");
}

const wanted = () => JSON.stringify([$("text").value, $("seed").value, $("length").value, asked()]);

// Écrit une branche : `text` est le texte, ou les jetons, d'où elle part ; `kept` les jetons déjà montrés. `signal` :
// la page suit le texte d'elle-même, et ne garde pas ce qu'elle avait écrit pour le texte d'avant.
async function write({ text, kept, parent, signal }) {
  stopping?.abort();
  const control = (stopping = new AbortController());
  signal?.addEventListener("abort", () => control.abort());
  if (!parent) forgetFollowed();
  const branch = {
    model, parent, kept, tokens: [...kept], values: settings(), seed: Number($("seed").value) || 0,
    most: Math.max(1, Number($("length").value) || 40), prompt: "", reason: null, faithful: true, followed: Boolean(signal), start: typeof text === "string" ? text : null,
  };
  const before = here;
  branches.push(branch);
  show(branch);
  $("stop").disabled = false;
  if (!signal) tell(say("writing"));
  try {
    const body = { text, seed: branch.seed, max_tokens: branch.most, ...asked(branch.values) };
    for await (const part of flow("api/continue", body, control.signal)) {
      if (part.text !== undefined && part.unread !== undefined) {
        // ce que le serveur a lu
        branch.prompt = branch.start ?? part.text;
        branch.faithful = branch.start !== null || part.faithful;
        branch.from = part.tokens;
        if (kept.length) kept[kept.length - 1].text = part.tokens[part.tokens.length - 1].text;
        branch.opening = parent ? parent.opening : branch.prompt;
        branch.ids = parent ? parent.ids : part.tokens.map((one) => one.id);
        if (here === branch) show(branch);
      } else {
        for (const one of part.tokens) branch.tokens.push(one);
        branch.reason = part.finish_reason;
        if (here === branch) grow(branch);
      }
    }
    if (!signal) tell(branch.reason === "stop" ? say("ended") : say("full", { n: branch.tokens.length - kept.length }));
  } catch (error) {
    if (!branch.from) {
      // rien n'a été lu : cette branche n'existe pas
      remove(branch);
      if (here === branch) show(branches.includes(before) ? before : null);
    }
    if (signal?.aborted || (signal && error.name !== "AbortError")) throw error; // sauf « Arrêter »
    tellFault(error);
  } finally {
    if (stopping === control) {
      stopping = null;
      $("stop").disabled = true;
    }
    buttons();
  }
}

// Une branche peut déjà être oubliée quand son écriture s'arrête.
function remove(branch) {
  if (branches.includes(branch)) branches.splice(branches.indexOf(branch), 1);
}

// Oublie ce que la page avait écrit d'elle-même, si personne n'en est reparti.
function forgetFollowed() {
  for (const old of branches.filter((one) => one.followed)) {
    if (!branches.some((one) => one.parent === old)) remove(old);
  }
}

function show(branch) {
  here = branch;
  const box = $("written");
  box.replaceChildren();
  $("candidates").hidden = true;
  if (branch) {
    if (branch.opening) box.append(make("span", { className: "mark", dir: "auto" }, branch.opening));
    grow(branch);
  }
  $("branches").replaceChildren(
    ...(branches.length < 2 ? [] : branches.map((one, index) => {
      const said = one.tokens.slice(0, 12).map((token) => tokenText(token)).join("");
      const button = make("button", { type: "button", onclick: () => show(one) }, said || say("branch", { n: index + 1 }));
      if (one === branch) button.setAttribute("aria-current", "true");
      return make("li", {}, button);
    })),
  );
  buttons();
}

function buttons() {
  $("back").disabled = !here?.parent;
  $("copy").disabled = !here?.from || stopping !== null;
}

// Le texte, et ce qui est écrit à sa suite.
export function writtenText() {
  const text = $("text").value;
  return here?.opening === text ? text + here.tokens.map((one) => one.text).join("") : text;
}

// Ajoute à l'écran les jetons qui n'y sont pas.
function grow(branch) {
  const box = $("written");
  const there = box.querySelectorAll(".token").length;
  const nodes = tokenRow(box, branch.tokens.slice(there), {
    shade: (one) => tint(Math.exp(one.logprob)),
    chosen: (rank, node) => look(branch, there + rank, node),
  });
  if (there) for (const one of nodes) one.tabIndex = -1;
  if (!there && nodes.length && branch.followed) look(branch, 0, nodes[0]);
}

// Les candidats d'un jeton, avant et après les filtres ; en choisir un autre ouvre une branche.
function look(branch, rank, node) {
  const one = branch.tokens[rank];
  const box = $("candidates");
  if (node.getAttribute("aria-current") === "true" && !box.hidden) return;
  current($("written"), node);
  const title = `${tokenText(one, true)} : ${percent(Math.exp(one.logprob))}, ${say("rank", { n: one.rank })}, id ${one.id}`;
  const all = one.candidates.some((other) => other.id === one.id) ? one.candidates : [...one.candidates, { ...one, filtered: null }];
  const rows = all.map((other) =>
    bar(other, Math.exp(other.logprob), other.filtered, {
      chosen: other.id === one.id,
      pick: () => other.id !== one.id && fork(branch, rank, other),
    }),
  );
  box.replaceChildren(make("h3", {}, title), make("p", { className: "hint" }, `${say("before")} → ${say("after")}`), ...rows);
  box.hidden = false;
}

function fork(branch, rank, other) {
  if (branch.model !== model) return tell(say("other_model"), true);
  settle("continue");
  const before = branch.tokens.slice(0, rank);
  const chosen = { ...other, rank: branch.tokens[rank].candidates.indexOf(other) + 1, candidates: branch.tokens[rank].candidates };
  const kept = [...before, chosen]; // son texte viendra du serveur, qui sait ce qui le précède
  write({ text: [...branch.ids, ...kept.map((one) => one.id)], kept, parent: branch });
}

// Le texte affiché d'une branche, tel que generate.py l'écrirait.
export function command(branch) {
  if (!branch.faithful) return null;
  const count = branch.reason === "stop" ? branch.most : branch.tokens.length - branch.kept.length;
  const words = [`prompt=${quoted(free(branch.prompt))}`, `seed=${branch.seed}`, `max_new_tokens=${count}`, ...typed(branch.values)];
  return `${branch.model.command} ${words.join(" ")}`;
}

// generate.py ôte les guillemets qui entourent tout un texte : d'autres les gardent.
function free(text) {
  const [first, last] = [text[0], text[text.length - 1]];
  const wrapped = text.length >= 2 && first === last && "'\"".includes(first) && !text.slice(1, -1).includes(first);
  if (!wrapped) return text;
  const other = first === "'" ? '"' : "'";
  return text.includes(other) ? text : other + text + other;
}

const quoted = (text) => `'${text.replaceAll("'", "'\"'\"'")}'`;

function copyCommand() {
  const text = command(here);
  if (text === null) tell(say("no_command"), true);
  else copy(text);
}

// Le fichier s'ouvre : le modèle qu'il contient répond à la page, à la place d'un serveur.

import { answerHere } from "../api.js";
import { Answers } from "./answers.js";
import { tokenizerOf } from "./tokenizer.js";
import { header, modelOf } from "./weights.js";
import "./words.js";

const held = header();
const models = new Map();

// Le modèle d'un pas du film, ou celui de la fin : ses poids ne sont lus qu'une fois.
function at(step) {
  if (!models.has(step)) models.set(step, modelOf(held, step === null ? "weights" : `weights-${step}`));
  return models.get(step);
}

answerHere(new Answers(held.described, tokenizerOf(held.tokenizer), at));

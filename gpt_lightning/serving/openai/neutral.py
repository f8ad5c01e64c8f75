"""Les champs que ce serveur ne fait pas, et les valeurs de chacun qui ne demandent rien : elles sont acceptées.

Sources : la documentation de l'API d'OpenAI, celles de vLLM, de llama.cpp et de `transformers serve`.
"""

from gpt_lightning.tokenizers.messages import is_empty

EITHER = (True, False)  # un drapeau dont ce serveur n'a pas l'objet
NEUTRAL: dict[str, tuple[object, ...]] = {
    # OpenAI
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({}, []),
    "modalities": ([], ["text"]),
    "moderation": (),
    "parallel_tool_calls": EITHER,
    "prediction": (),
    "reasoning_effort": ("", "none"),
    "response_format": ({}, {"type": "text"}),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto", {"type": "none"}),
    "tools": ([],),
    "verbosity": ("", "medium"),
    "web_search_options": (),  # {} cherche
    # vLLM
    "add_special_tokens": EITHER,  # il n'y en a pas
    "bad_words": ([],),
    "detokenize": (True,),
    "ignore_eos": (False,),
    "include_reasoning": EITHER,
    "include_stop_str_in_output": (False,),
    "min_tokens": (0,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": EITHER,
    "use_beam_search": (False,),
    # llama.cpp
    "dry_multiplier": (0,),
    "dynatemp_range": (0,),
    "image_data": ([],),
    "json_schema": (),  # {} veut du JSON
    "min_keep": (0,),
    "mirostat": (0,),
    "n_cmpl": (1,),
    "n_discard": (0,),
    "n_indent": (0,),
    "n_predict": (-1,),
    "n_probs": (0,),
    "post_sampling_probs": (False,),
    "reasoning_budget": (-1, 0),
    "reasoning_format": ("", "none", "auto"),
    "repeat_last_n": (-1,),
    "repeat_penalty": (1,),
    "return_progress": (False,),
    "return_tokens": (False,),
    "t_max_predict_ms": (-1, 0),
    "tfs_z": (1,),
    "thinking_forced_open": (False,),
    "timings_per_token": (False,),
    "top_n_sigma": (-1, 0),
    "typ_p": (1,),
    "xtc_probability": (0,),
    # transformers, et ce qui lui ressemble
    "decoder_input_details": (False,),
    "details": (False,),
    "do_sample": (True,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "generation_config": ("", "{}", {}),
    "guidance_scale": (1,),
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0,),
    "return_full_text": (False,),
    "smoothing_factor": (0,),
    "top_a": (0,),
    "watermark": (False,),
    # Mistral, Ollama, OpenRouter
    "num_predict": (-1,),
    "raw": (False,),
    "safe_prompt": (False,),
    "usage": ({}, {"include": False}),
    # ceux qui font réfléchir un modèle, ou non
    "chat_template_kwargs": ({}, {"enable_thinking": False}, {"thinking": False}),
    "enable_thinking": (False,),
    "reasoning": ({}, {"effort": "none"}, {"enabled": False}),
    "thinking": ({}, {"type": "disabled"}, False),
    # les champs d'une route, sur une autre
    "continue_final_message": (False,),
    "echo": (False,),
    "logprobs": (False,),
    "max_completion_tokens": (-1,),
    "top_logprobs": (0,),
}
# ce qui range, presse ou nomme une demande, et les détails d'un filtre éteint : la réponse est la même
UNFELT = frozenset(
    {
        *(
            "chat_id",
            "early_stopping",
            "id_slot",
            "keep_alive",
            "length_penalty",
            "metadata",
            "n_cache_reuse",
            "n_keep",
            "parse_tool_calls",
        ),
        *("penalize_nl", "priority", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
        *("request_id", "safety_identifier", "session_id", "slot_id"),
        *(
            "dry_allowed_length",
            "dry_base",
            "dry_penalty_last_n",
            "dry_sequence_breakers",
            "dynatemp_exponent",
        ),
        *("mirostat_eta", "mirostat_tau", "smoothing_curve", "xtc_threshold"),
    }
)


def asks_nothing(name: str, value: object) -> bool:
    """Vrai si cette valeur de ce champ, que le serveur ne fait pas, ne change rien à la réponse."""
    if value is None or name in UNFELT:
        return True
    if name not in NEUTRAL:
        return is_empty(value)
    if isinstance(value, dict):  # une clé sans valeur ne dit rien ; un biais nul non plus
        biases = name == "logit_bias"
        value = {
            key: inner
            for key, inner in value.items()
            if inner is not None and not (biases and is_same(inner, 0))
        }
    return any(is_same(value, nothing) for nothing in NEUTRAL[name])


def is_same(value: object, nothing: object) -> bool:
    """Vrai si ces deux valeurs de JSON sont la même : 1 est 1.0, et n'est pas true."""
    return value == nothing and isinstance(value, bool) == isinstance(nothing, bool)

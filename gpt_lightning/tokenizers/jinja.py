"""Le même gabarit, dans la langue de Hugging Face : celui que l'export écrit, et que transformers exécute.

C'est la même lecture que messages.py : sans message vide, ceux de suite d'un même rôle joints par une ligne vide.
"""

from gpt_lightning.tokenizers.base import END_OF_TEXT
from gpt_lightning.tokenizers.dialects import DIALECTS, NO_THOUGHT, TITLES, Dialect, read_name
from gpt_lightning.tokenizers.messages import ROLES

# les mots en capitales sont propres à un gabarit
_READ = """
{%- set roles = ROLES -%}
{%- set last = namespace(role='', asked=falseMORE) -%}
{%- for message in messages -%}
  {%- if message.role not in roles -%}{{ raise_exception('role : user, assistant, system') }}{%- endif -%}
  {%- if message.tool_calls -%}{{ raise_exception('tool_calls') }}{%- endif -%}
  {%- set role = roles[message.role] -%}
  {%- set content = message.content -%}
  {%- if content is not string -%}
    {%- if content | rejectattr('type', 'equalto', 'text') | list -%}{{ raise_exception('content') }}{%- endif -%}
    {%- set content = content | map(attribute='text') | join -%}
  {%- endif -%}
  {%- set content = content | replace('\\r\\n', '\\n') | trim -%}
  {%- if content -%}
  {%- if role == 'system' and last.role not in ('', 'system') -%}{{ raise_exception('system') }}{%- endif -%}
  {%- if role == 'user' -%}{%- set last.asked = true -%}{%- endif -%}
  {%- if not last.asked and role == 'assistant' -%}{{ raise_exception('assistant') }}{%- endif -%}
WRITE
  {%- set last.role = role -%}
  {%- endif -%}
{%- endfor -%}
{%- if not last.asked -%}{{ raise_exception('user') }}{%- endif -%}
REST
{%- if not add_generation_prompt -%}ENDLAST
{%- elif last.role != 'assistant' -%}END{{ 'SEPARATORANSWER' }}{%- endif -%}
"""
_WRITE = """
  {%- if role == last.role -%}{{ '\\n\\n' + content }}
  {%- else -%}
    {%- if last.role -%}END{{ 'SEPARATOR' }}BEGIN{%- endif -%}
    {{ HEADING + content }}
  {%- endif -%}
"""
_SYSTEM = "CONSIGNE"  # la consigne par défaut, une chaîne de Jinja
# un modèle qui réfléchit : toute la conversation est lue avant d'être écrite, car la dernière question y compte
_GATHER = """
  {%- if role == last.role -%}
    {%- set joined = last.told[-1].content + '\\n\\n' + content -%}
    {%- set last.told = last.told[:-1] + [{'role': role, 'content': joined}] -%}
  {%- else -%}
    {%- set last.told = last.told + [{'role': role, 'content': content}] -%}
  {%- endif -%}
"""
_WRITE_GATHERED = """
{%- set last.question = last.told | length -%}
{%- for message in last.told -%}
  {%- set told = message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>') -%}
  {%- if message.role == 'user' and not told -%}{%- set last.question = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for message in last.told -%}
  {%- set role, content, thought = message.role, message.content, '' -%}
  {%- if role == 'assistant' and '</think>' in content -%}
    {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].strip('\\n') -%}
    {%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
  {%- endif -%}
  {%- if role == 'assistant' and loop.index0 > last.question and (thought or loop.last) -%}
    {%- set content = '<think>\\n' + thought + '\\n</think>\\n\\n' + content -%}
  {%- endif -%}
  {%- if not loop.first -%}END{{ 'SEPARATOR' }}BEGIN{%- endif -%}
  {{ HEADING + content }}
{%- endfor -%}
"""


def jinja(name: str, *, end: str = END_OF_TEXT, last: str = "") -> str:
    """Le gabarit `name` tel que `apply_chat_template` de Hugging Face le lit.

    `end` est le jeton qui finit une réponse de `texte`, `last` ce qui suit une conversation finie.
    """
    kind, system = read_name(name)
    dialect = DIALECTS[kind]
    pieces = {
        "ROLES": str(ROLES),
        "MORE": ", told=[], question=0" if dialect.thinks else "",
        "WRITE": _GATHER if dialect.thinks else _WRITE,
        "REST": _WRITE_GATHERED if dialect.thinks else "",
        "LAST": _write(last) if last else "",
        "BEGIN": _beginning(dialect, system is not None),
        **(_words_of_titles(dialect, end) if kind == "texte" else _words_of_marks(dialect)),
    }
    text = _READ
    for word, piece in pieces.items():
        text = text.replace(word, piece)
    text = "".join(line.strip() for line in text.splitlines())
    return text if system is None else text.replace(_SYSTEM, repr(system))


def _beginning(dialect: Dialect, has_system: bool) -> str:
    """Ce qui précède le premier message : rien, un jeton, la consigne par défaut."""
    start = _write(dialect.start) if dialect.start else ""
    if has_system:
        before = dialect.heading.format(role="system", title=TITLES["system"])
        after = dialect.end + dialect.separator
        system = f"{{{{ '{_escape(before)}' + {_SYSTEM} + '{_escape(after)}' }}}}"
        start += f"{{%- if role != 'system' -%}}{system}{{%- endif -%}}"
    return f"{{%- else -%}}{start}" if start else ""


def _words_of_titles(dialect: Dialect, end: str) -> dict[str, str]:
    titles = ", ".join(f"'{role}': '{title}'" for role, title in TITLES.items())
    return {
        "HEADING": f"{{{titles}}}[role] + '\\n'",
        "SEPARATOR": _escape(dialect.separator),
        "ANSWER": f"{TITLES['assistant']}\\n",
        "END": f"{{%- if last.role == 'assistant' -%}}{_write(end)}{{%- endif -%}}",
    }


def _words_of_marks(dialect: Dialect) -> dict[str, str]:
    before, after = map(_escape, dialect.heading.split("{role}"))
    return {
        "HEADING": f"'{before}' + role + '{after}'",
        "SEPARATOR": _escape(dialect.separator),
        "ANSWER": f"{before}assistant{after}" + _escape(NO_THOUGHT) * dialect.thinks,
        "END": _write(dialect.end),
    }


def _write(text: str) -> str:
    return f"{{{{ '{_escape(text)}' }}}}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")

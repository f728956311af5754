"""Chat templates give what transformers makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcompile.diagnostic import CompileError
from dcompile.text import Text, open_text
from tests.session.fakes import facts, text

TEMPLATES = [
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{{ bos_token }}{%- for m in messages %}\n  {%- if m.role == 'system' %}\n    {{- m.content | trim }}\n"
    "  {%- else %}\n    {{- '[' + m.role + ']' + m.content + eos_token }}\n  {%- endif %}\n{%- endfor %}",
    "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}",
    "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{% if tools is not none %}tools{% endif %}{% set ns = namespace(n=0) %}{% for m in messages %}"
    "{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }} {{ strftime_now('%Y') }}",
]
MESSAGES = [{"role": "system", "content": " be <brief> & 'nice' "}, {"role": "user", "content": "héllo\n"}]


def with_template(template: str | None) -> Text:
    return Text(text().tokenizer, template, "<s>", "</s>", frozenset({1}))


@pytest.mark.parametrize("template", TEMPLATES)
def test_as_transformers_renders_it(template: str) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=text().tokenizer, bos_token="<s>", eos_token="</s>")
    wanted = theirs.apply_chat_template(MESSAGES, chat_template=template, tokenize=False, add_generation_prompt=True)
    assert with_template(template).chat(MESSAGES) == wanted


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no system message') }}", "{% for %}", "{{ messages[5].content.x }}", "{{ 1 / 0 }}",
     "{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}"],
)  # fmt: skip
def test_a_template_that_refuses(template: str) -> None:
    with pytest.raises(CompileError) as caught:
        with_template(template).chat(MESSAGES)
    assert caught.value.diagnostics[0].code == "chat-template"


def test_no_template_and_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="no-chat-template"):
        with_template(None).chat(MESSAGES)
    assert open_text(tmp_path, facts()) is None
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CompileError, match="unreadable-tokenizer"):
        open_text(tmp_path, facts())


def test_the_files_of_an_artifact(tmp_path: Path) -> None:
    text().tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}{{ eos_token }}")
    opened = open_text(tmp_path, facts(eos_ids=(68,)))
    assert opened is not None
    assert opened.decode(opened.encode("héllo")) == "héllo"
    assert opened.chat([{"role": "user", "content": "x"}]) == f"x{opened.tokenizer.id_to_token(68)}"

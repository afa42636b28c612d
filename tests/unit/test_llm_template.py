from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.llm.chat import CHATML, LLAMA3, ZEPHYR
from services.llm.template import TemplateRefused, learn

ROOT = Path(__file__).parents[2]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
SPECIAL = (
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)

# Written for these tests in the manner of the models they are named after.
PLAIN_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_DEFAULT = "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}" + PLAIN_CHATML
LLAMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
DATED = (
    "{{ bos_token }}{% set system = '' %}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday: 26 Jul 2024\n\n' + system + '<|eot_id|>' }}"
) + LLAMA.removeprefix("{{ bos_token }}")
ZEPHYR_LIKE = (
    "{% for m in messages %}\n{{ '<|' + m.role + '|>\n' + m.content + eos_token }}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>\n' }}{% endif %}\n{% endfor %}"
)
THINKING = PLAIN_CHATML.replace(
    "assistant\n' }}{% endif %}",
    "assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% elif m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)


def test_chatml_is_learnt_as_we_have_it() -> None:
    assert learn(PLAIN_CHATML, {"eos_token": "<|im_end|>"}, SPECIAL, name="x") == CHATML.model_copy(
        update={"name": "x", "ends": ("<|im_end|>",)}
    )


def test_a_default_system_message_is_learnt() -> None:
    chat = learn(WITH_DEFAULT, TOKENS, SPECIAL, name="x")
    assert (chat.system, chat.roles) == ("Be kind.", CHATML.roles)
    assert chat.ends == ("<|im_end|>", "</s>")


def test_llama3_is_learnt_as_we_have_it() -> None:
    chat = learn(LLAMA, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}, SPECIAL, name="x")
    roles = {role: frame for role, frame in LLAMA3.roles.items() if role != "tool"}
    assert chat == LLAMA3.model_copy(update={"name": "x", "roles": roles, "ends": ("<|eot_id|>",)})


def test_an_empty_system_message_that_is_always_written_is_learnt() -> None:
    chat = learn(DATED, {"bos_token": "<|begin_of_text|>"}, SPECIAL, name="x")
    assert chat.system == ""
    assert chat.roles["system"] == ("<|start_header_id|>system<|end_header_id|>\n\nToday: 26 Jul 2024\n\n", "<|eot_id|>")


def test_zephyr_is_learnt_as_we_have_it() -> None:
    chat = learn(ZEPHYR_LIKE, TOKENS, SPECIAL, name="x")
    assert chat == ZEPHYR.model_copy(update={"name": "x", "begin": ""})


def test_a_reply_that_begins_without_thinking_is_learnt() -> None:
    chat = learn(THINKING, TOKENS, SPECIAL, name="x")
    assert chat.reply == "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert chat.roles == CHATML.roles


def test_a_family_without_system_messages_is_learnt() -> None:
    chat = learn(NO_SYSTEM, TOKENS, SPECIAL, name="x")
    assert chat.begin == "<s>"
    assert chat.roles == {"user": ("[INST] ", " [/INST]"), "assistant": ("", "</s>")}


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "more time"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "may not have"),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "may not have"),
        ("{{ 'a' * 3000000000 }}", "MiB of memory"),
        ("{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}", "writes more than"),
        ("{{ raise_exception('not me') }}", "not me"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("(" * 300_000, "characters"),
        ("{{ messages[0].content }}", "leaves messages out"),
        (PLAIN_CHATML.replace("m.content", "(m.content | upper)"), "leaves messages out"),
        (PLAIN_CHATML.replace("m.content", "(m.content | replace('<', ' '))"), "does not write"),
        (PLAIN_CHATML.replace("{% for m", "{{ messages | length }}{% for m"), "depends on other messages"),
        (PLAIN_CHATML.replace("<|im_end|>", "."), "no special token ends"),
    ],
)  # fmt: skip
def test_what_is_no_chat_format_is_refused(template: str, why: str) -> None:
    with pytest.raises(TemplateRefused, match="--chat chatml") as refused:
        learn(template, {"bos_token": "<s>"}, SPECIAL, name="x")
    assert why in refused.value.why


def test_a_service_that_serves_loads_no_template_engine() -> None:
    script = "import sys, services.llm.onnx_model; print('jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"

"""Chat templates, as transformers runs them."""

import json

import pytest
from helpers.own_model import write_tokenizer

from haepo_jax.errors import ConfigError
from haepo_jax.language.data.chat import ChatTemplate, check_messages

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}


def render(folder, messages=(USER,), **options):
    return ChatTemplate.from_folder(folder).render(messages, where="rows.jsonl, line 2", **options)


def test_messages_are_written_up_to_where_the_assistant_answers(tmp_path):
    write_tokenizer(tmp_path)
    assert render(tmp_path, [USER, ANSWER, USER]) == "<bos>[user]Hi[assistant]Ho<eos>[user]Hi[assistant]"
    assert render(tmp_path, [USER, ANSWER], for_answer=False) == "<bos>[user]Hi[assistant]Ho<eos>"


def test_a_file_of_its_own_comes_before_the_settings_and_the_default_of_several_is_taken(tmp_path):
    write_tokenizer(tmp_path, [{"name": "tools", "template": "no"}, {"name": "default", "template": "by list"}])
    assert render(tmp_path) == "by list"
    (tmp_path / "chat_template.jinja").write_text("by file")
    assert render(tmp_path) == "by file"


def test_special_tokens_that_are_written_out_in_full_are_known(tmp_path):
    write_tokenizer(tmp_path, bos_token={"content": "<s>", "lstrip": False})
    assert render(tmp_path).startswith("<s>")


def test_special_tokens_that_another_file_names_are_known(tmp_path):
    write_tokenizer(tmp_path, bos_token=None)
    special = {"bos_token": {"content": "<first>"}, "eos_token": "<last>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    assert render(tmp_path, [USER, ANSWER], for_answer=False) == "<first>[user]Hi[assistant]Ho<eos>"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% for m in messages %}\n  {% if m.role == 'user' %}\nU\n  {% endif %}\n{% endfor %}", "U\n"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "<é>"}]'),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "<é>"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{{ tools is none }} {{ strftime_now('%%') }}", "True %"),
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
    ],
    ids=[
        "blocks leave no lines",
        "json without escapes",
        "generation",
        "loop controls",
        "what templates look for",
        "a date",
    ],
)
def test_templates_that_were_written_for_transformers_work(template, text, tmp_path):
    write_tokenizer(tmp_path, template)
    assert render(tmp_path, [{"role": "user", "content": "<é>"}]) == text


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('only a user may begin') }}", "refuses the messages: only a user may begin."),
        ("{{ messages.nothing.at_all }}", "fails: 'list object' has no attribute 'nothing'."),
        ("{{ messages.__class__.__mro__ }}", "fails: access to attribute '__class__' of 'list' object is unsafe."),
        ("{{ messages.append(1) }}", "fails: "),
    ],
)
def test_what_a_template_refuses_or_may_not_do_is_one_sentence_with_the_row(template, reason, tmp_path):
    write_tokenizer(tmp_path, template)
    with pytest.raises(ConfigError) as error:
        render(tmp_path)
    start = f"rows.jsonl, line 2: the chat template of {tmp_path / 'tokenizer_config.json'} "
    assert str(error.value).startswith(start + reason) and "\n" not in str(error.value)


def test_a_model_without_a_template_and_one_that_is_no_jinja_are_refused(tmp_path):
    write_tokenizer(tmp_path, None)
    with pytest.raises(ConfigError, match=rf"^{tmp_path} has no chat template, which rows of messages are written by"):
        render(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("line\n{% if %}")
    with pytest.raises(ConfigError, match=r"chat_template.jinja: the chat template is no Jinja at line 2: "):
        render(tmp_path)


@pytest.mark.parametrize(
    "template",
    [
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{% if 1 %}" * 120 + "{% endif %}" * 120,
        "{% for one in messages %}" * 25 + "{% endfor %}" * 25,
        "{{ " + "9" * 5000 + " }}",
        "{% break %}",
    ],
    ids=["brackets", "conditions", "loops", "digits", "a break outside of loops"],
)
def test_a_template_that_cannot_be_compiled_is_refused(template, tmp_path):
    write_tokenizer(tmp_path, template)
    with pytest.raises(ConfigError, match=r"tokenizer_config.json: the chat template cannot be compiled: [^\n]+\.$"):
        render(tmp_path)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (7, "rows.jsonl, line 2: field messages is a number, not text or a list of messages."),
        ([], "rows.jsonl, line 2: field messages is an empty list, not text or a list of messages."),
        ([USER, "Ho"], "rows.jsonl, line 2: field messages[1] is 'Ho', not a message: an object with a role and a "),
        ([{"content": "Hi"}], "rows.jsonl, line 2: field messages[0] is {'content': 'Hi'}, not a message: an object"),
    ],
)
def test_what_is_no_list_of_messages_is_refused_with_its_field(value, sentence):
    with pytest.raises(ConfigError) as error:
        check_messages(value, "rows.jsonl, line 2", "messages")
    assert str(error.value).startswith(sentence)


def test_fields_of_messages_that_parquet_filled_up_are_left_out():
    assert check_messages([USER | {"tool_calls": None}], "", "messages") == [USER]

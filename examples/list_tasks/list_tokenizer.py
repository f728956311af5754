"""A word-level tokenizer for the list tasks: names are two tokens, so held-out people are unseen pairs of tokens."""

from __future__ import annotations

import re

from tasks import vocabulary
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<unk>", "<eos>", "<mask>", "<user>", "<assistant>")
EOS, MASK, USER, ASSISTANT = 1, 2, 3, 4
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<user> {{ message['content'] }} <assistant> "
    "{% else %}{{ message['content'] }} <eos> {% endif %}{% endfor %}"
)


def token_ids() -> dict[str, int]:
    """Return the ids of all tokens: special tokens, signs, digits, words, names."""
    return {token: i for i, token in enumerate([*SPECIAL_TOKENS, *vocabulary()])}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Make the word-level tokenizer: a first name, a last name, a word and a sign are one token each."""
    raw = Tokenizer(models.WordLevel(token_ids(), unk_token="<unk>"))
    spaces = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    raw.pre_tokenizer = pre_tokenizers.Sequence([spaces, pre_tokenizers.Punctuation("isolated")])
    raw.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=True),
            decoders.Fuse(),
            decoders.Replace("[ ", "["),
            decoders.Replace(" ]", "]"),
        ]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=raw,
        unk_token="<unk>",
        eos_token="<eos>",
        pad_token="<eos>",
        mask_token="<mask>",
        additional_special_tokens=["<user>", "<assistant>"],
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def encode_text(text: str, ids: dict[str, int]) -> list[int]:
    """Encode the text of a prompt or an answer; the same ids as the tokenizer's, without its overhead."""
    return [ids[token] for token in re.findall(r"\w+|[^\w\s]", text)]


def encode_prompt(prompt: str, ids: dict[str, int]) -> list[int]:
    """Encode one user turn as the chat template renders it."""
    return [USER, *encode_text(prompt, ids), ASSISTANT]

"""Tokenizers small enough to count with."""

import functools
import string

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from haepo_jax.language.data.tokenizer import Tokenizer

TEXT = """I moved out of the house last summer, and now my brother wants me to pay rent for the months after that.
He says that the room was kept for me. TL;DR: my brother wants rent for a room that I did not use.
SUBREDDIT: r/relationships TITLE: Is it fair? POST: We have been together for two years\n\nand then he moved out."""


def backend(vocabulary, pattern=r"[\s\S]"):
    """A tokenizer whose tokens are the pieces that the pattern cuts a text into; the words in <> are special."""
    made = tokenizers.Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens([token for token in vocabulary if token.startswith("<") and len(token) > 1])
    return made


@functools.cache
def characters():
    """One token a character: `<pad>` 0, `<eos>` 1, `<unk>` 2, `<bos>` 3, and printable ASCII."""
    made = backend(["<pad>", "<eos>", "<unk>", "<bos>", *string.printable])
    return Tokenizer(made, eos_id=1, pad_id=0)


@functools.cache
def subwords():
    """Byte pairs, as GPT-NeoX and Qwen have them: any text comes back as it was."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([TEXT], trainer)
    return Tokenizer(made, eos_id=0, pad_id=1)

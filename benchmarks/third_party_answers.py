"""A collection's questions, answered by llama.cpp's server: in F16 an honest engine, otherwise a quantised model."""

from collections.abc import Sequence
from itertools import groupby

from benchmarks.gguf_weights import F16, prepare_gguf
from benchmarks.third_party import ThirdPartyServer, answer_all, start_third_party_server
from models.collection import Answered, Collection, Progress, Question
from models.gather import gather_answers

SLOTS, THREADS = 2, 1
"""One thread: llama.cpp's wait for each other in a loop, and on a busy machine that takes all the time there is."""
AT_ONCE = 32


def gather_server_answers(
    collection: Collection, group: str, questions: Sequence[Question], progress: Progress, format_name: str = F16
) -> list[Answered]:
    """Return the server's answers to all questions; it is started when some are missing."""
    found = collection.read_answers(group, questions)
    if len(found) == len(questions):
        return found
    gguf = prepare_gguf(format_name)
    with start_third_party_server(slots=SLOTS, threads=THREADS, gguf=gguf) as server:

        def answer(asked: Sequence[Question]) -> list[Answered]:
            return answer_questions(server, asked)

        return gather_answers(collection, group, questions, answer, AT_ONCE, progress)


def answer_questions(server: ThirdPartyServer, asked: Sequence[Question]) -> list[Answered]:
    """Return the server's answers in the order of the questions, each as long as its question allows."""
    answers: dict[int, Answered] = {}
    for limit, part in groupby(sorted(asked, key=_get_limit), key=_get_limit):
        batch = list(part)
        conversations = [question.messages for question in batch]
        given = answer_all(server, conversations, [question.sampler_seed for question in batch], max_tokens=limit)
        for question, item in zip(batch, given, strict=True):
            answers[question.index] = Answered(
                question=question,
                output_ids=item.token_ids,
                prompt_tokens=item.prompt_tokens,
                logprobs=item.logprobs,
            )
    return [answers[question.index] for question in asked]


def _get_limit(question: Question) -> int:
    return question.max_tokens

"""A server that is not ours: llama.cpp's, through `xllamacpp`, on an F16 GGUF of the bundled model's own weights.

    python -m benchmarks.third_party        serves until Ctrl-C and prints the address

It speaks OpenAI's chat API with seeds, log-probabilities (of the raw distribution, with token ids) and usage, and its
kernels, cache and sampler share nothing with ours: an honest provider on another engine. llama.cpp filters by default
(temperature 0.8, top-k 40, top-p 0.95, min-p 0.05), which is another distribution than the one that is claimed. So by
default the server starts with all filters off, and PLAIN_SAMPLING says the same in one request to any llama.cpp server.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx

from benchmarks.gguf_weights import prepare_gguf
from models.requests import ChatMessage
from scoring.errors import MissingExtra, Unavailable

ROOT = Path(__file__).resolve().parents[1]
MODEL_NAME = "smollm2-135m-instruct"
CONTEXT_TOKENS = 2048
START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 1800.0
"""Generous: on a machine that is busy with other work this server, at low priority, comes to a near halt."""
SEED_BITS = 32
"""llama.cpp seeds have 32 bits; it cuts off the rest of a larger number."""
PLAIN_SAMPLING: Mapping[str, Any] = {
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "dry_multiplier": 0.0,
    "xtc_probability": 0.0,
    "dynatemp_range": 0.0,
    "mirostat": 0,
}
"""llama.cpp's own parameters of a chat request that leave the temperature alone to shape the distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThirdPartyServer:
    """A running server: `base_url` is what an OpenAI client is given, `root_url` the same without `/v1`."""

    root_url: str
    process_id: int
    slots: int

    @property
    def base_url(self) -> str:
        return f"{self.root_url}/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThirdPartyAnswer:
    """What the server answered. `token_ids` end with the end token when `finish_reason` is "stop", as ours do.

    `logprobs` are natural, of the raw distribution (temperature 1, no filter); `top` holds (id, logprob) pairs.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top: tuple[tuple[tuple[int, float], ...], ...]
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@contextmanager
def start_third_party_server(
    *, slots: int = 1, threads: int = 1, is_plain: bool = True, gguf: Path | None = None
) -> Iterator[ThirdPartyServer]:
    """Run the server in a process of its own on a free loopback port, and end it afterwards.

    `slots` requests are answered at a time, each with CONTEXT_TOKENS of context. `is_plain` False keeps llama.cpp's
    filters on, as an operator who reads no manual would. Raises MissingExtra without xllamacpp and Unavailable
    when the server does not come up; writes the GGUF file into the model cache on first use.
    """
    _check_installed()
    path = gguf or prepare_gguf()
    options = ["--gguf", str(path), "--slots", str(slots), "--threads", str(threads), "--until-input-ends"]
    command = [sys.executable, "-m", "benchmarks.third_party", *options, *([] if is_plain else ["--filtered"])]
    # The child ends when this end of the pipe closes, whatever becomes of this process.
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            root_url = _read_address(process)
            yield ThirdPartyServer(root_url=root_url, process_id=process.pid, slots=slots)
        finally:
            _end(process)


def answer_all(
    server: ThirdPartyServer, conversations: Sequence[Sequence[ChatMessage]], seeds: Sequence[int], **sampling: Any
) -> list[ThirdPartyAnswer]:
    """Return the answers in the order of the conversations, as many at a time as the server has slots.

    `sampling` goes into every request beside PLAIN_SAMPLING: `temperature` (1 unless said), `max_tokens`,
    `top_logprobs`. Seeds are cut to 32 bits. Raises Unavailable when a request fails.
    """
    with httpx.Client(timeout=ANSWER_TIMEOUT_S, trust_env=False) as client:

        def ask(pair: tuple[Sequence[ChatMessage], int]) -> ThirdPartyAnswer:
            return _ask(client, server, *pair, sampling)

        with ThreadPoolExecutor(server.slots) as pool:
            return list(pool.map(ask, zip(conversations, seeds, strict=True)))


def read_prompt_ids(server: ThirdPartyServer, messages: Sequence[ChatMessage]) -> list[int]:
    """Return the token ids that the server's own template and tokenizer make of a conversation."""
    with httpx.Client(timeout=ANSWER_TIMEOUT_S, trust_env=False) as client:
        rendered = _post(client, f"{server.root_url}/apply-template", {"messages": _encode(messages)})
        wanted = {"content": rendered["prompt"], "parse_special": True, "add_special": False}
        ids: list[int] = _post(client, f"{server.root_url}/tokenize", wanted)["tokens"]
        return ids


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the input ends or Ctrl-C; the first line of output is the address."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.third_party", description="Serve by llama.cpp.")
    parser.add_argument("--gguf", type=Path, help="weights (default: an F16 copy of the bundled model's)")
    parser.add_argument("--slots", type=int, default=1, help="requests at a time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--filtered", action="store_true", help="keep llama.cpp's default sampling filters")
    parser.add_argument("--until-input-ends", action="store_true", help="end with standard input, for tests")
    options = parser.parse_args(arguments)
    _check_installed()
    _serve(options, options.gguf or prepare_gguf())


def _serve(options: argparse.Namespace, gguf: Path) -> None:
    import xllamacpp

    server = xllamacpp.Server(_build_parameters(xllamacpp.CommonParams(), options, gguf))
    print(json.dumps({"root_url": server.listening_address}), flush=True)
    try:
        if options.until_input_ends:
            sys.stdin.read()
        else:
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    # llama.cpp's threads outlive the interpreter's teardown and have hung it.
    os._exit(0)


def _build_parameters(parameters: Any, options: argparse.Namespace, gguf: Path) -> Any:
    parameters.model.path, parameters.model_alias = str(gguf), {MODEL_NAME}
    parameters.hostnames, parameters.port, parameters.ui = ["127.0.0.1"], options.port, False
    parameters.n_parallel, parameters.n_ctx = options.slots, CONTEXT_TOKENS * options.slots
    parameters.n_threads_http = options.slots + 2
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = options.threads
    # Reused prefixes would make an answer depend on which requests came before it.
    parameters.cache_prompt, parameters.cache_ram_mib, parameters.verbosity = False, 0, 0
    sampling = parameters.sampling
    if not options.filtered:
        sampling.temp, sampling.top_k, sampling.top_p, sampling.min_p = 1.0, 0, 1.0, 0.0
    return parameters


def _ask(
    client: httpx.Client, server: ThirdPartyServer, messages: Sequence[ChatMessage], seed: int, more: Mapping[str, Any]
) -> ThirdPartyAnswer:
    request = {
        **PLAIN_SAMPLING,
        "temperature": 1.0,
        "logprobs": True,
        **more,
        "messages": _encode(messages),
        "seed": seed % 2**SEED_BITS,
    }
    document = _post(client, f"{server.base_url}/chat/completions", request)
    choice, usage = document["choices"][0], document["usage"]
    rows = (choice.get("logprobs") or {}).get("content") or []
    return ThirdPartyAnswer(
        token_ids=tuple(row["id"] for row in rows),
        logprobs=tuple(row["logprob"] for row in rows),
        top=tuple(tuple((entry["id"], entry["logprob"]) for entry in row.get("top_logprobs", [])) for row in rows),
        text=choice["message"]["content"] or "",
        finish_reason=choice["finish_reason"],
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
    )


def _post(client: httpx.Client, url: str, document: Mapping[str, Any]) -> Any:
    try:
        response = client.post(url, json=document)
        response.raise_for_status()
        return response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(f"the third-party server failed at {url}: {error}") from None


def _encode(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _check_installed() -> None:
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        raise MissingExtra("xllamacpp is not installed: pip install -c constraints.txt -e '.[bench]'") from None


def _read_address(process: "subprocess.Popen[str]") -> str:
    """Return the address that the child prints; kills a child that says nothing for START_TIMEOUT_S."""
    assert process.stdout is not None
    line = _read_line(process.stdout, process.kill)
    try:
        return str(json.loads(line)["root_url"])
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"the third-party server did not start (it said {line.strip()[:200]!r})") from None


def _read_line(stream: IO[str], give_up: Callable[[], None]) -> str:
    timer = threading.Timer(START_TIMEOUT_S, give_up)
    timer.start()
    try:
        return stream.readline()
    finally:
        timer.cancel()


def _end(process: "subprocess.Popen[str]") -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    main()

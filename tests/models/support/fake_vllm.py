"""A stand-in for a vLLM server over real HTTP: `prompt_logprobs` and greedy answers of a model in this process.

`test_reference_server.py` holds it to what a real one answered (`vllm_answers.json`).
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from models.generate import generate
from models.load import LoadedModel
from models.requests import GenerationRequest

MOST = 20


class FakeVllm:
    """What the server answers, as JSON documents with their HTTP status."""

    def __init__(self, loaded: LoadedModel, name: str = "fake") -> None:
        self.loaded, self.name = loaded, name
        self.asked: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def list_models(self) -> tuple[int, Any]:
        """Answer /v1/models."""
        entry = {"id": self.name, "object": "model", "created": 1, "owned_by": "vllm"}
        return 200, {"object": "list", "data": [{**entry, "max_model_len": self.loaded.manifest.context_length}]}

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Answer /v1/completions for one prompt of token ids."""
        with self._lock:
            self.asked.append(body)
            if body.get("prompt_logprobs", 0) > MOST:
                message = f"Requested prompt logprobs of {body['prompt_logprobs']}, greater than max allowed: {MOST}"
                return 400, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}
            return 200, self._complete(body)

    def _complete(self, body: dict[str, Any]) -> Any:
        request = GenerationRequest(
            prompt_ids=tuple(body["prompt"]), max_tokens=body["max_tokens"], temperature=0.0, logprobs=0
        )
        (answer,) = generate(self.loaded, [request])
        told = [entry.logprob for entry in answer.logprobs or ()]
        rows = None if "prompt_logprobs" not in body else self._tell(body["prompt"], body["prompt_logprobs"])
        choice = {
            "index": 0,
            "text": answer.text,
            "logprobs": {"token_logprobs": told} if "logprobs" in body else None,
            "finish_reason": answer.finish_reason,
            "token_ids": list(answer.token_ids),
            "prompt_logprobs": rows,
        }
        return {"id": "cmpl-1", "object": "text_completion", "model": self.name, "choices": [choice]}

    @torch.inference_mode()
    def _tell(self, ids: list[int], count: int) -> list[Any]:
        logits = self.loaded.model(input_ids=torch.tensor([ids])).logits[0].float()
        logprobs = logits.log_softmax(dim=-1)
        rows: list[Any] = [None]
        for place, token in enumerate(ids[1:]):
            row = logprobs[place]
            named = dict.fromkeys([token, *row.topk(count).indices.tolist()])
            # vLLM counts the tokens that are as likely, itself among them.
            ranks = {one: int((row >= row[one]).sum()) for one in named}
            rows.append({str(one): {"logprob": float(row[one]), "rank": ranks[one]} for one in named})
        return rows


@contextmanager
def serve_vllm(fake: FakeVllm) -> Iterator[str]:
    """Serve it on a free port of this machine; yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*(fake.list_models() if self.path == "/v1/models" else (404, {})))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(*(fake.complete(body) if self.path == "/v1/completions" else (404, {})))

        def _answer(self, status: int, document: Any) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

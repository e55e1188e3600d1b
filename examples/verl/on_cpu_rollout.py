"""A rollout engine for verl that draws responses with transformers: one Ray actor a replica."""

import asyncio
import os
from collections.abc import Iterable
from typing import Any

import ray
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput

_WAIT = 0.05  # seconds in which requests come together to a batch
_BATCH = 64
_GREEDY = 1e-5  # a temperature below it takes the likeliest token

Request = tuple[list[int], dict[str, Any]]
"""Tokens of a prompt, and verl's sampling parameters."""


class TransformersServer:
    """Draws responses, with the weights that verl sends after each step."""

    def __init__(self, config: Any, model_path: str, eos: int, pad: int, replica: int) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(config.seed + replica)
        self._config, self._eos, self._pad = config, eos, pad
        self._model = AutoModelForCausalLM.from_pretrained(
            model_path, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        self._waiting: list[tuple[Request, asyncio.Future[TokenOutput]]] = []
        self._work: asyncio.Task[None] | None = None
        self._steps = 0

    async def ready(self) -> bool:
        """True once the model is loaded."""
        return True

    async def generate(
        self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str, **_: Any
    ) -> TokenOutput:
        """One response, drawn in a batch with whatever else is asked for within a moment."""
        future: asyncio.Future[TokenOutput] = asyncio.get_running_loop().create_future()
        self._waiting.append(((list(prompt_ids), dict(sampling_params)), future))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._draw_all())
        return await future

    async def _draw_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(_WAIT)
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            try:
                outputs = await asyncio.to_thread(self._draw, [request for request, _ in batch])
            except Exception as error:  # noqa: BLE001  # whoever asked is told
                for _, future in batch:
                    future.set_exception(error)
                continue
            for (_, future), output in zip(batch, outputs, strict=True):
                future.set_result(output)

    @torch.no_grad()
    def _draw(self, requests: list[Request]) -> list[TokenOutput]:
        width = max(len(prompt) for prompt, _ in requests)
        ids = torch.tensor([[self._pad] * (width - len(prompt)) + prompt for prompt, _ in requests])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt, _ in requests])
        heat = torch.tensor([[float(settings.get("temperature", 1.0))] for _, settings in requests])
        tokens: list[list[int]] = [[] for _ in requests]
        logprobs: list[list[float]] = [[] for _ in requests]
        is_done = torch.zeros(len(requests), dtype=torch.bool)
        places, cache = (mask.cumsum(1) - 1).clamp(min=0), None
        for _ in range(self._config.response_length):
            output = self._model(
                input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True
            )
            cache, logits = output.past_key_values, output.logits[:, -1].float()
            logp = torch.log_softmax(logits / heat.clamp(min=_GREEDY), -1)
            drawn = torch.multinomial(logp.exp(), 1)[:, 0]
            drawn = torch.where(heat[:, 0] < _GREEDY, logits.argmax(-1), drawn)
            for row in (~is_done).nonzero()[:, 0].tolist():
                tokens[row].append(int(drawn[row]))
                logprobs[row].append(float(logp[row, drawn[row]]))
            is_done |= drawn == self._eos
            if bool(is_done.all()):
                break
            ids, mask = drawn[:, None], torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            places = places[:, -1:] + 1
        return [
            TokenOutput(
                token_ids=tokens[row],
                log_probs=logprobs[row] if settings.get("logprobs") else None,
                stop_reason="completed",
                extra_fields={"global_steps": self._steps},
            )
            for row, (_, settings) in enumerate(requests)
        ]

    async def load(self, state: dict[str, Tensor], global_steps: int | None) -> None:
        """Take new weights."""
        _, unexpected = self._model.load_state_dict(state, strict=False)
        if unexpected:
            raise RuntimeError(f"unexpected weights: {unexpected}")
        self._model.tie_weights()
        self._steps = self._steps if global_steps is None else global_steps

    async def nothing(self, *_args: Any, **_kwargs: Any) -> None:
        """What a GPU's engine does with its memory."""

    wake_up = sleep = abort_all_requests = resume_generation = nothing
    clear_kv_cache = release_kv_cache = resume_kv_cache = start_profile = stop_profile = nothing


class TransformersReplica(RolloutReplica):
    """Starts the server."""

    async def launch_servers(self) -> None:
        """As verl's replicas do."""
        path = self.model_config.path
        tokenizer = AutoTokenizer.from_pretrained(path)
        name = f"transformers_server_{self.replica_rank}"
        server = (
            ray.remote(TransformersServer)
            .options(name=name, num_cpus=0, max_concurrency=1000)
            .remote(self.config, path, tokenizer.eos_token_id, tokenizer.pad_token_id, self.replica_rank)
        )
        await server.ready.remote()
        self.servers, self._server_handle, self._server_address = [server], server, name


class ServerAdapter(BaseRollout):
    """Hands the trainer's weights to the server."""

    async def resume(self, tags: list[str]) -> None:
        """Nothing was released."""

    async def release(self) -> None:
        """There is no memory to release."""

    async def update_weights(
        self, weights: Iterable[tuple[str, Tensor]], global_steps: int | None = None, **_: Any
    ) -> None:
        """All ranks gather the weights; the first of each replica sends them."""
        state = {name: tensor.detach().float().cpu().clone() for name, tensor in weights}
        config = self.config
        size = (
            config.tensor_model_parallel_size
            * config.data_parallel_size
            * config.pipeline_model_parallel_size
        )
        replica, rank = divmod(int(os.environ["RANK"]), size)
        if rank == 0:
            await ray.get_actor(f"transformers_server_{replica}").load.remote(state, global_steps)

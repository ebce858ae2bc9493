"""Pictures by any text-to-image pipeline of diffusers: Stable Diffusion, FLUX, Sana, PixArt, Stable Cascade and others.

`diffusers:<folder, hub id or short name>`. Creating one imports neither torch nor diffusers; weights are loaded with
the first picture. One thread draws requests from several threads in one batch.
"""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, ClassVar, Self

from PIL import Image

from mgem_agent.deferred_imports import deferred_imports
from mgem_agent.device_memory.arbiter import shared_arbiter
from mgem_agent.device_memory.model_size import ModelSize
from mgem_agent.device_memory.module_memory import ModuleMemory
from mgem_agent.errors import GenerationCancelledError, InputError, MgemError, UnsupportedRequestError
from mgem_agent.extras import require_packages
from mgem_agent.tools.capabilities import Capabilities, Notice, negotiate, recordable, with_start_size
from mgem_agent.tools.diffusers.call import DiffusersCall
from mgem_agent.tools.diffusers.families import PRESETS, describe_class
from mgem_agent.tools.diffusers.loading import choose_device, load_pipeline, offload_parts, read_index
from mgem_agent.tools.diffusers.options import DiffusersOptions
from mgem_agent.tools.diffusers.pipeline_size import find_modules, largest_batch, own_size_px, pipeline_size
from mgem_agent.tools.diffusers.plan import Defaults, DrawingPlan, make_plan
from mgem_agent.tools.diffusers.previews import OnStep
from mgem_agent.tools.diffusers.speed import apply_speed, describe_speed, with_advice
from mgem_agent.tools.diffusers.worker import BatchWorker, Job, Outcome, Unready
from mgem_agent.tools.image_request import ImageRequest
from mgem_agent.tools.image_result import GenerationProgress, ImageResult

__all__ = ["DiffusersGenerator"]

_POLL_S = 0.1
"""Seconds between checks whether a waiting job was cancelled."""


class DiffusersGenerator:
    """Draws with a diffusers pipeline.

    Args:
        model: Folder, hub id, or short name such as `sdxl-turbo`.
        options: Options for loading and running it.

    Examples:
        >>> DiffusersGenerator("sdxl-turbo").name
        'diffusers:sdxl-turbo'
    """

    REQUIRES: ClassVar = ("torch", "diffusers", "transformers", "accelerate")
    """Modules that drawing needs."""

    def __init__(self, model: str, options: DiffusersOptions | None = None) -> None:
        by_model = {preset.model: preset for preset in PRESETS.values()}
        self._preset = PRESETS.get(model) or by_model.get(model)
        self._name = f"diffusers:{model}"
        self._model = self._preset.model if self._preset else model
        self._options = options or DiffusersOptions()
        self._defaults = Defaults()
        if self._preset is not None:
            self._defaults = Defaults(
                self._preset.num_inference_steps, self._preset.guidance_scale, options=self._preset.options
            )
        self._lock = threading.Lock()
        self._capabilities: Capabilities | None = None
        self._call: DiffusersCall | None = None
        arbiter = shared_arbiter()
        self._memory = ModuleMemory(
            lambda: self.name,
            arbiter,
            device=lambda: self.device,
            modules=self._modules,
            unload=self._free,
            size=self.memory_size,
        )
        self._worker = BatchWorker(
            ready=self._load,
            plan=self._plan,
            draw=self._draw,
            max_batch_size=self._options.batch_limit,
            batch_limit=self._limit_batch,
            gather_s=self._options.gather_s,
            hold=lambda is_cancelled: arbiter.use(self._memory, is_cancelled),
            make_room=lambda: arbiter.make_room(self._memory),
        )

    @classmethod
    def from_name(cls, rest: str, **options: object) -> Self:
        """Any text-to-image pipeline of diffusers, run here: `diffusers:FOLDER`, hub id or short name (`sdxl`, ...).

        Args:
            rest: Folder, hub id or short name.
            options: Those of :class:`DiffusersOptions`.

        Raises:
            InputError: If the name is missing, or an option is unknown or has an invalid value.
        """
        if not rest.strip():
            raise InputError(
                "'diffusers:' names no model. Give a folder, a hub id or a short name: "
                + ", ".join(f"diffusers:{name}" for name in sorted(PRESETS))
                + "."
            )
        return cls(rest.strip(), DiffusersOptions.parse(options, generator=f"diffusers:{rest.strip()}"))

    @property
    def name(self) -> str:
        """Name in the registry."""
        return self._name

    @property
    def model(self) -> str:
        """Folder or hub id of the model."""
        return self._model

    @property
    def loaded(self) -> bool:
        """Whether its weights are in memory."""
        return self._call is not None

    @property
    def device(self) -> str:
        """The device that runs it."""
        return choose_device(self._options)

    def memory_size(self) -> ModelSize | None:
        """Return what it needs on its device, read from its files; None if they are not on this machine."""
        return pipeline_size(self._model, self._options)

    def describe_speed(self) -> dict[str, str]:
        """Return the options that make it quicker or smaller, and the defaults of its family, without loading weights.

        Raises:
            GeneratorUnavailableError: As for `capabilities`.
        """
        _ = self.capabilities  # whether there is such a model
        with deferred_imports():
            name = self._preset.class_name if self._preset else read_index(self._model, self._options)["_class_name"]
            described = describe_speed(describe_class(name), self._defaults.num_inference_steps).describe()
        usual = {"steps": self._defaults.num_inference_steps, "guidance": self._defaults.guidance_scale}
        chosen = ", ".join(f"{name} {value:g}" for name, value in usual.items() if value is not None)
        return {"defaults": chosen or "those of the pipeline", **described}

    @property
    def capabilities(self) -> Capabilities:
        """The tasks and arguments that it supports; known without loading weights.

        Raises:
            GeneratorUnavailableError: If there is no such model, or it cannot draw pictures.
            MissingDependencyError: If the extra `local` is not installed.
        """
        with self._lock:
            if self._capabilities is None:
                require_packages(f"The generator {self._name!r}", *self.REQUIRES)
                if self._preset is not None:
                    class_name, guided = self._preset.class_name, self._preset.guided
                else:
                    index = read_index(self._model, self._options)
                    class_name = index["_class_name"]
                    guided = bool(index.get("guidance_embeds", True)) and not index.get("is_distilled")
                able = describe_class(class_name).capabilities(
                    guided=guided,
                    ip_adapter=self._options.ip_adapter is not None,
                    max_batch_size=self._options.batch_limit,
                )
                # What the model's own defaults set is in every result, so it can be asked for too.
                self._capabilities = able.model_copy(update={"options": able.options.union(self._defaults.options)})
            return self._capabilities

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        pictures: Mapping[str, Image.Image] | None = None,
        cancel: threading.Event | None = None,
        num_previews: int = 0,
    ) -> Iterator[GenerationProgress | ImageResult]:
        """Draw a batch, and yield progress and results as they come.

        Args:
            requests: The requests.
            pictures: The pictures that the requests name, by id.
            cancel: Set from another thread to stop at the end of the current step.
            num_previews: Number of previews of each unfinished picture.

        Yields:
            Progress, and one result for each request.

        Raises:
            ToolError: If the pipeline cannot be loaded, before anything is yielded.
        """
        capabilities = self.capabilities
        events: queue.SimpleQueue[GenerationProgress | Outcome | Unready] = queue.SimpleQueue()
        waiting: dict[int, Job] = {}
        fitting: dict[int, tuple[Notice, ...]] = {}
        refused: list[tuple[Job, MgemError]] = []
        for index, request in enumerate(requests):
            job = Job(index, request, pictures=pictures or {}, cancel=cancel, events=events, num_previews=num_previews)
            try:
                job.request, fitting[index] = negotiate(request, capabilities, generator=self._name)
                if (start := (pictures or {}).get(request.image or "")) is not None:
                    job.request, scaled = with_start_size(job.request, capabilities, start.size)
                    fitting[index] += scaled
                waiting[index] = job
            except UnsupportedRequestError as error:
                refused.append((job, error))
        self._worker.submit(list(waiting.values()))
        started = False
        try:
            while waiting:
                event = self._next_event(events, waiting)
                if isinstance(event, Unready):
                    if not started:
                        raise event.error
                    event = Outcome(event.job, event.error)
                started = True
                if isinstance(event, Outcome):
                    del waiting[event.job.index]
                    yield self._make_result(requests[event.job.index], event, fitting[event.job.index])
                else:
                    yield event
        finally:
            # Whoever stops listening has no more use for the rest.
            for job in waiting.values():
                job.leave()
        for job, refusal in refused:
            yield self._make_result(job.request, Outcome(job, refusal), ())

    def unload(self) -> None:
        """Free the memory of the weights after the current batch; the next call loads them again."""
        self._worker.run(self._free)

    def _load(self) -> DiffusersCall:
        """Load the weights if they are not; on the worker's thread alone."""
        if self._call is None:
            with deferred_imports():
                class_name = read_index(self._model, self._options)["_class_name"]
                traits = describe_class(class_name)
                pipeline = load_pipeline(self._model, class_name, self._options)
                speed = describe_speed(traits, self._defaults.num_inference_steps)
                apply_speed(pipeline, with_advice(self._options, speed, self.device))
                self._call = DiffusersCall(pipeline, traits, offload=lambda made: offload_parts(made, self._options))
        return self._call

    def _limit_batch(self, plan: DrawingPlan) -> int | None:
        """Return how many pictures like a plan fit into memory, if the option says to estimate it."""
        if self._options.max_batch_size != "auto":
            return None
        available, size = shared_arbiter().available_bytes(self.device), self._memory.size()
        if available is None or size is None:
            return None
        own = own_size_px(self._model, self._options)
        width, height = plan.request.width or own, plan.request.height or own
        return largest_batch(size, available, width * height / own**2)

    def _modules(self) -> list[Any]:
        """Return the modules that the arbiter may move; accelerate moves those of an offloaded pipeline."""
        call = self._call
        if call is None or self._options.offload != "none":
            return []
        return list(find_modules(call.pipeline).values())

    def _free(self) -> None:
        if self._call is None:
            return
        self._call = None
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _plan(self, job: Job) -> DrawingPlan:
        with deferred_imports():
            call = self._load()
            return make_plan(
                job.request,
                call.pipeline,
                call.traits,
                defaults=self._defaults,
                options=self._options,
                pictures=job.pictures,
            )

    def _draw(self, plans: Sequence[DrawingPlan], on_step: OnStep) -> list[Image.Image | MgemError]:
        with deferred_imports():
            return self._load().draw(plans, on_step)

    @staticmethod
    def _next_event(
        events: queue.SimpleQueue[GenerationProgress | Outcome | Unready], waiting: Mapping[int, Job]
    ) -> GenerationProgress | Outcome | Unready:
        """Wait for the next event; a job that is cancelled before its turn ends at once."""
        while True:
            try:
                return events.get(timeout=_POLL_S)
            except queue.Empty:
                given_up = next((job for job in waiting.values() if job.cancelled and job.take()), None)
                if given_up is not None:
                    error = GenerationCancelledError("The request was cancelled before drawing began.", retryable=True)
                    return Outcome(given_up, error)

    def _make_result(self, request: ImageRequest, outcome: Outcome, notices: tuple[Notice, ...]) -> ImageResult:
        plan, picture = outcome.job.plan, outcome.picture
        executed = outcome.job.request if plan is None else plan.request
        found = [*notices, *(() if plan is None else plan.notices)]
        image: Image.Image | None = None
        if not isinstance(picture, MgemError):
            image = picture
            for name, asked, got in zip(
                ("width", "height"), (executed.width, executed.height), picture.size, strict=True
            ):
                if asked is not None and asked != got:
                    found.append(Notice(argument=name, message=f"{asked} was requested; {got} was drawn."))
            executed = executed.model_copy(update={"width": picture.width, "height": picture.height})
            if picture.getbbox() is None:
                message = "the picture is all black, which some models produce in float16; set the option dtype."
                found.append(Notice(argument="prompt", message=message))
        return ImageResult(
            index=outcome.job.index,
            request=request,
            executed=recordable(executed, self.capabilities),
            generator=self._name,
            model=self._model,
            image=image,
            error=picture if isinstance(picture, MgemError) else None,
            notices=tuple(found),
            seconds=outcome.seconds,
            versions={package: metadata.version(package) for package in ("diffusers", "torch", "transformers")},
        )

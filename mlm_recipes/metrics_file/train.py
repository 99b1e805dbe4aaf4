"""`train`: what a run started from, and what its loop did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # in `typing` from Python 3.11 on

ModelSource = Literal["built in", "folder", "hub"]

#: A config value before and after a resume; also a list.
OldAndNew = tuple[object, object]


class Resumed(TypedDict):
    """A resume: the step that the run was resumed from, and the old and new values that were changed."""

    step: int
    changed: dict[str, OldAndNew]


class LoggedStep(TypedDict):
    """An entry of `train.history`."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: NotRequired[float]
    mlm_probability: NotRequired[float]  # the share of the tokens that this step masked, if that changes


class Evaluation(TypedDict):
    """An entry of `train.evaluations`."""

    step: int
    loss: float
    accuracy: float
    perplexity: float
    probe_accuracy: NotRequired[float]


class BestModel(TypedDict):
    """`train.best_model`: the best evaluation by `metric_for_best_model`, and whether its model was loaded."""

    metric: str
    value: float
    step: int
    loaded: bool


class StoppedEarly(TypedDict):
    """`train.stopped_early`: after which of how many steps, and for how many evaluations nothing had improved."""

    step: int
    of: int
    metric: str
    best: float
    best_step: int
    evaluations_since: int


class StoppedByCallback(TypedDict):
    """`train.stopped_by_callback`: after which of how many steps a callback of the caller's ended the run."""

    step: int
    of: int


class Tokens(TypedDict):
    """The tokens that training computed."""

    real: int
    padding: int


class MixedIn(TypedDict):
    """An entry of `train.mixed`: what a run read of a text that was mixed in.

    `share`: of the tokens of all rows. `times_read`: how often each of its rows was, on average.
    """

    name: str
    rows: int
    tokens: int
    share: float
    times_read: float


class Balance(TypedDict):
    """`train.balance`: how evenly the tokens of each step were divided among several processes.

    `by_length`: whether the rows were dealt by their lengths. `max_to_mean`: the tokens of the busiest process in each
    step, added up, divided by the sum of the means; `in_order`: the same if the rows had been dealt in their order.
    """

    by_length: bool
    max_to_mean: float
    in_order: float


class MachineLimit(TypedDict):
    """The rate of operations that training needed at least, and the rate that this machine reaches."""

    flops_per_second: float
    matrix_flops_per_second: float
    dtype: str


class OutOfMemory(TypedDict):
    """The parts in which micro-batches were computed after memory ran out."""

    parts: int


class Compilation(TypedDict):
    """What `torch_compile` did: the regions that were compiled (0 if a trial failed), and how long that took."""

    regions: int
    seconds: float


class RecordedGraphs(TypedDict):
    """What `cuda_graphs` recorded: how many shapes of batches, how long that took, and the memory they kept."""

    shapes: int
    seconds: float
    bytes: int


class Frozen(TypedDict):
    """What `freeze` froze: the part, how many parameters are trained, and whether the head's matrix is frozen too."""

    part: str
    parameters: int
    trained_parameters: int
    head_matrix: bool


class PeakMemory(TypedDict):
    """The peak memory of the main process."""

    bytes: int
    of: Literal["process", "gpu"]


class LoraFacts(TypedDict):
    """The adapter that was trained: its rank, its alpha, and how many linear layers it updates.

    `head`: the parts of the head that were trained whole. `merged`: whether the whole model was saved.
    """

    r: int
    alpha: float
    layers: int
    head: list[str]
    merged: bool


class Start(TypedDict):
    """What training started from."""

    command: str | None
    model: str
    random_weights: bool
    head_initialised: list[str]
    parameters: int
    trained_parameters: NotRequired[int]
    lora: NotRequired[LoraFacts]
    tokenizer: NotRequired[str | None]  # its name if it came from elsewhere; None: the model's own, or trained
    model_source: NotRequired[ModelSource]
    model_licence: NotRequired[str | None]


class Loop(TypedDict):
    """What the training loop reports."""

    recipe: Literal["train", "reference"]
    skipped_steps: NotRequired[list[int]]
    seconds: float
    steps: int
    epochs: float
    processes: int
    resumed: NotRequired[list[Resumed]]
    history: list[LoggedStep]
    evaluations: list[Evaluation]
    best_model: NotRequired[BestModel]
    stopped_early: NotRequired[StoppedEarly]
    stopped_by_callback: NotRequired[StoppedByCallback]
    tokens: Tokens | None
    steps_per_second: float | None
    tokens_per_second: float | None
    machine_limit: NotRequired[MachineLimit | None]
    out_of_memory: NotRequired[OutOfMemory]
    compilation: NotRequired[Compilation]
    cuda_graphs: NotRequired[RecordedGraphs]
    frozen: NotRequired[Frozen]
    head_warmup_steps: NotRequired[int]
    train_new_tokens_first: NotRequired[int]
    mixed: NotRequired[list[MixedIn]]
    balance: NotRequired[Balance]


class Measuring(TypedDict):
    """The duration of measuring, and the peak memory."""

    evaluation_seconds: float
    prompts_compared: int
    peak_memory: PeakMemory | None


class Train(Start, Loop, Measuring):
    """`train`."""

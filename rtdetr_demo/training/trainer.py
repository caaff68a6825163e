"""`python -m rtdetr_demo train`: a small RT-DETR on a COCO-style data set, from ImageNet weights.

Two parts, one loop. In the first the encoder alone learns as a dense detector (see `losses`),
which is cheap and learns from few images. In the second its heads become the model's proposal
heads and the start of every decoder layer, and the whole model trains on transformers' own loss:
one-to-one matching at every layer, denoising queries, varifocal scores.

The budget is `--epochs` or `--minutes`; how much of it is used is kept in the checkpoint, so that
an interrupted run continues with `--resume`, on another kind of machine too.
"""

import argparse
import csv
import json
import math
import shutil
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from transformers import RTDetrForObjectDetection

from .architecture import build_model, export, imagenet_backbone, load_weights
from .dataset import Augmentation, load_samples, make_batch, to_device
from .losses import Batch, DenseHead, FullStep, dense_step, start_decoder


def parameter_groups(
    model: RTDetrForObjectDetection, dense: DenseHead, everything: bool
) -> list[dict[str, Any]]:
    """The optimizer's groups, `share` being their part of the rate: less for the backbone.

    Unless `everything`, its first stages and its depthwise filters stay as ImageNet left them: on
    a CPU their gradients take half of the backward pass, and they are 4 % of its weights.
    """
    backbone = model.model.backbone.model
    for name, parameter in backbone.named_parameters():
        early = name.startswith(("stem", "stages.stage1", "stages.stage2.0"))
        parameter.requires_grad_(everything or not (early or "depthwise" in name))
    for norm in (model.model.enc_output[1], dense.output[1]):
        # The score head can scale for itself; without a scale of its own this norm's output is
        # what the decoder's norms leave unchanged, so the decoder can start as the identity.
        norm.requires_grad_(False)
    rest = [p for name, p in model.named_parameters() if "backbone" not in name]
    return [
        {"params": list(backbone.parameters()), "share": 0.2},
        {"params": [*rest, *dense.parameters()], "share": 1.0},
    ]


Tensors = tuple[Tensor, ...] | list[Tensor]


def average_of(module: nn.Module, decay: float) -> AveragedModel:
    """A moving average of a module's weights and norm statistics; its first steps are larger."""

    @torch.no_grad()
    def update(averages: Tensors, values: Tensors, count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, share)

    return AveragedModel(module, multi_avg_fn=update, use_buffers=True).eval()


def schedule(progress: float, warm: float) -> float:
    """Factor on the learning rate: `warm` from 0 to 1, then flat, then a cosine from 70 % on."""
    decay = min(1.0, max(0.0, (progress - 0.7) / 0.3))
    return min(1.0, warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * decay)))


class Run:
    """A training in progress. Its folder holds:

    `checkpoint.pt` (all that `--resume` needs), `log.csv`, `val.csv` and `curves.png`, `latest`
    and `best` (folders for `from_pretrained`, of the averaged weights).
    """

    KEPT = ("step", "seconds", "part", "part_start", "progress", "best")

    def __init__(self, args: argparse.Namespace, rank: int = 0):
        self.args, self.rank = args, rank
        self.device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.samples, self.names = load_samples(args.data)
        torch.manual_seed(args.seed + rank)
        self.checkpoint = args.out / "checkpoint.pt"
        resumed = args.resume and self.checkpoint.exists()
        fresh = not resumed and args.start is None
        self.model = build_model(self.names, imagenet_backbone() if fresh else None)
        if args.start:
            load_weights(self.model, args.start)
        self.dense = DenseHead(self.model.model)
        self.both = nn.ModuleList([self.model, self.dense])
        self.both.to(self.device)
        groups = parameter_groups(self.model, self.dense, self.device.type == "cuda")
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-arg]
        self.optimizer = torch.optim.AdamW(groups, args.rates[0], weight_decay=0.01, fused=True)
        self.average = average_of(self.both, args.average)
        self.step, self.part_start, self.part = 0, 0, "full" if args.start else "dense"
        self.seconds = self.progress = self.best = 0.0
        if resumed:
            self.load()
        self.broadcast_weights()

    def broadcast_weights(self) -> None:
        """Overwrite the weights of all workers with those of the first; each must call it."""
        if self.args.workers > 1:
            for value in self.both.state_dict().values():
                dist.broadcast(value, 0)

    def load(self) -> None:
        """Set model, average, optimizer and counters to those of `checkpoint.pt`."""
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.both.load_state_dict(state["weights"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in self.KEPT:
            setattr(self, name, state[name])
        if self.rank == 0:
            torch.set_rng_state(state["rng"].cpu())

    def save(self) -> None:
        """In the first worker: write `checkpoint.pt`, never half, and draw the curves.

        In the second part also write the averaged model, and score it where there is `--val`.
        """
        if self.rank:
            return
        state = {name: getattr(self, name) for name in self.KEPT} | {
            "weights": self.both.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)
        if self.part == "full":
            [model, _] = self.average.module.children()
            assert isinstance(model, RTDetrForObjectDetection)
            export(model, self.args.out / "latest", self.args.size)
            if self.args.val:
                self.validate()
        self.draw()

    def validate(self) -> None:
        """Add each depth to `val.csv`; copy `latest` to `best` where its AP is the highest yet."""
        from ..detector.detector import Detector
        from ..evaluation.coco import evaluate

        latest = self.args.out / "latest"
        instances = json.loads((self.args.val / "instances.json").read_text(encoding="utf-8"))
        detector = Detector.load(str(latest), latest, self.device)
        report = evaluate(detector, instances, self.args.val / "images", timed=False)
        for depth in report.depths:
            self.write("val.csv", {"step": self.step, "progress": self.progress, **vars(depth)})
        if (reached := report.depths[-1].AP or 0.0) >= self.best:
            self.best = reached
            shutil.copytree(latest, self.args.out / "best", dirs_exist_ok=True)

    def batches(self) -> Iterator[Batch]:
        """This worker's share of each batch, on the device, from the current step on, endless."""
        args, threads = self.args, 1 if self.device.type == "cpu" else 12
        changed = Augmentation(args.mosaic, args.mixup, args.distort)
        pending: deque = deque()
        upcoming = self.step
        with ThreadPoolExecutor(threads) as pool:
            while True:
                while len(pending) < 2 * threads:
                    sizes = args.sizes if self.part == "dense" else args.full_sizes
                    # Every worker draws the same size, so that none waits for another.
                    size = np.random.default_rng((args.seed, upcoming)).choice(sizes)
                    number = upcoming * args.workers + self.rank
                    share = args.batch // args.workers
                    augmentation = changed if self.progress < 0.85 else Augmentation()
                    options = (self.samples, number, share, int(size), augmentation, args.seed)
                    pending.append(pool.submit(make_batch, *options))
                    upcoming += 1
                yield to_device(pending.popleft().result(), self.device)

    def begin_full_part(self) -> None:
        """Enter the second part: averaged weights, the decoder started from them, a new average."""
        self.both.load_state_dict(self.average.module.state_dict())
        start_decoder(self.model, self.dense)
        self.broadcast_weights()
        self.average = average_of(self.both, self.args.average)
        self.part, self.part_start = "full", self.step

    def train(self) -> None:
        """Train until the budget is used, saving on the way."""
        args = self.args
        args.out.mkdir(parents=True, exist_ok=True)
        full = FullStep(self.model, self.dense, args.dense_weight, args.duplicate_weight)
        self.both.train()
        saved = since = tick = time.monotonic()
        sums, summed = np.zeros(3), 0
        for batch in self.batches():
            if self.part == "dense" and self.progress >= args.dense_part:
                self.begin_full_part()
            warm = (self.step - self.part_start + 1) / args.warmup
            rate = args.rates[self.part == "full"] * schedule(self.progress, warm)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["share"]
            with torch.autocast(self.device.type, torch.bfloat16):
                if self.part == "dense":
                    main, side = torch.zeros(()), dense_step(self.model, self.dense, batch)
                else:
                    main, side = full(batch)
            self.optimizer.zero_grad(set_to_none=True)
            (main + side).backward()
            now = time.monotonic()
            self.seconds, tick = self.seconds + now - tick, now
            self.average_gradients()
            norm = nn.utils.clip_grad_norm_(self.both.parameters(), 10.0)
            if torch.isfinite(norm):
                self.optimizer.step()
                if self.rank == 0:
                    self.average.update_parameters(self.both)
            self.step += 1
            sums += [main.item(), side.item(), norm.item()]
            summed += 1
            if args.minutes is not None:
                self.progress = self.seconds / 60 / args.minutes
            else:
                self.progress = self.step * args.batch / len(self.samples) / args.epochs
            done = self.progress >= 1
            if self.rank == 0 and (self.step % args.log_every == 0 or done):
                self.log(rate, sums / summed, summed * args.batch / (time.monotonic() - since))
                since, sums, summed = time.monotonic(), np.zeros(3), 0
            if done or time.monotonic() - saved > args.save_every * 60:
                self.save()
                saved = time.monotonic()
            if done:
                return

    def average_gradients(self) -> None:
        """Replace gradients and seconds by their means over the workers; each must call it."""
        if self.args.workers == 1:
            return
        parameters = [p for p in self.both.parameters() if p.requires_grad]
        for parameter in parameters:
            # The set must be the same everywhere, and the first part leaves the decoder out.
            if parameter.grad is None and self.part == "full":
                parameter.grad = torch.zeros_like(parameter)
        present = [p.grad for p in parameters if p.grad is not None]
        clock = torch.tensor([self.seconds], device=self.device)
        flat = torch.cat([clock, *(gradient.flatten() for gradient in present)])
        dist.all_reduce(flat)
        clock, *shares = (flat / self.args.workers).split([1, *(g.numel() for g in present)])
        self.seconds = clock.item()
        for gradient, share in zip(present, shares, strict=True):
            gradient.copy_(share.view_as(gradient))

    def log(self, rate: float, losses: np.ndarray, speed: float) -> None:
        """Add a row to `log.csv` and print it."""
        row = {
            "step": self.step,
            "epoch": round(self.step * self.args.batch / len(self.samples), 3),
            "progress": round(self.progress, 4),
            "part": self.part,
            "rate": rate,
            "loss": losses[0],
            "dense_loss": losses[1],
            "gradient": losses[2],
            "images_per_second": speed,
        }
        self.write("log.csv", row)
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print("  ".join(shown), flush=True)

    def write(self, name: str, row: dict[str, Any]) -> None:
        """Append a row to a CSV file of the run."""
        path = self.args.out / name
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)

    def draw(self) -> None:
        """Draw the losses and the validation scores so far into `curves.png`."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
        for name, columns, axes in (
            ("log.csv", ("loss", "dense_loss"), left),
            ("val.csv", ("AP", "AP50"), right),
        ):
            path = self.args.out / name
            if not path.exists():
                continue
            with path.open(encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            deepest = max(row.get("layers", "") for row in rows)
            rows = [row for row in rows if row.get("layers", "") == deepest]
            for column in columns:
                points = [(int(row["step"]), float(row[column] or 0)) for row in rows]
                axes.plot(*zip(*points, strict=True), label=column)
            axes.set_xlabel("step")
            axes.set_ylim(bottom=0)
            axes.legend()
        figure.savefig(self.args.out / "curves.png", dpi=100)
        pyplot.close(figure)


def run_worker(rank: int, args: argparse.Namespace, meeting: str) -> None:
    """Train as process `rank` of `args.workers`, on one thread.

    `meeting`: address of a file (`file://`) through which they find each other.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", meeting, rank=rank, world_size=args.workers)
    Run(args, rank).train()
    dist.destroy_process_group()

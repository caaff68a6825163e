"""`python -m rtdetr_demo serve --ray`: the API on many replicas."""

import argparse
import signal
import threading

from ..errors import BadInput
from ..settings import DEFAULT_CHECKPOINT, RUNTIMES

DRAIN_SECONDS = 25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Further settings come from the environment, as those of app.py (RTDETR_...): from this "
        "command's own where it starts the cluster, else from that of the cluster's nodes, set "
        "before `ray start`."
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="the Ray cluster at this address, or without one a cluster of this machine",
    )
    parser.add_argument(
        "--replicas", default="1:4", metavar="N or MIN:MAX", help="detectors (default 1:4)"
    )
    parser.add_argument("--cpus", type=float, default=1, help="cores of each replica (1)")
    parser.add_argument("--gpus", type=float, default=0, help="cards of each replica (0)")
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="as of app.py")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto", help="as of app.py (auto)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (7860)")


def run(options: argparse.Namespace) -> int:
    if options.ray is None:
        raise BadInput(
            "For many replicas, add --ray. One process, with the page, is started by "
            "`python -m rtdetr_demo page`."
        )
    try:
        import ray
        from ray import serve

        from ..api.replicated import NAME, application
        from ..batch.cluster import connect
    except ImportError:
        raise BadInput("--ray needs packages: pip install -r requirements-ray.txt") from None
    min_replicas, max_replicas = _range(options.replicas)
    connect(options.ray)
    for kind, wanted in (("CPU", options.cpus), ("GPU", options.gpus)):
        there = ray.cluster_resources().get(kind, 0)
        if min_replicas * wanted > there:
            raise BadInput(
                f"{min_replicas} replicas of {wanted:g} {kind} need more than the {there:g} that "
                "this cluster has. Ask for fewer with --replicas, or add nodes."
            )
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # Ray has set its own
        signal.signal(number, lambda *_: end.set())
    serve.start(http_options={"host": options.host, "port": options.port})
    settings = {name: getattr(options, name) for name in ("checkpoint", "runtime", "host", "port")}
    args = {**settings, "replicas": (min_replicas, max_replicas)}
    try:
        gateway = serve.run(application(args, options.cpus, options.gpus), name=NAME)
        print(f"RT-DETR API: http://{options.host}:{options.port}/docs", flush=True)
        end.wait()
        gateway.drain.remote(DRAIN_SECONDS).result()
    finally:
        serve.shutdown()
        ray.shutdown()
    return 0


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    try:
        found = int(low), int(high or low)
    except ValueError:
        found = (0, 0)
    if not 1 <= found[0] <= found[1]:
        raise BadInput("--replicas is a number from 1, or two with a colon, such as 1:4.")
    return found

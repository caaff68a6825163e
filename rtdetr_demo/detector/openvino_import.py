"""Import of OpenVINO without its telemetry."""

import sys
from types import ModuleType


def import_openvino() -> ModuleType:
    """Return the module `openvino`, which then sends no usage data.

    OpenVINO reports conversions through the package `openvino_telemetry`; it skips that if the
    package cannot be imported. Must run before anything else imports OpenVINO.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino

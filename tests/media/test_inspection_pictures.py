"""An inspection's files are those of the page."""

import re

import numpy as np

from rtdetr_demo.media.inspection_pictures import HEAT
from tests.support.paths import REPO


def test_the_report_and_the_page_have_the_same_heat_colours():
    source = (REPO / "rtdetr_demo/ui/static/lib/inspection.js").read_text(encoding="utf-8")
    (table,) = re.findall(r"const HEAT = \[(.*?)\n\];", source, re.DOTALL)
    page = [[int(level) for level in re.findall(r"\d+", row)] for row in table.strip().split("\n")]
    np.testing.assert_array_equal(HEAT, page)

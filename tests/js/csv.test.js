import assert from "node:assert/strict";
import { test } from "node:test";

import { csvOf } from "../../rtdetr_demo/ui/static/lib/csv.js";

test("cells that hold a comma, a quote or a line's end are quoted, and none are empty", () => {
  assert.equal(
    csvOf([
      ["a,b", 'say "c"', "two\nlines"],
      [1.5, null, undefined],
    ]),
    '"a,b","say ""c""","two\nlines"\n1.5,,\n',
  );
});

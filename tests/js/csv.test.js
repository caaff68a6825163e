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

test("a spreadsheet takes no text for a formula, and numbers stay numbers", () => {
  assert.equal(
    csvOf([["=1+1", "+x", "@y", "-z", " =w", "\tq", "a\rb", -1.5, "-2.50", "1e-5"]]),
    "'=1+1,'+x,'@y,'-z,' =w,'\tq,a b,-1.5,-2.50,1e-5\n",
  );
});

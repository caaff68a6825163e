/**
 * Rows of values as comma-separated text, quoted where needed; null is an empty cell. Text that a
 * spreadsheet would take for a formula gets an apostrophe before it.
 *
 * @param {unknown[][]} rows
 */
export const csvOf = (rows) => rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";

const FORMULA = /^ *[=+\-@\t＝＋－＠]/;
const NUMBER = /^-?\d+(\.\d+)?(e[-+]?\d+)?$/i;

/** @param {unknown} value */
function cell(value) {
  const plain = String(value ?? "").replaceAll("\r", " ");
  const text = FORMULA.test(plain) && !NUMBER.test(plain) ? `'${plain}` : plain;
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

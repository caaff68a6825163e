/**
 * Rows of values as comma-separated text, quoted where needed; null is an empty cell.
 *
 * @param {unknown[][]} rows
 */
export const csvOf = (rows) => rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";

/** @param {unknown} value */
function cell(value) {
  const text = String(value ?? "");
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

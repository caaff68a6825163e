// What the clients here have in common: their arguments, and what they print.

import { readFileSync } from "node:fs";

export const [URL_, MODEL, PHOTO] = process.argv.slice(2);
export const baseURL = `${URL_}/v1`;
export const bytes = readFileSync(PHOTO);
export const dataUri = `data:image/jpeg;base64,${bytes.toString("base64")}`;
export const labelsOf = (text) => JSON.parse(text).results[0].detections.map((one) => one.label);
export const report = (labels) => {
  console.log(JSON.stringify(labels));
  process.exit(0); // some clients keep a connection open
};

/**
 * The request for what is shown, in the words of several clients. No DOM in here.
 *
 * @typedef {import("./types.js").State} State
 *
 * @typedef {Object} Ask
 * @property {string} base  address of the demo, without a slash at its end
 * @property {boolean} keyed  whether a key is asked for
 * @property {string} [url]  address of the picture
 * @property {string} file  its name, where it has no address
 * @property {string} checkpoint
 * @property {Record<string, any>} settings
 */

/**
 * @param {State} state
 * @param {string} base
 * @param {string} access
 * @returns {Ask}
 */
export function askOf(state, base, access) {
  const { result, depth, threshold, hidden } = state;
  const source = result?.source;
  const classes = result?.predictions.classes ?? [];
  const file = source?.file?.name ?? source?.example ?? "frame.jpg";
  return {
    base,
    keyed: access !== "open",
    url: source?.url,
    file: file.split(/[\\/]/).pop() || "picture.jpg",
    checkpoint: result?.settings.checkpoint ?? "bundled",
    settings: {
      decoder_layers: depth,
      threshold,
      ...(hidden.size ? { classes: classes.filter((name) => !hidden.has(name)) } : {}),
    },
  };
}

/**
 * What the API cannot be asked, though the result was made with it; "" where there is nothing.
 *
 * @param {State} state
 */
export function beyond({ result, hideDuplicates }) {
  const { queries, size } = result?.settings ?? {};
  const parts = [
    queries && `${queries} queries`,
    size && `an input size of ${size} px`,
    hideDuplicates && "hidden duplicates",
  ].filter(Boolean);
  return parts.length
    ? `The API uses the checkpoint's default settings: ${parts.join(" and ")} cannot be set there.`
    : "";
}

/** @param {string} file */
function typeOf(file) {
  const ending = file.split(".").pop()?.toLowerCase() ?? "";
  /** @type {Record<string, string>} */
  const known = { jpg: "jpeg", tif: "tiff" };
  const types = ["jpeg", "png", "webp", "gif", "bmp", "tiff", "heic", "avif"];
  const type = known[ending] ?? ending;
  return `image/${types.includes(type) ? type : "jpeg"}`;
}

/**
 * Text as a program would write it: JSON's strings are Python's and JavaScript's, too.
 *
 * @param {unknown} value
 */
const quoted = (value) => JSON.stringify(value);
const inShell = (/** @type {string} */ text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** @param {Ask} ask */
export function curl({ base, keyed, url, file, checkpoint, settings }) {
  const key = keyed ? ` \\\n  -H "Authorization: Bearer $RTDETR_API_KEY"` : "";
  if (url) {
    const body = JSON.stringify({ model: checkpoint, image_url: url, ...settings }, null, 2);
    return `curl ${base}/v1/detect${key} \\\n  -H 'Content-Type: application/json' \\\n  -d ${inShell(body)}`;
  }
  const query = new URLSearchParams({ model: checkpoint });
  for (const [name, value] of Object.entries(settings))
    for (const one of [value].flat()) query.append(name, String(one));
  return (
    `curl ${inShell(`${base}/v1/detect?${query}`)}${key} \\\n` +
    `  -H 'Content-Type: ${typeOf(file)}' \\\n  --data-binary @${inShell(file)}`
  );
}

/** @param {Ask} ask */
export function python({ base, url, file, checkpoint, settings }) {
  const extra = Object.entries(settings).map(
    ([name, value]) => `${quoted(name)}: ${quoted(value)}`,
  );
  const picture = url
    ? `url = ${quoted(url)}`
    : `with open(${quoted(file)}, "rb") as file:\n` +
      `    url = "data:${typeOf(file)};base64," + base64.b64encode(file.read()).decode()`;
  return `${url ? "" : "import base64\n"}import json
import os

from openai import OpenAI  # pip install openai

client = OpenAI(
    base_url=${quoted(`${base}/v1`)},
    api_key=os.environ.get("RTDETR_API_KEY", "none"),
)
${picture}
completion = client.chat.completions.create(
    model=${quoted(checkpoint)},
    messages=[
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": url}}],
        }
    ],
    extra_body={${extra.join(", ")}},
)
answer = json.loads(completion.choices[0].message.content)
for found in answer["results"][0]["detections"]:
    print(found["label"], found["score"], found["box"])
`;
}

/** @param {Ask} ask */
export function javascript({ base, url, file, checkpoint, settings }) {
  const extra = Object.entries(settings).map(([name, value]) => `  ${name}: ${quoted(value)},\n`);
  const picture = url
    ? `const url = ${quoted(url)};`
    : `const picture = await readFile(${quoted(file)}, "base64");\n` +
      `const url = "data:${typeOf(file)};base64," + picture;`;
  return `${url ? "" : 'import { readFile } from "node:fs/promises";\n'}import OpenAI from "openai"; // npm install openai

const client = new OpenAI({
  baseURL: ${quoted(`${base}/v1`)},
  apiKey: process.env.RTDETR_API_KEY ?? "none",
});
${picture}
const completion = await client.chat.completions.create({
  model: ${quoted(checkpoint)},
  messages: [
    { role: "user", content: [{ type: "image_url", image_url: { url } }] },
  ],
${extra.join("")}});
const answer = JSON.parse(completion.choices[0].message.content);
for (const { label, score, box } of answer.results[0].detections) {
  console.log(label, score, box);
}
`;
}

/** @param {Ask} ask */
export const assistant = ({ base }) =>
  JSON.stringify({ mcpServers: { rtdetr: { url: `${base}/gradio_api/mcp/` } } }, null, 2);

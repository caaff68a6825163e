// The API tab: writes the request for what the photo tab shows.

const root = element.querySelector(".rt-api");
const $ = (selector) => root.querySelector(selector);
const base = new URL(".", location.href.split("?")[0]).href.replace(/\/$/, "");

const ACCESS = {
  open: "Open to programs on this machine: no key is asked for.",
  keys: "Asks for one of its operator's keys: put yours into RTDETR_API_KEY.",
  closed: "Closed at present: its operator has set no keys (RTDETR_API_KEYS).",
};

// --- What is asked ---------------------------------------------------------------------------------

function asked() {
  const { source = { example: "dogs.jpg" }, checkpoint = "bundled", settings = {} } = window.rtPhoto ?? {};
  const file = (source.path ?? source.example)?.split(/[\\/]/).pop();
  return { url: source.url, file, checkpoint, settings };
}

function typeOf(file) {
  const ending = file.split(".").pop().toLowerCase();
  const known = { jpg: "jpeg", tif: "tiff" };
  const types = ["jpeg", "png", "webp", "gif", "bmp", "tiff", "heic", "avif"];
  const type = known[ending] ?? ending;
  return `image/${types.includes(type) ? type : "jpeg"}`;
}

/** Text as a program would write it: JSON's strings are Python's and JavaScript's, too. */
const quoted = (text) => JSON.stringify(text);
const inShell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

// --- In each client's words ------------------------------------------------------------------------

function curl({ url, file, checkpoint, settings }) {
  const key = ACCESS_KIND === "open" ? "" : ` \\\n  -H "Authorization: Bearer $RTDETR_API_KEY"`;
  if (url) {
    const body = JSON.stringify({ model: checkpoint, image_url: url, ...settings }, null, 2);
    return `curl ${base}/v1/detect${key} \\\n  -H 'Content-Type: application/json' \\\n  -d ${inShell(body)}`;
  }
  const query = new URLSearchParams({ model: checkpoint, ...settings });
  return (
    `curl ${inShell(`${base}/v1/detect?${query}`)}${key} \\\n` +
    `  -H 'Content-Type: ${typeOf(file)}' \\\n  --data-binary @${inShell(file)}`
  );
}

function python({ url, file, checkpoint, settings }) {
  const extra = Object.entries(settings).map(([name, value]) => `${quoted(name)}: ${quoted(value)}`);
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

function javascript({ url, file, checkpoint, settings }) {
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

function assistant() {
  return JSON.stringify({ mcpServers: { rtdetr: { url: `${base}/gradio_api/mcp/` } } }, null, 2);
}

const ACCESS_KIND = props.value.access;
const KINDS = {
  curl: [curl, "For a terminal, in the folder that holds the picture."],
  Python: [python, "With OpenAI's package, unchanged."],
  JavaScript: [javascript, "For Node.js, as a module (.mjs), with OpenAI's package, unchanged."],
  Assistants: [
    assistant,
    "For the settings of a desktop assistant that speaks MCP: it can then call the tool detect_objects.",
  ],
};
let kind = "curl";

function show() {
  const [write, note] = KINDS[kind];
  const what = asked();
  $(".rt-api-subject").textContent = what.url ?? what.file;
  $(".rt-api-note").textContent = note;
  $("code").textContent = write(what);
  for (const button of root.querySelectorAll('[role="tab"]'))
    button.setAttribute("aria-selected", button.textContent === kind);
}

async function copy() {
  const text = $("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers keep the clipboard from pages without https: select, and copy the old way.
    getSelection().selectAllChildren($("code"));
    if (!document.execCommand("copy")) return;
    getSelection().removeAllRanges();
  }
  $(".rt-api-copy").textContent = "Copied";
  setTimeout(() => ($(".rt-api-copy").textContent = "Copy"), 1500);
}

$(".rt-api-kinds").innerHTML = Object.keys(KINDS)
  .map((name) => `<button type="button" role="tab">${name}</button>`)
  .join("");
$(".rt-api-kinds").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  kind = button.textContent;
  show();
});
$(".rt-api-copy").addEventListener("click", copy);
$(".rt-api-access").textContent = ACCESS[ACCESS_KIND];
$(".rt-api-access").classList.toggle("rt-problem", ACCESS_KIND === "closed");
$(".rt-api-models").hidden = ACCESS_KIND !== "open"; // a browser sends no key
document.addEventListener("rt-request", show);
show();

// openai: chat, stream, parse, responses.

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { MODEL, baseURL, dataUri, labelsOf, report } from "./shared_form.mjs";

const client = new OpenAI({ baseURL, apiKey: "none" });
const Scene = z.object({ things: z.array(z.object({ label: z.string(), score: z.number() })) });
const messages = [
  { role: "user", content: [{ type: "image_url", image_url: { url: dataUri } }] },
];
const input = [
  { role: "user", content: [{ type: "input_image", image_url: dataUri, detail: "auto" }] },
];
const chat = await client.chat.completions.create({ model: MODEL, messages });
let streamed = "";
const stream = await client.chat.completions.create({ model: MODEL, messages, stream: true });
for await (const chunk of stream) streamed += chunk.choices[0]?.delta?.content ?? "";
const parsed = await client.chat.completions.parse({
  model: MODEL,
  messages,
  response_format: zodResponseFormat(Scene, "scene"),
});
const response = await client.responses.create({ model: MODEL, input });
const parsedResponse = await client.responses.parse({
  model: MODEL,
  input,
  text: { format: zodTextFormat(Scene, "scene") },
});
const labelsIn = (scene) => scene.things.map((thing) => thing.label);
report({
  chat: labelsOf(chat.choices[0].message.content),
  stream: labelsOf(streamed),
  parse: labelsIn(parsed.choices[0].message.parsed),
  responses: labelsOf(response.output_text),
  responses_parse: labelsIn(parsedResponse.output_parsed),
});

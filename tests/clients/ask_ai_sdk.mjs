// Vercel's AI SDK: generateText and generateObject with a schema of its own, over both forms.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText } from "ai";
import { z } from "zod";
import { MODEL, baseURL, bytes, labelsOf, report } from "./shared_form.mjs";

const compatible = createOpenAICompatible({
  name: "rtdetr",
  baseURL,
  apiKey: "none",
  supportsStructuredOutputs: true,
})(MODEL);
const official = createOpenAI({ baseURL, apiKey: "none" });
const schema = z.object({ things: z.array(z.object({ label: z.string(), score: z.number() })) });
const messages = [
  {
    role: "user",
    content: [
      { type: "text", text: "What is in this picture?" },
      { type: "image", image: bytes },
    ],
  },
];
const labelsIn = ({ object }) => object.things.map((thing) => thing.label);
const { text } = await generateText({ model: compatible, messages });
const array = await generateObject({
  model: compatible,
  output: "array",
  schema: z.object({ label: z.string() }),
  messages,
});
report({
  generateText: labelsOf(text),
  generateObject: labelsIn(await generateObject({ model: compatible, schema, messages })),
  array: array.object.map((thing) => thing.label),
  responses: labelsIn(await generateObject({ model: official(MODEL), schema, messages })),
  chat: labelsIn(await generateObject({ model: official.chat(MODEL), schema, messages })),
});

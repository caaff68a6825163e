// The command line of the MCP inspector.

import { execFileSync } from "node:child_process";
import { URL_, dataUri, report } from "./shared_form.mjs";

const inspector = (...more) => {
  const command = ["node_modules/.bin/mcp-inspector", "--cli", `${URL_}/gradio_api/mcp`];
  const options = { encoding: "utf8", maxBuffer: 2 ** 26, timeout: 60_000 };
  return JSON.parse(execFileSync(process.execPath, [...command, "--transport", "http", ...more], options));
};
const [tool] = inspector("--method", "tools/list").tools;
if (!tool.annotations.readOnlyHint) throw new Error("the tool has no annotations");
const { content } = inspector(
  "--method", "tools/call", "--tool-name", tool.name, "--tool-arg", `image=${dataUri}`,
);
const { text } = content.find((part) => part.type === "text");
report({ tools_call: JSON.parse(text).detections.map((one) => one.label) });

// @gradio/client: every endpoint that is advertised.

import { Client } from "@gradio/client";
import { URL_, bytes, dataUri, report } from "./shared_form.mjs";

const client = await Client.connect(URL_);
const { named_endpoints } = await client.view_api();
const image = (name) => (name === "/detect_objects" ? dataUri : new Blob([bytes]));
const labels = {
  "/detect": ([answer]) => answer.detections.map((one) => one.label),
  "/inspect": ([answer]) => answer.queries.map((one) => one.label),
  "/detect_objects": ([, text]) => JSON.parse(text).detections.map((one) => one.label),
};
const answers = {};
for (const name of Object.keys(named_endpoints)) {
  const { data } = await client.predict(name, { image: image(name) });
  answers[name] = labels[name](data);
}
report(answers);

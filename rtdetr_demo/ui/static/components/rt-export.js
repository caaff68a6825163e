import { sentence } from "../lib/actions.js";
import { AppElement, define, saveFile } from "../lib/element.js";

const FORMS = ["png", "json", "csv", "coco", "yolo"];

/** What is shown, as a file. */
class RtExport extends AppElement {
  render() {
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "Export");
    this.innerHTML =
      "<span>Export</span>" +
      FORMS.map(
        (form) => `<button type="button" data-form="${form}">${form.toUpperCase()}</button>`,
      ).join("");
    this.on(this, "click", async (event) => {
      const form = event.target.closest("button")?.dataset.form;
      if (!form) return;
      try {
        const { fileName, exportAs } = await import("../lib/exporters.js");
        const content = await exportAs(form, this.app);
        const { result } = this.app.store.get();
        if (result) saveFile(fileName(form, result), content);
      } catch (error) {
        this.app.actions.problem(sentence(error));
      }
    });
  }
}

define("rt-export", RtExport);

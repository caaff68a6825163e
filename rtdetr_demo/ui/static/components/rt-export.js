import { AppElement, define } from "../lib/element.js";
import { sentence } from "../lib/actions.js";

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
        const { FILES, exportAs } = await import("../lib/exporters.js");
        const blob = await exportAs(form, this.app);
        const link = document.createElement("a");
        link.href = URL.createObjectURL(blob);
        link.download = FILES[form];
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
      } catch (error) {
        this.app.actions.problem(sentence(error));
      }
    });
  }
}

define("rt-export", RtExport);

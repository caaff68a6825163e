import { AppElement, define } from "../lib/element.js";
import { FORMS, exportAs } from "../lib/exporters.js";
import { sentence } from "../lib/actions.js";

/** What is shown, as a file. */
class RtExport extends AppElement {
  render() {
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "Export");
    this.innerHTML =
      "<span>Export</span>" +
      Object.keys(FORMS)
        .map((form) => `<button type="button" data-form="${form}">${form.toUpperCase()}</button>`)
        .join("");
    this.on(this, "click", async (event) => {
      const form = event.target.closest("button")?.dataset.form;
      if (!form) return;
      try {
        const blob = await exportAs(form, this.app);
        const link = document.createElement("a");
        link.href = URL.createObjectURL(blob);
        link.download = FORMS[form];
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
      } catch (error) {
        this.app.actions.problem(sentence(error));
      }
    });
  }
}

define("rt-export", RtExport);

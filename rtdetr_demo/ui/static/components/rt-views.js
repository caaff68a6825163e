import { AppElement, create, define } from "../lib/element.js";
import { detectionsOf } from "../lib/view_model.js";
import { VIEWS } from "../lib/views.js";
import { tabsByArrows } from "./rt-stage.js";

/** The views on what the stage shows, one at a time. */
class RtViews extends AppElement {
  get views() {
    return VIEWS.filter((view) => this.app.rpc || !view.needsServer);
  }

  render() {
    this.innerHTML = `
      <div class="tabs">
        <div role="tablist" aria-label="Views">${this.views
          .map(
            ({ name, title }) =>
              `<button type="button" role="tab" id="tab-${name}" data-view="${name}" aria-controls="view">${title}${name === "detections" ? " <b></b>" : ""}</button>`,
          )
          .join("")}</div>
        <div class="extra"></div>
      </div>
      <div id="view" role="tabpanel"></div>`;
    const list = this.$('[role="tablist"]');
    tabsByArrows(this, list);
    this.on(list, "click", (event) => {
      const view = event.target.closest("button")?.dataset.view;
      if (view) this.app.store.set({ view });
    });
    this.follow(["view"], ({ view }) => this.#show(view));
    this.follow(["result", "depth", "threshold", "hidden", "hideDuplicates"], (state) => {
      this.$('[data-view="detections"] b').textContent = String(detectionsOf(state).length);
    });
  }

  /** @param {string} wanted */
  async #show(wanted) {
    const view = this.views.find((one) => one.name === wanted) ?? this.views[0];
    for (const tab of this.$$('[role="tab"]')) {
      const chosen = tab.dataset.view === view.name;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    const panel = this.$("#view");
    panel.setAttribute("aria-labelledby", `tab-${view.name}`);
    await view.load();
    if (
      (this.app.store.get().view !== wanted && wanted) ||
      panel.firstElementChild?.localName === view.element
    )
      return;
    panel.replaceChildren(create(view.element, this.app));
  }
}

define("rt-views", RtViews);

import { AppElement, define, escapeText } from "../lib/element.js";

/** The examples, on the stage's lower edge. */
class RtFilmstrip extends AppElement {
  render() {
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "Example pictures");
    this.innerHTML = this.app.config.examples
      .map(({ name, title, hard, thumbnail }) => {
        const words = hard ? `${title}, hard to detect` : title;
        return (
          `<button type="button" data-example="${escapeText(name)}" title="${escapeText(words)}">` +
          `<img src="${thumbnail}" alt="${escapeText(words)}" width="108" height="76" />` +
          (hard ? '<b aria-hidden="true">hard</b>' : "") +
          "</button>"
        );
      })
      .join("");
    this.on(this, "click", (event) => {
      const example = event.target.closest("button")?.dataset.example;
      if (example) this.app.actions.openPhoto({ example });
    });
    this.follow(["result"], ({ result }) => {
      for (const button of this.querySelectorAll("button"))
        button.setAttribute(
          "aria-pressed",
          String(button.dataset.example === result?.source?.example),
        );
    });
  }
}

define("rt-filmstrip", RtFilmstrip);

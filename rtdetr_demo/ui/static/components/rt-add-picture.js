import { sentence } from "../lib/actions.js";
import { closeCamera, openCamera, takePicture } from "../lib/camera.js";
import { AppElement, define } from "../lib/element.js";

/** "+ Your picture": upload, paste, address, snapshot, in one dialog. */
class RtAddPicture extends AppElement {
  /** @type {import("../lib/types.js").PhotoSource | null} what was on the stage as it opened */
  onStage = null;

  get dialog() {
    return this.$("dialog", HTMLDialogElement);
  }

  get video() {
    return this.$("video", HTMLVideoElement);
  }

  render() {
    this.innerHTML = `
      <dialog aria-labelledby="add-title">
        <div class="row"><h2 id="add-title">Add a picture</h2><button type="button" class="close" aria-label="Close">✕</button></div>
        <button type="button" class="drop"><b>Choose a file</b><span>a photo or a video; you can also paste it, or drop it anywhere</span></button>
        <input type="file" tabindex="-1" hidden aria-label="File to open" accept="image/*,video/*,.heic,.heif,.avif,.tif,.tiff,.mkv" />
        <form class="address" novalidate>
          <input type="url" placeholder="https://example.com/photo.jpg" aria-label="URL of a picture" autocomplete="off" spellcheck="false" />
          <button type="submit">Fetch</button>
        </form>
        <p class="wrong problem" role="alert" hidden></p>
        <div class="camera">
          <button type="button" class="start">Use the camera</button>
          <video autoplay playsinline muted hidden></video>
          <button type="button" class="primary snap" hidden>Take the picture</button>
        </div>
      </dialog>`;
    const file = this.$('input[type="file"]', HTMLInputElement);
    const address = this.$('input[type="url"]', HTMLInputElement);
    this.on(this.$(".close"), "click", () => this.dialog.close());
    this.on(this.dialog, "click", (event) => event.target === this.dialog && this.dialog.close());
    this.on(this.dialog, "close", () => this.#stopCamera());
    this.on(this.$(".drop"), "click", () => file.click());
    this.on(file, "change", () => {
      const [chosen] = file.files ?? [];
      file.value = "";
      if (chosen) this.#take(() => this.app.actions.openFile(chosen));
    });
    this.on(this.$(".address"), "submit", (event) => {
      event.preventDefault();
      const url = address.value.trim();
      if (!url) return this.#wrong("Type or paste the URL of a picture first.");
      this.#take(() => this.app.actions.openPhoto({ url }));
    });
    this.on(this.$(".start"), "click", () => this.#startCamera());
    this.on(this.$(".snap"), "click", async () => {
      try {
        const file = await takePicture(this.video);
        this.#take(() => this.app.actions.openPhoto({ file }));
      } catch (error) {
        this.#wrong(sentence(error));
      }
    });
    // A picture that came another way, by a drop say; the same one looked at again is none.
    this.follow(["result"], ({ result }) => {
      if (this.dialog.open && (result?.source ?? null) !== this.onStage) this.dialog.close();
    });
  }

  open() {
    this.#wrong("");
    this.onStage = this.app.store.get().result?.source ?? null;
    this.dialog.showModal();
  }

  /** @param {() => void} work */
  #take(work) {
    this.#wrong("");
    this.dialog.close();
    work();
  }

  async #startCamera() {
    const trouble = await openCamera(this.video);
    this.#wrong(trouble);
    this.video.hidden = this.$(".snap").hidden = Boolean(trouble);
    this.$(".start").hidden = !trouble;
  }

  #stopCamera() {
    closeCamera(this.video);
    this.$("video").hidden = this.$(".snap").hidden = true;
    this.$(".start").hidden = false;
  }

  /** @param {string} sentence */
  #wrong(sentence) {
    this.$(".wrong").hidden = !sentence;
    this.$(".wrong").textContent = sentence;
  }
}

define("rt-add-picture", RtAddPicture);

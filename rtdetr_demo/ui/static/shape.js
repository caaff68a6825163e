// The number of queries and the input size that the speed lab has set for the whole page.

const shape = (window.rtShape ??= { queries: null, size: null });

/** Set them, and where given the decoder depth; `null` is what the checkpoint has. */
function useShape({ queries = null, size = null, layers = null }) {
  Object.assign(shape, { queries, size });
  window.rtDepth = layers;
  document.dispatchEvent(new CustomEvent("rt-shape", { detail: { layers } }));
}

/** Keep a note at the head of a tab's settings while they differ from the checkpoint's own. */
function watchShape(controls, onChange) {
  const note = document.createElement("p");
  note.className = "rt-shape";
  controls.prepend(note);
  const show = () => {
    const parts = [];
    if (shape.size) parts.push(`input ${shape.size} px`);
    if (shape.queries) parts.push(`${shape.queries} queries`);
    note.hidden = !parts.length;
    note.innerHTML = `<span>From the speed lab: ${parts.join(", ")}</span> <button type="button" class="rt-link">Reset</button>`;
  };
  note.addEventListener("click", (event) => event.target.closest("button") && useShape({}));
  document.addEventListener("rt-shape", ({ detail }) => {
    show();
    onChange(detail);
  });
  show();
  if (window.rtDepth) onChange({ layers: window.rtDepth }); // set before this tab was first opened
}

/** Put a depth into a slider. */
function setSlider(input, layers) {
  if (!layers) return;
  input.value = Math.min(layers, input.max);
  input.dispatchEvent(new Event("input", { bubbles: true }));
}

import js from "@eslint/js";

const BROWSER = [
  "window", "document", "location", "history", "navigator", "customElements", "fetch", "console",
  "HTMLElement", "HTMLInputElement", "HTMLSelectElement", "HTMLButtonElement", "HTMLDialogElement",
  "HTMLImageElement", "HTMLVideoElement", "HTMLCanvasElement", "HTMLProgressElement", "Image",
  "URL", "URLSearchParams", "Blob", "File", "FontFace", "MediaStream", "ResizeObserver", "CSS",
  "setTimeout", "clearTimeout", "setInterval", "clearInterval", "requestAnimationFrame",
  "cancelAnimationFrame", "performance", "matchMedia", "addEventListener", "crypto", "Worker",
  "WebSocket", "OffscreenCanvas", "createImageBitmap", "caches", "self", "TextDecoder", "EventTarget",
  "structuredClone", "getComputedStyle", "Response", "AbortController", "IntersectionObserver",
  "MutationObserver", "queueMicrotask", "DOMException", "ImageData", "VideoFrame", "devicePixelRatio",
  "isSecureContext", "crossOriginIsolated", "WebAssembly", "DecompressionStream", "postMessage",
  "HTMLSourceElement", "Event", "CustomEvent", "ReadableStream", "Request", "Headers", "MessageChannel",
  "getSelection", "Option", "SVGElement", "TextEncoder", "XMLSerializer", "HTMLAnchorElement",
]; // prettier-ignore

export default [
  js.configs.recommended,
  {
    languageOptions: { globals: Object.fromEntries(BROWSER.map((name) => [name, "readonly"])) },
    linterOptions: { reportUnusedDisableDirectives: true },
    rules: {
      eqeqeq: ["error", "smart"],
      "no-var": "error",
      "prefer-const": "error",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-implicit-coercion": "error",
      "object-shorthand": "error",
    },
  },
  { files: ["*.test.js"], languageOptions: { globals: { process: "readonly" } } },
];

/**
 * A Space's page stands inside the Hub's. That one knows who is signed in, and gives headers by
 * which the Hub counts a lent card's time as that visitor's. Gradio's client asks for them before its
 * events (and notes on the window whether the Hub's page answers), yet not before server functions,
 * by which this page calls.
 */

const ASK = "zerogpu-headers";
const PATIENCE_MS = 2000;

/**
 * Where the page around this one is the Hub's, have each call of a server function carry its headers.
 *
 * @param {any} [page]  the window
 */
export function forwardZeroGpuHeaders(page = window) {
  const hub = hubOf(page.location.hostname);
  if (!hub || page.parent === page) return;
  const plain = page.fetch.bind(page);
  /** @param {RequestInfo | URL} input @param {RequestInit} [init] */
  page.fetch = async (input, init) => {
    const address = input instanceof Request ? input.url : String(input);
    if (!page.supports_zerogpu_headers || !/\/component_server\/?$/.test(address))
      return plain(input, init);
    const headers = new Headers(init?.headers);
    for (const [name, value] of Object.entries(await ask(page.parent, hub)))
      headers.set(name, value);
    return plain(input, { ...init, headers });
  };
}

/**
 * The origin of the Hub's page around a Space of this host; null for any other host.
 *
 * @param {string} host
 */
function hubOf(host) {
  return host.endsWith(".hf.space") ? "https://huggingface.co" : null;
}

/**
 * @param {Window} hub
 * @param {string} origin
 * @returns {Promise<Record<string, string>>}  none, if it does not answer in time
 */
function ask(hub, origin) {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    /** @param {Record<string, string> | null} headers */
    const end = (headers) => {
      clearTimeout(late);
      port1.close();
      resolve(headers ?? {});
    };
    const late = setTimeout(() => end(null), PATIENCE_MS);
    port1.onmessage = ({ data }) => end(data);
    hub.postMessage(ASK, origin, [port2]);
  });
}

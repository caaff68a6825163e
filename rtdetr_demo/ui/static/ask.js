// Asking the server, for every tab.

const NO_ANSWER = "The demo does not answer. Check that it is still running, then try again.";

/**
 * Call a server function. A refusal comes back as `{error}`, a sentence; so does a server that is
 * out of reach, which Gradio's own call would wait for without end.
 */
async function ask(name, request) {
  let watch;
  const gone = new Promise((done) => {
    watch = setInterval(
      () =>
        fetch(location.pathname, { method: "HEAD", cache: "no-store" }).catch(() =>
          done({ error: NO_ANSWER }),
        ),
      2000,
    );
  });
  try {
    return (await Promise.race([server[name](request), gone])) ?? { error: NO_ANSWER };
  } catch {
    return { error: NO_ANSWER };
  } finally {
    clearInterval(watch);
  }
}

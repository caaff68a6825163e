// Small charts as SVG text. Points carry `data-point`, an index into what was drawn. No DOM in here.

const CHART = { width: 560, height: 260, left: 66, right: 14, top: 12, bottom: 40 };

/** A few round numbers from 0 to at least `top`. */
function ticks(top, wanted = 5) {
  const rough = top / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((k) => k >= rough);
  return Array.from({ length: Math.ceil(top / step - 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}

function frame(xTicks, yTicks, x, y, xTitle, yTitle, body) {
  const { width, height, left, right, top, bottom } = CHART;
  const lines = yTicks
    .map(
      ({ at, text }) =>
        `<line class="grid" x1="${left}" x2="${width - right}" y1="${y(at)}" y2="${y(at)}"/>` +
        `<text x="${left - 8}" y="${y(at) + 4}" text-anchor="end">${text}</text>`,
    )
    .join("");
  const marks = xTicks
    .map(({ at, text }) => `<text x="${x(at)}" y="${height - bottom + 18}" text-anchor="middle">${text}</text>`)
    .join("");
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" class="rt-plot" viewBox="0 0 ${width} ${height}" role="img" aria-label="${yTitle} by ${xTitle}">` +
    lines + marks +
    `<text class="title" x="${(left + width - right) / 2}" y="${height - 5}" text-anchor="middle">${xTitle}</text>` +
    `<text class="title" x="13" y="${(top + height - bottom) / 2}" text-anchor="middle" transform="rotate(-90 13 ${(top + height - bottom) / 2})">${yTitle}</text>` +
    body + `</svg>`
  );
}

/** Milliseconds per value of one knob: medians with whiskers from p5 to p95. */
function latencyChart(lines, title, indexOf) {
  const { width, height, left, right, top, bottom } = CHART;
  const yTicks = ticks(Math.max(...lines.map((one) => one.p95)) * 1.02);
  const most = yTicks.at(-1);
  const y = (ms) => height - bottom - (ms / most) * (height - top - bottom);
  const x = (i) => left + ((i + 0.5) / lines.length) * (width - left - right);
  const body = lines
    .map(
      (one, i) =>
        `<line class="whisker" x1="${x(i)}" x2="${x(i)}" y1="${y(one.p5)}" y2="${y(one.p95)}"/>` +
        `<circle class="point" tabindex="0" role="button" data-point="${indexOf(one)}" cx="${x(i)}" cy="${y(one.median)}" r="6"><title>${describe(one)}</title></circle>` +
        `<text class="value" x="${x(i) + 10}" y="${y(one.median) - 8}">${one.median.toFixed(one.median < 10 ? 1 : 0)}</text>`,
    )
    .join("");
  const named = (list, text) => list.map((at, i) => ({ at, text: text(at, i) }));
  return frame(
    named([...lines.keys()], (i) => lines[i].value),
    named(yTicks, String),
    x, y, title, "ms, median and p5 to p95", body,
  );
}

/** Agreement with full depth against milliseconds; the line joins what nothing else beats. */
function paretoChart(lines, indexOf) {
  const { width, height, left, right, top, bottom } = CHART;
  const xTicks = ticks(Math.max(...lines.map((one) => one.median)) * 1.05);
  const yTicks = [0, 0.25, 0.5, 0.75, 1];
  const x = (ms) => left + (ms / xTicks.at(-1)) * (width - left - right);
  const y = (share) => height - bottom - share * (height - top - bottom - 8);
  const front = pareto(lines);
  const path = front.map((one, i) => `${i ? "L" : "M"}${x(one.median)} ${y(one.agreement)}`).join("");
  const body =
    `<path class="front" d="${path}"/>` +
    lines
      .map(
        (one) =>
          `<circle class="point ${one.kind}${front.includes(one) ? " best" : ""}" tabindex="0" role="button" data-point="${indexOf(one)}" cx="${x(one.median)}" cy="${y(one.agreement)}" r="6"><title>${describe(one)}</title></circle>`,
      )
      .join("");
  return frame(
    xTicks.map((at) => ({ at, text: String(at) })),
    yTicks.map((at) => ({ at, text: `${100 * at} %` })),
    x, y, "ms, median", "agreement with full depth", body,
  );
}

/** The points that no other beats in both: fastest first. */
function pareto(lines) {
  let best = -1;
  return [...lines]
    .sort((a, b) => a.median - b.median || b.agreement - a.agreement)
    .filter((one) => one.agreement > best && ((best = one.agreement), true));
}

/** One bar of what each stage takes. */
function stageBar(stages) {
  const entries = Object.entries(stages);
  const total = entries.reduce((sum, [, ms]) => sum + ms, 0);
  let left = 0;
  const parts = entries.map(([name, ms], i) => {
    const width = (ms / total) * 560;
    const part = `<rect class="stage-${i % 10}" x="${left}" y="0" width="${Math.max(width - 1, 0.5)}" height="34"><title>${name}: ${ms.toFixed(1)} ms</title></rect>`;
    left += width;
    return part;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" class="rt-plot rt-stages" viewBox="0 0 560 34" preserveAspectRatio="none" role="img" aria-label="Milliseconds by stage">${parts.join("")}</svg>`;
}

const describe = (one) =>
  `${one.contender}: ${one.median.toFixed(1)} ms (p5 ${one.p5.toFixed(1)}, p95 ${one.p95.toFixed(1)})` +
  (one.agreement == null ? "" : `, agreement ${Math.round(100 * one.agreement)} %`);

// The lines below a transcript, drawn as SVG: band, borders, events, raw and smoothed scores, cursor and selection.
const SVG = "http://www.w3.org/2000/svg";
const DASHES = { solid: "", dash: "7 4", dashdot: "8 3 2 3", dot: "2 3", longdash: "13 4", longdashdot: "13 3 2 3" };
const EDGE = { left: 46, right: 10, top: 18, bottom: 22 };
const EVENT_ROW = 12;
const LINES_HEIGHT = 134;

function drawn(name, className, attributes, text) {
  const made = document.createElementNS(SVG, name);
  if (className) made.setAttribute("class", className);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function ticks(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) found.push(Number(at.toPrecision(6)));
  return found;
}

class Plot {
  constructor(host, spec) {
    Object.assign(this, spec);
    this.host = host;
    this.width = Math.max(280, host.clientWidth || 900);
    this.inner = this.width - EDGE.left - EDGE.right;
    this.marks = this.eventPlaces();
    this.top = EDGE.top + EVENT_ROW * Math.max(1, ...this.marks.map(({ row }) => row + 1));
    this.bottom = this.top + LINES_HEIGHT;
    const box = { viewBox: `0 0 ${this.width} ${this.bottom + EDGE.bottom}`, "aria-hidden": "true" };
    this.svg = drawn("svg", "", box);
    this.grid();
    this.bandShape();
    this.borders();
    for (const line of this.lines) this.line(line, line.raw, `s-raw k${line.colour}`, "");
    for (const line of this.lines) {
      this.line(line, line.smooth, `s-line k${line.colour}${line.main ? " s-main" : ""}`, DASHES[line.dash]);
    }
    this.eventMarks();
    this.over = this.svg.appendChild(drawn("g", "", {}));
    host.replaceChildren(this.svg);
  }

  x(position) {
    const [low, high] = this.range;
    return EDGE.left + ((position - this.anchor - low) / (high - low)) * this.inner;
  }

  y(value) {
    const [low, high] = this.reach;
    return this.top + ((high - value) / (high - low)) * LINES_HEIGHT;
  }

  // The token below a point of the page.
  positionAt(clientX) {
    const box = this.svg.getBoundingClientRect();
    const inside = ((clientX - box.left) / box.width) * this.width - EDGE.left;
    const [low, high] = this.range;
    const found = Math.round(low + (inside / this.inner) * (high - low)) + this.anchor;
    return Math.max(0, Math.min(this.trace.length - 1, found));
  }

  add(name, className, attributes, text) {
    return this.svg.appendChild(drawn(name, className, attributes, text));
  }

  grid() {
    for (const value of ticks(...this.reach, 4)) {
      const y = this.y(value);
      this.add("line", value === 0 ? "s-zero" : "s-grid", { x1: EDGE.left, x2: this.width - EDGE.right, y1: y, y2: y });
      const text = String(value).replace("-", "−");
      this.add("text", "", { x: EDGE.left - 6, y: y + 4, "text-anchor": "end" }, text);
    }
    for (const value of ticks(...this.range, this.width / 90).filter(Number.isInteger)) {
      const text = String(value).replace("-", "−");
      this.add("text", "", { x: this.x(value + this.anchor), y: this.bottom + 15, "text-anchor": "middle" }, text);
    }
    this.add("text", "s-title", { x: EDGE.left, y: 11 }, this.title);
    this.add("text", "", { x: 2, y: this.top - 6 }, this.unit);
  }

  ends() {
    const [low, high] = this.range;
    return [Math.max(0, Math.floor(low) + this.anchor), Math.min(this.trace.length - 1, Math.ceil(high) + this.anchor)];
  }

  // Corners of a line; where tokens are denser than pixels, the lowest and highest of each pixel.
  corners(values) {
    const [from, to] = this.ends();
    const parts = [[]];
    const dense = (to - from) / this.inner > 2;
    let pixel = null;
    for (let i = from; i <= to; i++) {
      if (Number.isNaN(values[i])) {
        if (parts.at(-1).length) parts.push([]);
        pixel = null;
        continue;
      }
      const [x, y] = [this.x(i), this.y(values[i])];
      if (dense && pixel !== null && Math.floor(x) === pixel.at) {
        pixel.low[1] = Math.max(pixel.low[1], y);
        pixel.high[1] = Math.min(pixel.high[1], y);
      } else if (dense) {
        pixel = { at: Math.floor(x), low: [x, y], high: [x, y] };
        parts.at(-1).push(pixel.high, pixel.low);
      } else parts.at(-1).push([x, y]);
    }
    return parts.filter((part) => part.length);
  }

  line(line, values, className, dash) {
    const pen = (part) => "M" + part.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
    const path = this.corners(values).map(pen).join("");
    if (path) this.add("path", className, { d: path, ...(dash ? { "stroke-dasharray": dash } : {}) });
  }

  bandShape() {
    if (!this.band) return;
    const [low, high] = [this.corners(this.band.low), this.corners(this.band.high)];
    high.forEach((part, index) => {
      const around = [...part, ...(low[index] ?? []).slice().reverse()];
      this.add("path", "s-band", { d: "M" + around.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L") + "Z" });
    });
  }

  borders() {
    const [from, to] = this.ends();
    for (const [, role, , label, start, stop] of this.trace.blocks) {
      if (role === null || stop < from || start > to) continue;
      const x = this.x(start - 0.5);
      if (start >= from) this.add("line", "s-border", { x1: x, x2: x, y1: this.top, y2: this.bottom });
      const left = Math.max(x, EDGE.left);
      const room = Math.floor((this.x(Math.min(stop - 0.5, to)) - left - 4) / 5.8);
      const name = label || role;
      if (room >= Math.min(name.length, 6)) {
        const shown = name.length > room ? name.slice(0, room - 1) + "…" : name;
        this.add("text", "", { x: left + 3, y: this.bottom - 5 }, shown);
      }
    }
  }

  // Where the names of events stand: each in the lowest row in which no other is in its way.
  eventPlaces() {
    const [from, to] = this.ends();
    const rows = [];
    return this.trace.events
      .filter(([, position]) => from <= position && position <= to)
      .map(([name, position]) => {
        const x = this.x(position);
        const width = name.length * 6.4 + 8;
        const flip = x + width > this.width;
        const [left, right] = flip ? [x - width, x] : [x, x + width];
        let row = rows.findIndex((taken) => taken.every(([start, stop]) => right < start || stop < left));
        if (row < 0) row = rows.push([]) - 1;
        rows[row].push([left, right]);
        return { name, x, flip, row };
      });
  }

  eventMarks() {
    for (const { name, x, flip, row } of this.marks) {
      const y = this.top - 4 - EVENT_ROW * row;
      this.add("line", "s-eventline", { x1: x, x2: x, y1: y - 9, y2: this.bottom });
      this.add("text", "s-event", { x: x + (flip ? -4 : 4), y, "text-anchor": flip ? "end" : "start" }, name);
    }
  }

  // What moves: tokens in sight, selection, cursor.
  overlay({ view, brush, cursor }) {
    const { top, bottom } = this;
    const inside = (x) => Math.max(EDGE.left, Math.min(this.width - EDGE.right, x));
    const box = (className, [first, last]) => {
      const [left, right] = [inside(this.x(first - 0.5)), inside(this.x(last + 0.5))];
      if (right > left) {
        const made = drawn("rect", className, { x: left, y: top, width: right - left, height: bottom - top });
        this.over.append(made);
      }
    };
    this.over.replaceChildren();
    if (view) box("s-view", view);
    if (brush) box("s-brush", brush);
    const [from, to] = this.ends();
    if (cursor === null || cursor < from || cursor > to) return;
    const x = this.x(cursor);
    this.over.append(drawn("line", "s-cursor", { x1: x, x2: x, y1: top, y2: bottom }));
    for (const line of this.lines) {
      if (Number.isNaN(line.smooth[cursor])) continue;
      const dot = { cx: x, cy: this.y(line.smooth[cursor]), r: 3.4, fill: "none", "stroke-width": 2 };
      this.over.append(drawn("circle", `k${line.colour}`, dot));
    }
  }
}

function sample(colour, dash) {
  const svg = drawn("svg", "", { width: 34, height: 10, "aria-hidden": "true" });
  const way = { d: "M1 5H33", ...(DASHES[dash] ? { "stroke-dasharray": DASHES[dash] } : {}) };
  svg.append(drawn("path", `s-line k${colour}`, way));
  return svg;
}

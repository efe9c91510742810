// Numbers: what Python packed, opened row by row when it is asked for, and the same averages that Python takes.
const MISSING = -32768;
const SHADES = 8;

class Rows {
  constructor({ columns, steps, data }) {
    this.columns = columns;
    this.steps = steps;
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    this.whole = new DataView(bytes.buffer);
    this.opened = new Map();
  }

  row(index) {
    if (!this.opened.has(index)) {
      const found = new Float32Array(this.columns);
      for (let i = 0; i < this.columns; i++) {
        const value = this.whole.getInt16(2 * (index * this.columns + i), true);
        found[i] = value === MISSING ? NaN : value * this.steps[index];
      }
      this.opened.set(index, found);
    }
    return this.opened.get(index);
  }
}

// The mean of the `window` nearest values, fewer at the ends; what is missing is left out and stays missing.
function smoothed(values, window) {
  const n = values.length;
  const sums = new Float64Array(n + 1);
  const counts = new Float64Array(n + 1);
  for (let i = 0; i < n; i++) {
    const known = !Number.isNaN(values[i]);
    sums[i + 1] = sums[i] + (known ? values[i] : 0);
    counts[i + 1] = counts[i] + (known ? 1 : 0);
  }
  return Float32Array.from(values, (value, i) => {
    const start = Math.max(0, i - Math.floor((window - 1) / 2));
    const stop = Math.min(n, i + Math.floor(window / 2) + 1);
    return Number.isNaN(value) ? NaN : (sums[stop] - sums[start]) / (counts[stop] - counts[start]);
  });
}

// Percent of the benign tokens that score less, between the kept percentiles on a straight line.
function percentile(z, known, percents) {
  if (Number.isNaN(z)) return NaN;
  if (z <= known[0]) return z < known[0] ? 0 : percents[0];
  const last = known.length - 1;
  if (z >= known[last]) return percents[last];
  let low = 0;
  let high = last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (known[middle] <= z) low = middle;
    else high = middle;
  }
  const share = (z - known[low]) / (known[high] - known[low]);
  return percents[low] + share * (percents[high] - percents[low]);
}

class Trace {
  constructor(packed, page) {
    Object.assign(this, packed);
    this.length = packed.pieces.length;
    this.reference = page.references[packed.reference];
    this.percents = page.percentiles;
    this.scoreRows = new Rows(packed.scores);
    this.bandRows = new Rows(packed.bands);
    this.quantileRows = this.reference.quantiles && new Rows(this.reference.quantiles);
    this.index = new Map(packed.rows.map(([name, site], row) => [`${name}@${site}`, row]));
    this.title = packed.label && packed.label !== packed.id ? `${packed.label}: ${packed.id}` : packed.id;
  }

  has(name, site) {
    return this.index.has(`${name}@${site}`);
  }

  z(name, site) {
    const row = this.index.get(`${name}@${site}`);
    return row === undefined ? null : this.scoreRows.row(row);
  }

  // Mean and standard deviation that made a projection a z; null where the file does not say.
  scale(name, site) {
    return this.reference.scale[this.index.get(`${name}@${site}`)] ?? null;
  }

  band(site) {
    const at = this.sites.indexOf(site);
    return at < 0 ? null : { low: this.bandRows.row(at), high: this.bandRows.row(at + this.sites.length) };
  }

  percentileOf(name, site, z) {
    const row = this.index.get(`${name}@${site}`);
    return this.quantileRows ? percentile(z, this.quantileRows.row(row), this.percents) : null;
  }

  blockAt(position) {
    return this.blocks.find(([, , , , start, stop]) => start <= position && position < stop);
  }

  event(name) {
    return this.events.find(([called]) => called === name)?.[1] ?? null;
  }

  word(position) {
    const piece = this.pieces[position];
    const shown = piece.replaceAll("\n", "⏎").trim();
    if (!shown) return piece ? "␣" : "∅";
    return shown.length > 60 ? shown.slice(0, 60) + "…" : shown;
  }
}

function signed(value, digits = 2) {
  if (value === null || Number.isNaN(value)) return "–";
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) ? "−" : "+") + text;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

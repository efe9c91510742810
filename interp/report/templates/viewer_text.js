// The transcript as chat. Whatever it holds becomes text nodes and nothing else.
const CHUNK = 1000; // tokens that are put on the page together
const AT_ONCE = 6000; // tokens that are put on the page before anybody scrolls
const LONGEST = 400; // characters of one token before it is folded

class TextPane {
  constructor(trace, host) {
    this.trace = trace;
    this.box = host;
    this.spans = new Array(trace.length);
    this.folds = [];
    this.made = 0;
    this.paint = () => {};
    this.eventsAt = new Map();
    for (const [name, position] of trace.events) {
      this.eventsAt.set(position, [...(this.eventsAt.get(position) ?? []), name]);
    }
    this.watch = new IntersectionObserver(
      (seen) => seen.filter((one) => one.isIntersecting).forEach((one) => this.unfold(one.target)),
      { root: host, rootMargin: "300px" },
    );
    this.build();
  }

  build() {
    let bubble = null;
    let message;
    for (const block of this.trace.blocks) {
      const [at, role, , , start] = block;
      if (bubble === null || at !== message) {
        bubble = element("div", role ? `v-bubble v-${/^[a-z_]+$/.test(role) ? role : "other"}` : "v-between");
        if (role) bubble.append(element("div", "v-role", start >= this.trace.prompt ? `${role}, generated` : role));
        this.box.append(bubble);
        message = at;
      }
      bubble.append(this.part(block));
    }
  }

  part([, , kind, label, start, stop, head]) {
    const text = this.trace.pieces.slice(start, Math.min(stop, start + 50)).join("");
    const blank = !kind && !text.trim() && stop - start < 50;
    const part = element("div", kind ? `v-part v-${kind}` : blank ? "v-blank" : "v-plain");
    if (kind) {
      const name = element("div", "v-label");
      name.append(element("bdi", "", label));
      part.append(name);
    }
    const run = element("bdi", "v-run");
    run.dir = "auto";
    if (head > start) run.append(this.chunk(start, head, "v-head"));
    for (let from = Math.max(start, head); from < stop; from += CHUNK) {
      const to = Math.min(from + CHUNK, stop);
      run.append(this.made < AT_ONCE ? this.chunk(from, to) : this.fold(from, to));
    }
    part.append(run);
    return part;
  }

  chunk(start, stop, className = "") {
    const chunk = element("span", className);
    for (let position = start; position < stop; position++) {
      for (const name of this.eventsAt.get(position) ?? []) chunk.append(element("span", "v-event", name));
      chunk.append(this.token(position));
    }
    this.made += stop - start;
    return chunk;
  }

  token(position) {
    const piece = this.trace.pieces[position];
    const span = element("span", "v-t");
    span.dataset.p = position;
    this.spans[position] = span;
    if (piece.length <= LONGEST) {
      span.textContent = piece;
      return span;
    }
    span.textContent = piece.slice(0, LONGEST);
    const rest = (piece.length - LONGEST).toLocaleString("en");
    const more = element("button", "v-fold", `show ${rest} more characters of this token`);
    more.type = "button";
    more.addEventListener("click", () => {
      span.textContent = piece;
      more.remove();
    });
    const both = element("span");
    both.append(span, more);
    return both;
  }

  fold(start, stop) {
    const button = element("button", "v-fold", `tokens ${start} to ${stop - 1}`);
    button.type = "button";
    Object.assign(button.dataset, { start, stop });
    button.addEventListener("click", () => this.unfold(button));
    this.folds.push(button);
    this.watch.observe(button);
    return button;
  }

  unfold(button) {
    if (!button.isConnected) return;
    const [start, stop] = [Number(button.dataset.start), Number(button.dataset.stop)];
    button.replaceWith(this.chunk(start, stop));
    this.watch.unobserve(button);
    this.folds = this.folds.filter((one) => one !== button);
    for (let position = start; position < stop; position++) this.paint(this.spans[position], position);
  }

  span(position) {
    if (!this.spans[position]) {
      const holds = (one) => Number(one.dataset.start) <= position && position < Number(one.dataset.stop);
      const fold = this.folds.find(holds);
      if (fold) this.unfold(fold);
    }
    return this.spans[position];
  }

  colour(values, band, limit, brush) {
    this.paint = (span, position) => {
      const z = values ? values[position] : NaN;
      const shade = Number.isNaN(z) ? 0 : Math.round(Math.max(-1, Math.min(1, z / limit)) * SHADES);
      let name = "v-t";
      if (shade) name += ` ${shade < 0 ? "v-n " : ""}v-${Math.abs(shade)}`;
      if (band && z > band.high[position]) name += " v-up";
      if (band && z < band.low[position]) name += " v-down";
      if (brush && brush[0] <= position && position <= brush[1]) name += " v-in";
      if (position === this.here) name += " v-here";
      span.className = name;
    };
    this.spans.forEach((span, position) => this.paint(span, position));
  }

  mark(position) {
    const before = this.here;
    this.here = position;
    for (const at of [before, position]) {
      if (at !== undefined && at !== null && this.spans[at]) this.paint(this.spans[at], at);
    }
  }

  // Puts a token `share` of the way down the box; says where the box then stands.
  scrollTo(position, share = 0.4) {
    const span = this.span(position);
    if (!span) return;
    const from = this.box.getBoundingClientRect();
    this.box.scrollTop += span.getBoundingClientRect().top - from.top - share * from.height;
    this.expected = Math.round(this.box.scrollTop);
  }

  keepInSight(position) {
    const span = this.span(position);
    if (!span) return;
    const [box, at] = [this.box.getBoundingClientRect(), span.getBoundingClientRect()];
    if (at.top < box.top + 8 || at.bottom > box.bottom - 8) this.scrollTo(position);
  }

  // First and last token that can be seen: tokens on the page stand one below the other, so halving finds them.
  inSight() {
    const box = this.box.getBoundingClientRect();
    const known = [];
    this.spans.forEach((span, position) => known.push(position));
    const first = this.firstBelow(known, (rect) => rect.bottom > box.top + 2);
    const after = this.firstBelow(known, (rect) => rect.top > box.bottom - 6);
    return [known[Math.min(first, known.length - 1)] ?? 0, known[Math.max(first, after - 1)] ?? this.trace.length - 1];
  }

  firstBelow(known, holds) {
    let [low, high] = [0, known.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (holds(this.spans[known[middle]].getBoundingClientRect())) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  unfoldAll(most) {
    if (this.trace.length <= most) [...this.folds].forEach((fold) => this.unfold(fold));
  }

  close() {
    this.watch.disconnect();
  }
}

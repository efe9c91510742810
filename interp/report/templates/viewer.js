// The viewer itself: what is chosen, and everything that follows from it.
class Viewer {
  constructor(root) {
    this.root = root;
    const page = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
    this.page = page;
    this.traces = page.traces.map((packed) => new Trace(packed, page));
    this.control = (name) => root.querySelector(`[data-c="${name}"]`);
    this.output = (name) => root.querySelector(`[data-o="${name}"]`);
    const [name, site] = this.traces[0].rows[0];
    const second = this.traces.length > 1 ? 1 : null;
    Object.assign(this, { first: 0, second, site, main: name, window: page.window, unit: "z" });
    Object.assign(this, { shown: new Set([name]), brush: null, range: null, cursor: null, panes: [], plots: [] });
    this.sites = this.allSites();
    this.fillControls();
    this.listen();
    this.choose();
  }

  allSites() {
    const depth = (site) => Number(site.match(/\d+/)?.[0] ?? 0);
    const found = [...new Set(this.traces.flatMap((trace) => trace.rows.map(([, site]) => site)))];
    return found.sort((one, other) => depth(one) - depth(other) || (one < other ? -1 : 1));
  }

  get pair() {
    return [this.first, ...(this.second === null ? [] : [this.second])].map((index) => this.traces[index]);
  }

  // ---- controls

  fillControls() {
    const options = (select, entries, chosen) => {
      select.replaceChildren(
        ...entries.map(([value, text]) => {
          const option = element("option", "", text);
          option.value = value;
          option.selected = value === String(chosen);
          return option;
        }),
      );
    };
    this.options = options;
    const list = this.traces.map((trace, index) => [String(index), trace.title]);
    options(this.control("first"), list, this.first);
    options(this.control("second"), [["", "nothing"], ...list], this.second ?? "");
    this.control("site").max = this.sites.length - 1;
    this.control("window").value = this.window;
    this.control("names").append(...this.page.names.map((name, index) => this.choice(name, index)));
    const scaled = this.traces.every((trace) => trace.reference.scale.every(Boolean));
    this.control("unit").disabled = !scaled;
    this.scaleKey();
  }

  choice(name, index) {
    const row = element("div", "v-choice");
    row.dataset.name = name;
    const check = element("label");
    const box = Object.assign(element("input"), { type: "checkbox", checked: this.shown.has(name) });
    check.append(box, sample(...this.style(name)), element("bdi", "", name));
    const colour = element("label");
    const radio = Object.assign(element("input"), { type: "radio", checked: name === this.main });
    radio.name = `v-main-${[...document.querySelectorAll(".viewer")].indexOf(this.root)}`;
    colour.append(radio, element("span", "", "colours"));
    radio.setAttribute("aria-label", `${name} colours the text`);
    box.addEventListener("change", () => {
      if (box.checked) this.shown.add(name);
      else this.shown.delete(name);
      this.draw();
    });
    radio.addEventListener("change", () => {
      this.main = name;
      this.shown.add(name);
      this.draw();
    });
    row.append(check, colour);
    return row;
  }

  style(name) {
    const index = this.page.names.indexOf(name);
    return [index % 6, this.page.styles[index][1]];
  }

  scaleKey() {
    const scale = this.root.querySelector(".v-scale");
    const end = this.page.limit.toFixed(1);
    scale.setAttribute("aria-label", `Colours run from purple at z −${end} over none at 0 to orange at +${end}`);
    scale.append(element("b", "", `z −${end}`));
    for (let shade = -SHADES; shade <= SHADES; shade++) {
      scale.append(element("i", `v-t ${shade < 0 ? "v-n" : ""} ${shade ? `v-${Math.abs(shade)}` : ""}`));
    }
    scale.append(element("b", "", `+${end}`));
  }

  listen() {
    const on = (name, event, act) => this.control(name).addEventListener(event, act);
    this.root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    on("first", "change", (event) => this.pick({ first: Number(event.target.value) }));
    on("second", "change", (event) => this.pick({ second: event.target.value === "" ? null : Number(event.target.value) }));
    on("align", "change", (event) => this.align(event.target.value));
    on("site", "input", (event) => this.toSite(this.sites[Number(event.target.value)]));
    on("window", "input", (event) => this.set({ window: Number(event.target.value) }));
    on("unit", "change", (event) => this.set({ unit: event.target.value }));
    on("event", "change", (event) => this.toEvent(event.target.value));
    on("theme", "click", () => this.nextTheme());
    on("zoom", "click", () => this.set({ range: this.brush && this.brush.map((at, end) => at + (end ? 0.5 : -0.5)) }));
    on("whole", "click", () => this.set({ range: null, brush: null }));
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.control("menu").open = false;
      this.hideCard();
    });
    document.addEventListener("click", (event) => {
      if (!this.control("menu").contains(event.target)) this.control("menu").open = false;
    });
    addEventListener("beforeprint", () => this.panes.forEach((pane) => pane.unfoldAll(20000)));
    let width = 0;
    new ResizeObserver(([seen]) => {
      const now = Math.round(seen.contentRect.width);
      if (now !== width) requestAnimationFrame(() => this.lines());
      width = now;
    }).observe(this.root.querySelector(".v-plots"));
  }

  nextTheme() {
    const next = { auto: "light", light: "dark", dark: "auto" }[this.root.dataset.theme ?? "auto"];
    const places = [this.root, ...document.querySelectorAll(".v-page")];
    for (const place of places) {
      if (next === "auto") delete place.dataset.theme;
      else place.dataset.theme = next;
    }
    this.control("theme").textContent = `Theme: ${next}`;
  }

  set(changes) {
    Object.assign(this, changes);
    this.draw();
  }

  pick(changes) {
    Object.assign(this, changes, { brush: null, range: null, cursor: null });
    this.choose();
  }

  toSite(site) {
    this.site = site;
    const here = this.page.names.filter((name) => this.traces[this.first].has(name, site));
    if (!here.includes(this.main) && here.length) {
      this.main = here[0];
      this.shown.add(this.main);
    }
    this.draw();
  }

  // Another pair of transcripts: their text is built anew.
  choose() {
    const host = this.root.querySelector(".v-texts");
    this.panes.forEach((pane) => pane.close());
    host.replaceChildren();
    this.panes = this.pair.map((trace, number) => this.pane(trace, number, host));
    const plots = this.root.querySelector(".v-plots");
    this.hosts = this.pair.map((trace, number) => this.plotHost(trace, number));
    plots.replaceChildren(...this.hosts);
    const shared = this.pair[0].events.map(([name]) => name).filter((name) => this.pair.at(-1).event(name) !== null);
    const kept = ["decision", "first token of the action"].find((name) => shared.includes(name)) ?? shared.at(-1);
    this.options(this.control("align"), [["", "the start"], ...shared.map((name) => [name, name])], kept ?? "");
    const events = this.pair[0].events.map(([name, at]) => [name, `${name} (token ${at})`]);
    this.options(this.control("event"), [["", events.length ? "go to …" : "none found"], ...events], "");
    this.control("align").disabled = this.pair.length < 2;
    this.align(this.pair.length < 2 ? "" : (kept ?? ""));
  }

  align(name) {
    this.alignedAt = name;
    this.anchors = this.pair.map((trace) => (name ? trace.event(name) : 0));
    this.set({ range: null, brush: null });
    const opening = name ? this.anchors[0] : this.pair[0].events[0]?.[1];
    if (opening === undefined) return;
    this.panes.forEach((pane, number) => {
      const place = number ? this.twin(0, opening) : opening;
      if (place !== null) pane.scrollTo(place, 0.7);
    });
    this.overlays();
  }

  pane(trace, number, host) {
    const article = element("article");
    const title = element("h2");
    const generated = trace.length - trace.prompt;
    const size = `${trace.length} tokens${generated > 0 ? `, ${generated} generated` : ""}`;
    title.append(element("bdi", "", trace.title), " ", element("small", "", size));
    const box = element("div", "v-text");
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `Transcript ${trace.title}; arrow keys move from token to token`);
    article.append(title, box);
    host.append(article);
    const pane = new TextPane(trace, box);
    const token = (event) => event.target.closest?.("[data-p]");
    box.addEventListener("pointermove", (event) => {
      const found = token(event);
      if (found) this.point(number, Number(found.dataset.p), { card: found });
      else this.hideCard();
    });
    box.addEventListener("pointerleave", () => this.hideCard());
    box.addEventListener("click", (event) => token(event) && this.point(number, Number(token(event).dataset.p), {}));
    box.addEventListener("keydown", (event) => this.textKey(number, event));
    box.addEventListener("blur", () => this.hideCard());
    box.addEventListener("scroll", () => this.scrolled(number));
    return pane;
  }

  // ---- following: text, lines and the other transcript stay in step

  // The token of the other transcript that stands at the same distance from the event; null beyond its ends.
  twin(number, position) {
    const other = 1 - number;
    if (!this.pair[other]) return null;
    const at = position - this.anchors[number] + this.anchors[other];
    return at >= 0 && at < this.pair[other].length ? at : null;
  }

  point(number, position, { card = null, follow = false }) {
    this.cursor = { number, position };
    const places = [];
    places[number] = position;
    if (this.pair.length > 1) places[1 - number] = this.twin(number, position);
    this.panes.forEach((pane, index) => pane.mark(places[index] ?? null));
    if (follow) this.panes.forEach((pane, index) => places[index] != null && pane.keepInSight(places[index]));
    this.readout(places);
    this.overlays();
    const shown = card ?? (follow ? this.panes[number].span(position) : null);
    if (shown) this.showCard(this.pair[number], position, shown);
    else this.hideCard();
  }

  scrolled(number) {
    const pane = this.panes[number];
    if (!pane || this.frame?.[number]) return;
    (this.frame ??= [])[number] = requestAnimationFrame(() => {
      this.frame[number] = null;
      if (this.panes[number] !== pane) return;
      const led = Math.abs(Math.round(pane.box.scrollTop) - (pane.expected ?? -9)) > 2;
      pane.expected = null;
      if (led && this.pair.length > 1) {
        const [first, last] = pane.inSight();
        const at = this.twin(number, Math.round((first + last) / 2));
        if (at !== null) this.panes[1 - number].scrollTo(at, 0.5);
      }
      this.overlays();
    });
  }

  textKey(number, event) {
    const trace = this.pair[number];
    const at = this.cursor?.number === number ? this.cursor.position : this.panes[number].inSight()[0] - 1;
    const starts = trace.blocks.map(([, , , , start]) => start);
    const next = {
      ArrowRight: at + 1,
      ArrowLeft: at - 1,
      ArrowDown: starts.find((start) => start > at) ?? trace.length - 1,
      ArrowUp: starts.findLast((start) => start < at) ?? 0,
      Home: 0,
      End: trace.length - 1,
    }[event.key];
    if (next === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.point(number, Math.max(0, Math.min(trace.length - 1, next)), { follow: true });
  }

  toEvent(name) {
    const at = this.pair[0].event(name);
    if (at !== null) this.point(0, at, { follow: true });
    this.control("event").value = "";
  }

  // ---- lines

  plotHost(trace, number) {
    const host = element("div", "v-plot");
    host.tabIndex = 0;
    host.setAttribute("role", "group");
    let from = null;
    host.addEventListener("pointerdown", (event) => {
      from = this.plots[number].positionAt(event.clientX);
      host.setPointerCapture(event.pointerId);
    });
    host.addEventListener("pointermove", (event) => {
      const at = this.plots[number].positionAt(event.clientX);
      if (from !== null && at !== from) this.select(number, from, at);
      this.point(number, at, {});
    });
    host.addEventListener("pointerup", (event) => {
      const at = this.plots[number].positionAt(event.clientX);
      if (at === from) {
        this.set({ brush: null });
        this.point(number, at, {});
        this.panes.forEach((pane, index) => {
          const place = index === number ? at : this.twin(number, at);
          if (place !== null) pane.scrollTo(place);
        });
      }
      from = null;
    });
    host.addEventListener("pointercancel", () => (from = null));
    host.addEventListener("keydown", (event) => this.plotKey(number, event));
    return host;
  }

  plotKey(number, event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return this.textKey(number, event);
    event.preventDefault();
    const at = this.cursor?.number === number ? this.cursor.position : this.anchors[number];
    const next = Math.max(0, Math.min(this.pair[number].length - 1, at + step));
    if (event.shiftKey) {
      this.origin ??= at;
      this.select(number, this.origin, next);
    } else this.origin = null;
    this.point(number, next, { follow: true });
    return undefined;
  }

  // Selects tokens, and puts the first of them in sight of the text.
  select(number, one, other) {
    const ends = [Math.min(one, other), Math.max(one, other)];
    this.brush = ends.map((at) => at - this.anchors[number]);
    this.panes.forEach((pane, index) => {
      const first = this.brush[0] + this.anchors[index];
      if (first < pane.trace.length) pane.scrollTo(Math.max(0, first), 0.15);
    });
    this.colourText();
    this.overlays();
    this.control("zoom").disabled = false;
    this.control("whole").disabled = false;
  }

  linesOf(trace) {
    const names = this.page.names.filter((name) => this.shown.has(name) && trace.has(name, this.site));
    return names.map((name) => {
      const raw = this.inUnit(trace, name, trace.z(name, this.site));
      const [colour, dash] = this.style(name);
      return { name, raw, smooth: smoothed(raw, this.window), colour, dash, main: name === this.main };
    });
  }

  inUnit(trace, name, values) {
    const scale = this.unit === "raw" && trace.scale(name, this.site);
    return scale ? values.map((z) => z * scale[1] + scale[0]) : values;
  }

  bandOf(trace) {
    const band = trace.band(this.site);
    if (!band || !trace.has(this.main, this.site)) return null;
    const end = (values) => smoothed(this.inUnit(trace, this.main, values), this.window);
    return { low: end(band.low), high: end(band.high) };
  }

  lines() {
    const specs = this.pair.map((trace, number) => {
      const anchor = this.anchors[number];
      return { trace, anchor, lines: this.linesOf(trace), band: this.bandOf(trace) };
    });
    const range = this.range ?? this.span();
    const reach = this.reach(specs, range);
    const unit = this.unit === "raw" ? "raw" : "z";
    this.plots = specs.map((spec, number) => {
      const title = spec.trace.title.length > 90 ? spec.trace.title.slice(0, 89) + "…" : spec.trace.title;
      const names = spec.lines.map(({ name }) => name).join(", ") || "no direction";
      const label = `${spec.trace.title}: ${names} at ${this.site}, arrow keys move the cursor, with shift they select`;
      this.hosts[number].setAttribute("aria-label", label);
      return new Plot(this.hosts[number], { ...spec, range, reach, title, unit });
    });
    this.overlays();
  }

  span() {
    const low = Math.min(...this.anchors.map((anchor) => -anchor));
    const high = Math.max(...this.pair.map((trace, index) => trace.length - 1 - this.anchors[index]));
    return [low - 0.5, Math.max(high, low + 1) + 0.5];
  }

  reach(specs, [first, last]) {
    let [low, high] = this.unit === "raw" ? [Infinity, -Infinity] : [-1, 1];
    for (const { trace, anchor, lines, band } of specs) {
      const rows = [...lines.flatMap(({ raw, smooth }) => [raw, smooth]), ...(band ? [band.low, band.high] : [])];
      const [from, to] = [Math.max(0, Math.ceil(first) + anchor), Math.min(trace.length - 1, Math.floor(last) + anchor)];
      for (const values of rows) {
        for (let i = from; i <= to; i++) {
          if (values[i] < low) low = values[i];
          if (values[i] > high) high = values[i];
        }
      }
    }
    if (!(low < high)) return [-1, 1];
    const margin = 0.06 * (high - low);
    return [low - margin, high + margin];
  }

  overlays() {
    this.plots.forEach((plot, number) => {
      const brush = this.brush && this.brush.map((at) => at + this.anchors[number]);
      const { cursor } = this;
      const at = cursor && (cursor.number === number ? cursor.position : this.twin(cursor.number, cursor.position));
      plot.overlay({ view: this.panes[number].inSight(), brush, cursor: at });
    });
  }

  // ---- everything at once

  draw() {
    this.output("site").textContent = this.site;
    this.control("site").value = this.sites.indexOf(this.site);
    this.control("site").setAttribute("aria-valuetext", this.site);
    this.output("window").textContent = this.window === 1 ? "none" : `${this.window} tokens`;
    this.control("window").setAttribute("aria-valuetext", `mean of ${this.window} tokens`);
    const shown = [...this.shown].filter((name) => this.pair[0].has(name, this.site));
    this.output("menu").textContent = shown.length === 1 ? shown[0] : `${shown.length} of ${this.page.names.length}`;
    for (const row of this.control("names").querySelectorAll(".v-choice")) {
      const { name } = row.dataset;
      const [box, radio] = row.querySelectorAll("input");
      const here = this.pair.some((trace) => trace.has(name, this.site));
      row.classList.toggle("v-off", !here);
      row.title = here ? "" : `not read at ${this.site}`;
      [box.checked, radio.checked, radio.disabled] = [this.shown.has(name), name === this.main, !here];
    }
    this.control("zoom").disabled = !this.brush;
    this.control("whole").disabled = !this.brush && !this.range;
    this.output("key").textContent = `${this.main} at ${this.site}`;
    this.colourText();
    this.legend(shown);
    this.lines();
    if (this.cursor) this.point(this.cursor.number, this.cursor.position, {});
    else this.readout([]);
  }

  colourText() {
    this.panes.forEach((pane, number) => {
      const z = pane.trace.z(this.main, this.site);
      const brush = this.brush && this.brush.map((at) => at + this.anchors[number]);
      pane.colour(z, z && pane.trace.band(this.site), this.page.limit, brush);
    });
  }

  legend(shown) {
    const entries = this.page.names.filter((name) => shown.includes(name)).map((name) => {
      const entry = element("span");
      entry.append(sample(...this.style(name)), element("bdi", "", name));
      return entry;
    });
    this.root.querySelector(".v-legend").replaceChildren(...entries);
    this.root.querySelector("figcaption").textContent = this.caption();
  }

  caption() {
    const { transcripts, tokens, n_random: random, units } = this.pair[0].reference;
    const ahead = Math.floor(this.window / 2);
    const mean = `means over the ${this.window} nearest tokens (${this.window - 1 - ahead} before, ${ahead} after)`;
    const lines = this.window === 1 ? "Lines are the scores themselves" : `Lines are ${mean}, raw scores faint behind them`;
    const size = tokens ? ` (${tokens.toLocaleString("en")} tokens of ${transcripts} transcripts)` : "";
    const scale = this.unit === "raw" ? "the projection in the model's own units" : `z, ${units}${size}`;
    const pair = this.pair.length < 2 ? "" : ` Both transcripts are aligned at ${this.alignedAt || "their start"}, token 0 of the axis.`;
    return (
      `${lines}; the scale is ${scale}. The grey band holds the middle 95 % of ${random} random directions at ` +
      `${this.site}, averaged alike. Dotted lines are borders of messages and their parts; solid ones are events.${pair} ` +
      "The frame marks the tokens in sight above. Averages look ahead: read the raw scores to say what came first."
    );
  }

  // ---- what is said of a token

  sentence(trace, position) {
    const z = trace.z(this.main, this.site)?.[position] ?? NaN;
    if (Number.isNaN(z)) return "no score";
    const band = trace.band(this.site);
    const side = z > band.high[position] ? "above" : z < band.low[position] ? "below" : "within";
    const rank = trace.percentileOf(this.main, this.site, z);
    const percent = rank === null ? "" : `, above ${rank.toFixed(rank > 99 || rank < 1 ? 2 : 1)} % of benign tokens`;
    const ends = `${signed(band.low[position], 1)} to ${signed(band.high[position], 1)}`;
    return `z ${signed(z)}${percent}, ${side} the random band (${ends})`;
  }

  strongest(trace, position, count) {
    const here = trace.names.filter((name) => trace.has(name, this.site));
    const scored = here.map((name) => [name, trace.z(name, this.site)[position]]).filter(([, z]) => !Number.isNaN(z));
    return scored.sort(([, one], [, other]) => other - one).slice(0, count);
  }

  readout(places) {
    const lines = this.pair.map((trace, number) => {
      const position = places[number];
      const line = element("span");
      if (position === null || position === undefined) {
        line.textContent = number || places.length ? "" : "Point at a token, or focus the text and use the arrow keys.";
        return line;
      }
      const top = this.strongest(trace, position, 3).map(([name, z]) => `${name} ${signed(z, 1)}`).join(", ");
      line.append(element("b", "", `“${trace.word(position)}”`), ` token ${position}, ${trace.blockAt(position)[3] || trace.blockAt(position)[1] || "template"}: `);
      line.append(`${this.sentence(trace, position)}${top ? `. Highest here: ${top}` : ""}`);
      return line;
    });
    this.root.querySelector(".v-readout").replaceChildren(...lines);
  }

  showCard(trace, position, span) {
    const card = this.root.querySelector(".v-card");
    const table = element("table");
    for (const [name, z] of this.strongest(trace, position, 5)) {
      const row = table.insertRow();
      row.append(element("th", "", name));
      row.insertCell().textContent = signed(z);
    }
    card.replaceChildren(
      element("b", "", trace.word(position)),
      element("p", "v-soft", `token ${position}, ${this.main} at ${this.site}`),
      element("p", "", this.sentence(trace, position)),
      element("p", "v-soft", table.rows.length ? "Highest directions here, z" : ""),
      table,
    );
    card.hidden = false;
    const [at, size] = [span.getClientRects()[0] ?? span.getBoundingClientRect(), card.getBoundingClientRect()];
    const below = at.bottom + 8 + size.height < innerHeight;
    card.style.left = `${Math.max(6, Math.min(at.left, innerWidth - size.width - 6))}px`;
    card.style.top = `${below ? at.bottom + 8 : Math.max(6, at.top - size.height - 8)}px`;
  }

  hideCard() {
    this.root.querySelector(".v-card").hidden = true;
  }
}

for (const root of document.querySelectorAll("[data-viewer]")) new Viewer(root);

// SPDX-License-Identifier: GPL-2.0-only
// A plot that is zoomed, and read by pointer and by keyboard; and all plots of the page.
const NEAR = 40; // pixels from the pointer to a mark

class LivePlot extends Plot {
  constructor(...parts) {
    super(...parts);
    this.tools();
    this.legend();
    this.listen();
  }

  tools() {
    const bar = this.box.querySelector(".tools");
    const buttons = [
      ["+", "Zoom in", () => this.zoom(0.5)], ["\u2212", "Zoom out", () => this.zoom(2)],
      ["\u25c0", "Move left", () => this.pan(-0.5)], ["\u25b6", "Move right", () => this.pan(0.5)],
      ["All", "Show all", () => this.setView(this.full)], ["Max", "Go to the greatest value", () => this.toGreatest()],
    ];
    for (const [text, label, act] of buttons) {
      make("button", { type: "button", "aria-label": label, title: label }, bar, text).addEventListener("click", act);
    }
  }

  legend() {
    const bar = this.box.querySelector(".legend");
    const names = new Map();
    for (const each of this.series) if (!names.has(each.color)) names.set(each.color, each.name);
    if (names.size < 2) return;
    for (const [color, name] of names) {
      const button = make("button", { type: "button", "aria-pressed": "true" }, bar);
      const swatch = make("svg", { width: 26, height: 12, "aria-hidden": "true", class: "s" + (color % 8) }, button);
      make("path", { d: "M0 6H26", class: "line" }, swatch);
      button.append(name);
      button.addEventListener("click", () => {
        const isHidden = this.hidden.delete(color) ? false : Boolean(this.hidden.add(color));
        button.setAttribute("aria-pressed", String(!isHidden));
        this.cursor = null;
        this.draw();
      });
    }
  }

  read(each, i) {
    this.cursor = { each, i };
    this.drawCursor();
    this.reading.replaceChildren(...this.words(each, i));
  }

  words(each, i) {
    const { x, y } = this.spec;
    const raw = each.raw;
    const line = (text) => make("p", {}, null, text);
    const index = each.packets && each.packets[i];
    if (index !== undefined) return this.packetWords(index, raw.y[i]);
    if (each.form === "steps") return [line(`${each.name}: ${percent(raw.y[i])} of the packets took at least ${us(raw.x[i])}`)];
    if (each.form === "bars") return [line(`${seconds(raw.x[i])} to ${seconds(raw.x2[i])}: from ${us(raw.low[i])} to ${us(raw.high[i])}`)];
    const low = raw.low && raw.low[i], high = raw.high && raw.high[i];
    const word = WORDS[y.unit];
    const value = raw.y[i] === null ? "no value" : word(raw.y[i]);
    const ends = low === null || low === undefined ? "" : ` [${word(low)}, ${word(high)}]`;
    const where = raw.notes ? raw.notes[i] : x.categories.length ? "" : WORDS[x.unit](raw.x[i]);
    return [line(`${each.name}, ${where}: ${value}${ends}`)];
  }

  // A packet with its capture points: absolute, and since the first of the same clock.
  packetWords(index, value) {
    const { head, stamps, zeros, clocks, time, cause } = this.packets;
    const which = Object.entries(head).map(([name, values]) => `${name} ${values[index]}`).join(", ");
    const why = cause && cause[index] ? `; no stamp: ${cause[index]}` : "";
    const nodes = [make("p", {}, null, `${us(value)}: ${which}, at ${seconds(time[index])}${why}`)];
    const list = make("ul");
    const firsts = {};
    for (const name of Object.keys(stamps)) {
      if (stamps[name][index] === null) continue;
      const ns = BigInt(zeros[name]) + BigInt(stamps[name][index]);
      const clock = clocks[name];
      if (firsts[clock] === undefined || ns < firsts[clock]) firsts[clock] = ns;
    }
    for (const name of Object.keys(stamps)) {
      if (stamps[name][index] === null) continue;
      const ns = BigInt(zeros[name]) + BigInt(stamps[name][index]);
      make("li", {}, list, `${name} ${ns} (${clocks[name]}) +${us(Number(ns - firsts[clocks[name]]))}`);
    }
    return [...nodes, list];
  }

  setView(view) {
    const span = Math.max(view[1] - view[0], (this.full[1] - this.full[0]) * 1e-9);
    const whole = this.full[1] - this.full[0];
    const low = Math.min(Math.max(view[0], this.full[0]), this.full[1] - Math.min(span, whole));
    const next = span >= whole ? [...this.full] : [low, low + span];
    for (const plot of this.link ? plots.filter((each) => each.link === this.link) : [this]) {
      plot.view = [...next];
      plot.draw();
    }
  }

  zoom(factor) {
    const [low, high] = this.view;
    const at = this.cursor ? this.middle(this.cursor.each, this.cursor.i)[0] : (low + high) / 2;
    const share = at >= low && at <= high ? (at - low) / (high - low) : 0.5;
    const center = at >= low && at <= high ? at : (low + high) / 2;
    const span = (high - low) * factor;
    this.setView([center - span * share, center + span * (1 - share)]);
  }

  pan(share) {
    const shift = (this.view[1] - this.view[0]) * share;
    const [low, high] = this.full;
    const bounded = Math.max(low - this.view[0], Math.min(high - this.view[1], shift));
    this.setView([this.view[0] + bounded, this.view[1] + bounded]);
  }

  toGreatest() {
    let best = null;
    for (const each of this.shown()) {
      for (let i = 0; i < each.size; i++) {
        const mark = this.middle(each, i);
        const height = each.form === "steps" ? mark[0] : mark[1];
        if (height !== null && (!best || height > best.height || (height === best.height && each.packets && !best.each.packets))) best = { each, i, height };
      }
    }
    if (!best) return;
    const [x] = this.middle(best.each, best.i);
    this.read(best.each, best.i);
    if (x < this.view[0] || x > this.view[1]) this.setView([x - (this.view[1] - this.view[0]) / 2, x + (this.view[1] - this.view[0]) / 2]);
  }

  nearest(px, py) {
    let best = null;
    for (const each of this.shown()) {
      for (let i = 0; i < each.size; i++) {
        const [x, y] = this.middle(each, i);
        if (y === null || x < this.view[0] || x > this.view[1]) continue;
        const far = Math.abs(this.px(x) - px) + Math.abs(this.py(y) - py) * (each.form === "bars" ? 1 : 0.7);
        if (!best || far < best.far) best = { each, i, far };
      }
    }
    return best;
  }

  // The next mark of the same series, or of the next series, in view.
  move(dx, dy) {
    const shown = this.shown();
    if (!shown.length) return;
    const isIn = (each, i) => { const [x, y] = this.middle(each, i); return y !== null && x >= this.view[0] && x <= this.view[1]; };
    const old = this.cursor && shown.includes(this.cursor.each) ? this.cursor : null;
    let each = old ? old.each : shown[0];
    if (dy && old) each = shown[(shown.indexOf(each) + dy + shown.length) % shown.length];
    const places = [...Array(each.size).keys()].filter((i) => isIn(each, i));
    places.sort((a, b) => each.x[a] - each.x[b]);
    if (!places.length) return;
    let next = dx < 0 ? places.length - 1 : 0;
    if (Math.abs(dx) === Infinity) next = dx > 0 ? places.length - 1 : 0;
    else if (old && dy) {
      const [x] = this.middle(old.each, old.i);
      next = places.reduce((b, i, n) => (Math.abs(each.x[i] - x) < Math.abs(each.x[places[b]] - x) ? n : b), 0);
    } else if (old && places.includes(old.i)) next = Math.min(Math.max(places.indexOf(old.i) + dx, 0), places.length - 1);
    this.read(each, places[next]);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = {
      ArrowLeft: () => (event.shiftKey ? this.pan(-0.5) : this.move(-1, 0)), ArrowRight: () => (event.shiftKey ? this.pan(0.5) : this.move(1, 0)),
      ArrowUp: () => this.move(0, -1), ArrowDown: () => this.move(0, 1), Home: () => this.move(-Infinity, 0), End: () => this.move(Infinity, 0),
      "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), 0: () => this.setView(this.full), Escape: () => this.setView(this.full), m: () => this.toGreatest(),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  listen() {
    const place = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const inverse = (px) => this.view[0] + ((px - this.area.left) / (this.area.right - this.area.left)) * (this.view[1] - this.view[0]);
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("dblclick", () => this.setView(this.full));
    this.canvas.addEventListener("pointerdown", (event) => { this.drag = { from: place(event)[0] }; });
    this.canvas.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      if (this.drag && event.buttons) {
        if (Math.abs(x - this.drag.from) > 6) this.canvas.setPointerCapture(event.pointerId);
        this.drag.to = Math.min(Math.max(x, this.area.left), this.area.right);
        this.drawCursor();
        return;
      }
      const found = this.nearest(x, y);
      if (found && found.far < NEAR) this.read(found.each, found.i);
    });
    this.canvas.addEventListener("pointerup", (event) => {
      const drag = this.drag;
      this.drag = null;
      if (drag && drag.to !== undefined && Math.abs(drag.to - drag.from) > 6) {
        this.setView([inverse(Math.max(this.area.left, Math.min(drag.from, drag.to))), inverse(Math.max(drag.from, drag.to))]);
        return;
      }
      const found = this.nearest(...place(event));
      if (found && found.far < 2 * NEAR) this.read(found.each, found.i);
    });
    this.canvas.addEventListener("pointercancel", () => { this.drag = null; this.drawCursor(); });
  }
}

for (const box of document.querySelectorAll("figure.plot")) {
  const part = data[box.dataset.part];
  const spec = part.figures[box.dataset.figure];
  const link = spec.link ? `${box.dataset.part} ${spec.link}` : "";
  plots.push(new LivePlot(box, spec, part.packets, link));
}
const drawAll = (width) => plots.forEach((plot) => plot.draw(width));
drawAll();
let width = document.documentElement.clientWidth;
addEventListener("resize", () => {
  if (width !== document.documentElement.clientWidth) drawAll();
  width = document.documentElement.clientWidth;
});
addEventListener("beforeprint", () => drawAll(680));
addEventListener("afterprint", () => drawAll());
document.documentElement.dataset.drawn = String(plots.length);

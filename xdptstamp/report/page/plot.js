// SPDX-License-Identifier: GPL-2.0-only
// One plot, drawn from the data in the page.
const MAX_DETAILS = 1500; // single packets drawn at a time
const CLOSE = 0.1; // of the whole run

class Plot {
  constructor(box, spec, packets, link) {
    Object.assign(this, { box, spec, packets, link, cursor: null, hidden: new Set(), drag: null });
    this.canvas = box.querySelector(".canvas");
    this.reading = box.querySelector(".reading");
    this.series = spec.series.map((each) => this.prepared(each)).filter((each) => each.size);
    const xs = this.series.filter((s) => s.form !== "details").flatMap((s) => (s.x2 ? [...s.x, ...s.x2] : s.x));
    let [low, high] = xs.reduce(([a, b], x) => [Math.min(a, x), Math.max(b, x)], [Infinity, -Infinity]);
    if (spec.x.categories.length) [low, high] = [-0.5, spec.x.categories.length - 0.5];
    if (!(high > low)) [low, high] = spec.x.is_log ? [low - 0.1, low + 0.1] : [low - Math.max(1, Math.abs(low) / 100), low + Math.max(1, Math.abs(low) / 100)];
    const pad = spec.x.categories.length ? 0 : (high - low) * 0.02;
    this.full = [low - pad, high + pad];
    this.view = [...this.full];
  }

  prepared(each) {
    const { x: ax, y: ay } = this.spec;
    let { x = [], y = [] } = each;
    let packets = each.packets;
    if (each.form === "details") {
      const values = this.packets.values[each.name] || [];
      packets = [...values.keys()].filter((i) => values[i] !== null);
      x = packets.map((i) => this.packets.time[i]);
      y = packets.map((i) => values[i]);
    }
    const scaled = (list, axis) => list && list.map((v) => (v === null ? null : on(axis, v)));
    return {
      ...each, packets, raw: { x, y, ...each, packets },
      x: scaled(x, ax), x2: scaled(each.x2, ax), y: scaled(y, ay),
      low: scaled(each.low, ay), high: scaled(each.high, ay), size: x.length,
    };
  }

  // The series that are to be seen; single packets only from close by.
  shown() {
    const [low, high] = this.view;
    const isNear = high - low < CLOSE * (this.full[1] - this.full[0]);
    return this.series.filter((each) => {
      if (this.hidden.has(each.color)) return false;
      if (each.form !== "details") return true;
      // Where they are not all, they would look like all from afar.
      return (isNear || this.packets.is_all) && each.x.reduce((n, x) => n + (x >= low && x <= high), 0) <= MAX_DETAILS;
    });
  }

  draw(forced = 0) {
    const width = forced || Math.max(this.canvas.clientWidth, 200);
    const height = forced ? 220 : Math.round(Math.min(360, Math.max(220, width * 0.5)));
    const { x: ax, y: ay } = this.spec;
    const shown = this.shown();
    const [x0, x1] = this.view;
    let [y0, y1] = this.heights(shown);
    const yTicks = ticksOf(ay, y0, y1, height / 45);
    const left = 14 + 7 * Math.max(3, ...yTicks.map(([, text]) => text.length));
    const area = { left, right: width - 12, top: 8, bottom: height - 42 };
    const px = (x) => area.left + ((x - x0) / (x1 - x0)) * (area.right - area.left);
    const py = (y) => area.bottom - ((y - y0) / (y1 - y0)) * (area.bottom - area.top);
    Object.assign(this, { area, px, py });

    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const clip = "clip" + plots.indexOf(this);
    make("rect", { x: area.left, y: area.top - 4, width: area.right - area.left, height: area.bottom - area.top + 8 },
      make("clipPath", { id: clip }, svg));
    for (const [at, text] of yTicks) {
      const y = py(at).toFixed(1);
      make("path", { class: "grid", d: `M${area.left} ${y}H${area.right}` }, svg);
      make("text", { x: area.left - 5, y: +y + 4, class: "end" }, svg, text);
    }
    this.xTicks(svg, ax, width);
    make("path", { class: "frame", d: `M${area.left} ${area.top}V${area.bottom}H${area.right}` }, svg);
    make("text", { x: (area.left + area.right) / 2, y: height - 6, class: "middle title" }, svg, ax.title);
    const group = make("g", { "clip-path": `url(#${clip})` }, svg);
    const isClose = shown.some((each) => each.form === "details");
    for (const each of shown) this.marks(make("g", { class: "s" + (each.color % 8) + (isClose ? " close" : "") }, group), each);
    this.over = make("g", {}, svg);
    this.canvas.replaceChildren(svg);
    this.drawCursor();
  }

  xTicks(svg, ax, width) {
    const { area, px } = this;
    const count = Math.max(2, (area.right - area.left) / 95);
    let free = -Infinity;
    for (const [at, text] of ticksOf(ax, ...this.view, count)) {
      const x = px(at);
      const half = text.length * 3.6;
      make("path", { class: "grid", d: `M${x.toFixed(1)} ${area.top}V${area.bottom}` }, svg);
      const place = Math.min(x, width - half - 2);
      if (place - half < free + 4) continue; // no room beside the label before
      free = place + half;
      make("text", { x: place.toFixed(1), y: area.bottom + 16, class: "middle" }, svg, text);
    }
  }

  // The least and the greatest y among what is in view.
  heights(shown) {
    const [x0, x1] = this.view;
    let [low, high] = [Infinity, -Infinity];
    const take = (value) => {
      if (value === null || value === undefined) return;
      low = Math.min(low, value);
      high = Math.max(high, value);
    };
    for (const each of shown) {
      for (let i = 0; i < each.size; i++) {
        const isStep = each.form === "steps";
        const end = each.x2 ? each.x2[i] : each.x[i];
        if (end < x0 || (each.x[i] > x1 && !(isStep && (!i || each.x[i - 1] <= x1)))) continue;
        if (each.y.length) take(each.y[i]);
        if (each.low) take(each.low[i]);
        if (each.high) take(each.high[i]);
        if (isStep && i + 1 < each.size) take(each.y[i + 1]);
      }
    }
    if (low > high) [low, high] = [0, 1];
    if (low === high) [low, high] = [low - (Math.abs(low) * 0.05 || 0.5), high + (Math.abs(high) * 0.05 || 0.5)];
    const pad = (high - low) * 0.05;
    return [low - pad, high + pad];
  }

  marks(group, each) {
    const { px, py } = this;
    const [x0, x1] = this.view;
    const at = (x, y) => `${px(x).toFixed(1)} ${py(y).toFixed(1)}`;
    const isIn = (i) => (each.x2 ? each.x2[i] : each.x[i]) >= x0 && each.x[i] <= x1;
    let path = "", band = "", dots = "";
    for (let i = 0; i < each.size; i++) {
      if (each.form === "steps") {
        path += (i ? "V" : `M${(Math.min(px(x0), px(each.x[0]))).toFixed(1)} `) + py(each.y[i]).toFixed(1) + "H" + px(each.x[i]).toFixed(1);
        if (i === each.size - 1 && isIn(i)) dots = `M${at(each.x[i], each.y[i])}h0`;
      } else if (each.form === "bars") {
        if (!isIn(i)) continue;
        const [a, b] = [px(each.x[i]), Math.max(px(each.x2[i]), px(each.x[i]) + 1)];
        const [c, d] = [py(each.high[i]), Math.max(py(each.low[i]), py(each.high[i]) + 1)];
        band += `M${a.toFixed(1)} ${c.toFixed(1)}H${b.toFixed(1)}V${d.toFixed(1)}H${a.toFixed(1)}Z`;
      } else if (each.form === "line") {
        if (each.y[i] === null) continue;
        path += (i && each.y[i - 1] !== null ? "L" : "M") + at(each.x[i], each.y[i]);
        if (isIn(i)) dots += `M${at(each.x[i], each.y[i])}h0`;
        const j = i + 1;
        if (j < each.size && each.y[j] !== null) {
          band += `M${at(each.x[i], each.low[i])}L${at(each.x[j], each.low[j])}L${at(each.x[j], each.high[j])}L${at(each.x[i], each.high[i])}Z`;
        }
      } else if (isIn(i)) {
        dots += `M${at(each.x[i], each.y[i])}h0`;
        if (each.form === "whiskers" && each.low[i] !== null && each.high[i] !== null) {
          path += `M${at(each.x[i], each.low[i])}L${at(each.x[i], each.high[i])}m-4 0h8M${at(each.x[i], each.low[i])}m-4 0h8`;
        }
      }
    }
    if (band) make("path", { class: each.form === "bars" ? "bars" : "band", d: band }, group);
    if (path) make("path", { class: each.form === "whiskers" ? "whisker" : "line", d: path }, group);
    if (dots) make("path", { class: each.form === "details" || each.form === "line" ? "dots small" : "dots", d: dots }, group);
  }

  middle(each, i) {
    const x = each.x2 ? (each.x[i] + each.x2[i]) / 2 : each.x[i];
    return [x, each.y.length ? each.y[i] : each.high[i]];
  }

  drawCursor() {
    this.over.replaceChildren();
    if (this.drag && this.drag.to !== undefined) {
      const [a, b] = [this.drag.from, this.drag.to].sort((m, n) => m - n);
      make("rect", { class: "selection", x: a, y: this.area.top, width: b - a, height: this.area.bottom - this.area.top }, this.over);
    }
    if (!this.cursor) return;
    const [x, y] = this.middle(this.cursor.each, this.cursor.i);
    if (x < this.view[0] || x > this.view[1]) return;
    const [cx, cy] = [this.px(x).toFixed(1), this.py(y).toFixed(1)];
    make("path", { class: "cursor", d: `M${cx} ${this.area.top}V${this.area.bottom}` }, this.over);
    make("circle", { class: "cursor", cx, cy, r: 6 }, this.over);
  }

}
